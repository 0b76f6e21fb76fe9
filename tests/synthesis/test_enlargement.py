"""Enlargements as Pillow, OpenCV and PyTorch make them."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

from autodir.imaging.resize import enlarge
from autodir.synthesis.enlargement import ENLARGEMENTS, enlarged, lanczos_weights

SMALL = torch.rand(1, 3, 12, 17, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2


@pytest.mark.parametrize("kind", sorted(ENLARGEMENTS))
def test_what_is_even_stays_even(kind: str) -> None:
    even = torch.full((2, 3, 9, 8), 0.3)
    torch.testing.assert_close(enlarged(even, (31, 30), kind), torch.full((2, 3, 31, 30), 0.3))
    torch.testing.assert_close(enlarged(even, (9, 8), kind), even)


@pytest.mark.parametrize(
    ("kind", "pillow"),
    [
        ("bicubic", PIL.Image.Resampling.BICUBIC),
        ("lanczos", PIL.Image.Resampling.LANCZOS),
        ("bilinear", PIL.Image.Resampling.BILINEAR),
    ],
)
def test_three_kernels_are_pillows(kind: str, pillow: PIL.Image.Resampling) -> None:
    plane = SMALL[0, 0].numpy().astype(np.float32)
    wanted = np.asarray(PIL.Image.fromarray(plane).resize((68, 48), pillow)).clip(0, 1)
    found = enlarged(SMALL, (48, 68), kind)[0, 0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_plain_cubic_is_the_products_own_and_the_sharp_one_overshoots_more() -> None:
    torch.testing.assert_close(enlarged(SMALL, (48, 68), "bicubic"), enlarge(SMALL, 4))
    step = torch.zeros(1, 1, 1, 16)
    step[..., 8:] = 0.5
    peaks = {kind: float(enlarged(step, (1, 64), kind).max()) for kind in ENLARGEMENTS}
    assert peaks["bilinear"] == pytest.approx(0.5)
    assert 0.5 < peaks["bicubic"] < peaks["sharp_bicubic"]


def test_weights_of_a_row_sum_to_one_at_its_ends_too() -> None:
    weights = lanczos_weights(5, 20)
    assert weights.shape == (20, 5)
    torch.testing.assert_close(weights.sum(1), torch.ones(20))
