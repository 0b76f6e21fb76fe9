"""What a repair against streaks took away is told from texture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autodir.diagnosis.residue import FIGURES, LARGEST, measure, middle, tried
from autodir.errors import ContractError
from autodir.synthesis.rain import rain


def scene(seed: int = 0, side: int = 160) -> Tensor:
    coarse = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear") * 0.6


def shower(clean: Tensor, angle: float = 5.0) -> Tensor:
    fixed = {"style": "fine", "veil": 0.0, "angle": angle}
    return rain(clean, torch.tensor([0.7]), torch.Generator().manual_seed(3), fixed)[0]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((64, 64), (64, 64)), ((100, 203), (96, 192)), ((900, 3000), (LARGEST, LARGEST))],
)
def test_the_middle_is_tried(size: tuple[int, int], expected: tuple[int, int]) -> None:
    part = middle(torch.zeros(1, 3, *size))
    assert part is not None
    assert tuple(part.shape[-2:]) == expected


def test_the_middle_is_that_of_the_photo() -> None:
    across = torch.arange(2000.0).expand(1, 3, 100, -1)
    part = middle(across)
    assert part is not None
    assert abs(float(part.mean()) - 999.5) <= 1


def test_of_a_tiny_photo_nothing_is_tried() -> None:
    assert middle(torch.zeros(1, 3, 500, 40)) is None
    assert tried(torch.zeros(1, 3, 500, 40), torch.zeros_like) is None


def test_the_repair_is_asked_for_the_middle_alone() -> None:
    shapes: list[tuple[int, ...]] = []

    def attempt(part: Tensor) -> Tensor:
        shapes.append(tuple(part.shape))
        return part * 0.9

    assert tried(torch.zeros(1, 3, 700, 1000), attempt) is not None
    assert shapes == [(1, 3, LARGEST, LARGEST)]


def test_figures_are_finite_whatever_was_taken_away() -> None:
    for photo in (torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 80), scene()):
        for repaired in (photo, torch.zeros_like(photo), torch.ones_like(photo)):
            figures = measure(photo, repaired)
            assert figures.shape == (FIGURES,)
            assert bool(figures.isfinite().all())


def test_streaks_that_were_taken_away_are_told_from_edges() -> None:
    clean = scene()
    edges = (clean - clean.roll(4, 2)).clamp_min(0)
    streaked = measure(shower(clean), clean)
    other = measure((clean + edges).clamp(0, 1), clean)
    agreeing, brighter = 7 + 3, 7 + 4
    assert float(streaked[agreeing]) > 0.8 > float(other[agreeing]) + 0.1
    assert float(streaked[brighter]) > float(other[brighter])
    assert float(streaked[0]) > float(measure(clean, clean)[0])


def test_light_alone_is_not_what_was_taken_away() -> None:
    clean = scene()
    assert float(measure(clean, clean - 0.1)[0]) < float(measure(shower(clean), clean)[0]) - 2


@pytest.mark.parametrize("wrong", [torch.zeros(3, 64, 64), torch.zeros(2, 3, 64, 64).long()])
def test_what_is_no_photo_is_refused(wrong: Tensor) -> None:
    with pytest.raises(ContractError):
        measure(wrong, wrong)
