"""A suspicion that is put to the test by a repair."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autodir.diagnosis.trial import DOUBT, FIGURES, LARGEST, Suspicion, Trial, measure, middle
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


class Fixed(Trial):
    """Says the same of everything, and counts."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit, self.asked = logit, 0

    def forward(self, figures: Tensor) -> Tensor:
        self.asked += 1
        assert figures.shape == (1, FIGURES)
        return torch.full((len(figures),), self.logit)


@pytest.mark.parametrize("presence", [DOUBT / 2, 0.6, 0.9])
def test_what_is_certain_is_not_tried(presence: float) -> None:
    tried = Fixed(9.0)
    assert Suspicion(tried, lambda part: part).presence(scene(), presence, 0.6) == presence
    assert tried.asked == 0


def test_a_trial_raises_the_presence_and_never_lowers_it() -> None:
    photo = scene()
    assert Suspicion(Fixed(2.0), lambda part: part).presence(photo, 0.1, 0.6) == pytest.approx(
        0.8808, abs=1e-4
    )
    assert Suspicion(Fixed(-9.0), lambda part: part).presence(photo, 0.1, 0.6) == 0.1
    assert 0.999 < Suspicion(Fixed(1e9), lambda part: part).presence(photo, 0.1, 0.6) < 1


def test_the_repair_is_asked_for_the_middle_alone() -> None:
    shapes: list[tuple[int, ...]] = []

    def attempt(part: Tensor) -> Tensor:
        shapes.append(tuple(part.shape))
        return part * 0.9

    Suspicion(Fixed(0.0), attempt).presence(torch.zeros(1, 3, 700, 1000), 0.1, 0.6)
    assert shapes == [(1, 3, LARGEST, LARGEST)]


def test_networks_read_standardized_figures() -> None:
    figures = torch.randn(40, FIGURES, generator=torch.Generator().manual_seed(1)) * 3 + 2
    tried = Trial(hidden=4, members=2).eval()
    tried.standardize(figures)
    standard = tried.standard(figures)
    torch.testing.assert_close(standard.mean(0), torch.zeros(FIGURES), atol=0.05, rtol=0)
    assert float(tried.standard(figures * 1e6).abs().max()) <= 5
    with torch.no_grad():
        each = torch.stack([member(standard)[:, 0] for member in tried.members])
        torch.testing.assert_close(tried(figures), each.mean(0))
    assert tried.config == {"hidden": 4, "members": 2, "dropout": 0.3}
