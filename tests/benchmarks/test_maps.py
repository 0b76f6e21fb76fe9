"""Half-degraded photos: the mask is the half that changed, and overlaps are counted right."""

from __future__ import annotations

import pytest
import torch

from benchmarks.maps import half_degraded, overlap, report


@pytest.mark.parametrize("seed", range(4))
def test_one_half_changes_and_the_mask_says_which(seed: int) -> None:
    photo = torch.full((1, 3, 32, 48), 0.5)
    half, mask = half_degraded(photo, "noise", 0.7, seed)
    changed = (half != photo)[0].any(0)
    assert mask.float().mean() == 0.5
    assert not bool(changed[~mask].any())
    assert float(changed[mask].float().mean()) > 0.9


def test_the_four_halves_differ() -> None:
    photo = torch.full((1, 3, 32, 48), 0.5)
    masks = {
        tuple(half_degraded(photo, "noise", 0.7, seed)[1][[0, -1, 0], [0, -1, -1]].tolist())
        for seed in range(4)
    }
    assert len(masks) == 4


def test_the_overlap_is_intersection_over_union() -> None:
    a = torch.tensor([True, True, False, False])
    assert overlap(a, a) == 1.0
    assert overlap(a, ~a) == 0.0
    assert overlap(a, torch.tensor([True, False, True, False])) == pytest.approx(1 / 3)
    assert overlap(a & ~a, a & ~a) == 1.0


def test_the_report_has_a_row_for_each_degradation_and_one_for_all() -> None:
    result = report({"noise": [0.8, 0.6], "rain": [0.9, 0.9]}, {"model": "small"}, 0.7)
    assert [row[:3] for row in result["rows"]] == [
        ["noise", "2", "0.700"],
        ["rain", "2", "0.900"],
        ["all", "4", "0.800"],
    ]
