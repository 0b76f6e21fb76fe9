"""Measures of lens and air: one length, finite, wider with more blur, thicker with more veil."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.diagnosis.optics import measure
from autodir.errors import ContractError

LAGS = slice(0, 10)
"""The places of the autocorrelation along its widest axis."""


@pytest.fixture(scope="module")
def scene() -> Tensor:
    """(1, 3, 128, 128): leaves of all sizes, whose power falls with the square of frequency."""
    generator = torch.Generator().manual_seed(0)
    photo = torch.zeros(1, 3, 128, 128)
    for side in (4, 8, 16, 32, 64, 128):
        leaves = torch.rand(1, 3, side, side, generator=generator)
        photo += F.interpolate(leaves, (128, 128)) / 6
    return photo


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (33, 31), (128, 128), (40, 600)])
def test_every_size_gives_as_many_finite_measures(scene: Tensor, size: tuple[int, int]) -> None:
    measures = measure(torch.rand(1, 3, *size))
    assert measures.shape == measure(scene).shape
    assert bool(torch.isfinite(measures).all())


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_photo_without_any_structure_has_finite_measures(level: float) -> None:
    assert bool(torch.isfinite(measure(torch.full((1, 3, 64, 64), level))).all())


def test_a_blurred_point_is_like_itself_further_away(scene: Tensor) -> None:
    wider = [measure(F.avg_pool2d(scene, side, 1, side // 2))[LAGS].sum() for side in (1, 5, 11)]
    assert wider == sorted(wider)


def test_a_motion_is_seen_along_its_axis_and_not_across(scene: Tensor) -> None:
    moved = F.avg_pool2d(scene, (1, 13), 1, (0, 6), count_include_pad=False)
    along, across = measure(moved)[:10], measure(moved)[10:20]
    assert float(along[2:5].mean()) > float(across[2:5].mean()) + 0.2


def test_more_blur_takes_less_from_a_dull_photo(scene: Tensor) -> None:
    lost = [
        float(measure(F.avg_pool2d(scene, side, 1, side // 2))[30:38].mean()) for side in (1, 7)
    ]
    assert lost[0] > lost[1]


def test_a_veil_lifts_the_dark_channel(scene: Tensor) -> None:
    veiled = [measure(scene * t + 0.9 * (1 - t))[54:59].mean() for t in (1.0, 0.6, 0.3)]
    assert veiled == sorted(veiled)


def test_what_is_no_photo_is_a_contract_error() -> None:
    with pytest.raises(ContractError):
        measure(torch.zeros(3, 8, 8))
