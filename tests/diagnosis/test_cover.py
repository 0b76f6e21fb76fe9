"""Spots that hide the scene are told from doubts that are everywhere."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from autodir.diagnosis.cover import FIGURES, measure
from autodir.errors import ContractError

HIDDEN, EDGES, SQUARES = 9, 10, slice(14, 16)


def spotted(count: int, side: int = 8) -> Tensor:
    cover = torch.full((1, 1, 40, 60), 0.02)
    for index in range(count):
        left = 2 + 12 * index
        cover[..., 10 : 10 + side, left : left + side] = 0.95
    return cover


def test_figures_are_finite_whatever_is_hidden() -> None:
    for cover in (torch.zeros(1, 1, 3, 5), torch.ones(1, 1, 40, 60), spotted(2)):
        figures = measure(cover, torch.zeros(1, 3, *cover.shape[2:]))
        assert figures.shape == (FIGURES,)
        assert bool(figures.isfinite().all())


def test_a_spot_is_told_from_a_doubt_of_the_same_mean() -> None:
    spot = spotted(1)
    doubt = torch.full_like(spot, float(spot.mean()))
    change = torch.zeros(1, 3, 40, 60)
    seen, vague = measure(spot, change), measure(doubt, change)
    assert float(seen[8]) == pytest.approx(float(vague[8]), abs=1e-4)
    assert bool((seen[SQUARES] > vague[SQUARES] + 0.5).all())
    assert float(seen[HIDDEN]) > float(vague[HIDDEN]) + 3


def test_more_spots_hide_more_and_grain_has_more_edges() -> None:
    change = torch.zeros(1, 3, 40, 60)
    one, four = measure(spotted(1), change), measure(spotted(4), change)
    assert float(four[HIDDEN] - one[HIDDEN]) == pytest.approx(math.log(4), abs=0.05)
    grain = (torch.rand(1, 1, 40, 60, generator=torch.Generator().manual_seed(0)) > 0.9).float()
    assert float(measure(grain, change)[EDGES]) > 3 * float(four[EDGES])


def test_what_changes_under_the_cover_counts() -> None:
    cover = spotted(2)
    under, beside = (0.3 * part.expand(-1, 3, -1, -1) for part in (cover, 1 - cover))
    assert float(measure(cover, under)[13]) > float(measure(cover, beside)[13]) + 0.5
    assert torch.equal(measure(cover, under), measure(cover, -under))


@pytest.mark.parametrize("wrong", [(1, 40, 60), (2, 1, 40, 60), (1, 1, 40, 61)])
def test_maps_of_other_shapes_are_refused(wrong: tuple[int, ...]) -> None:
    with pytest.raises(ContractError):
        measure(torch.zeros(wrong), torch.zeros(1, 3, 40, 60))
