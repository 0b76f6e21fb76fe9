"""Filters: FFT convolution against the direct sum, padding of any width, Gaussian taps."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from autodir.synthesis.filters import convolve, gaussian, gaussian_taps, mirror


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


def test_gaussian_taps_sum_to_one_and_have_their_deviation() -> None:
    taps = gaussian_taps(torch.tensor([0.0, 1.5, 4.0]))
    offsets = torch.arange(taps.shape[1]) - taps.shape[1] // 2
    assert torch.allclose(taps.sum(1), torch.ones(3), atol=1e-6)
    deviation = (taps * offsets.square()).sum(1).sqrt()
    assert deviation.tolist() == pytest.approx([0, 1.5, 4.0], rel=0.03, abs=1e-6)


def test_gaussian_blurs_each_sample_by_its_own_sigma() -> None:
    x = torch.rand(2, 3, 32, 32, generator=seeded())
    result = gaussian(x, torch.tensor([0.0, 3.0]))
    assert torch.allclose(result[0], x[0], atol=1e-6)
    assert float(result[1].std()) < 0.3 * float(x[1].std())
