"""FFT convolution against the direct sum, padding of any width, strips of a large photo."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from autodir.imaging import convolution
from autodir.imaging.convolution import convolve, convolve_in_strips, mirror


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("padding", "mode"), [("mirror", "reflect"), ("zero", "constant")])
def test_fft_convolution_equals_the_direct_sum(padding: str, mode: str) -> None:
    x = torch.rand(3, 2, 21, 34, generator=seeded())
    kernels = torch.rand(3, 7, 7, generator=seeded(1))
    found = convolve(x, kernels, padding)
    for index in range(3):
        padded = functional.pad(x[index : index + 1], (3, 3, 3, 3), mode=mode)
        weight = kernels[index].flip(0, 1)[None, None].expand(2, 1, 7, 7)
        expected = functional.conv2d(padded, weight, groups=2)[0]
        assert torch.allclose(found[index], expected, atol=1e-4)


def test_mirroring_equals_reflect_padding_where_that_is_defined() -> None:
    x = torch.rand(1, 2, 9, 6, generator=seeded())
    expected = functional.pad(x, (5, 2, 8, 0), mode="reflect")
    assert torch.equal(mirror(x, 8, 0, 5, 2), expected)


def test_mirroring_goes_on_where_reflect_padding_ends() -> None:
    x = torch.arange(3.0).view(1, 1, 1, 3)
    assert mirror(x, 2, 0, 5, 4)[0, 0, 0].tolist() == [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
    assert mirror(x, 2, 0, 5, 4).shape == (1, 1, 3, 12)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (50, 21)])
def test_strips_equal_the_whole(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    image, kernel = torch.rand(1, 3, *size, generator=seeded()), torch.rand(9, 9)
    monkeypatch.setattr(convolution, "STRIP", 7 * size[1])
    expected = convolve(image, kernel[None])
    torch.testing.assert_close(convolve_in_strips(image, kernel), expected, atol=1e-5, rtol=1e-5)
