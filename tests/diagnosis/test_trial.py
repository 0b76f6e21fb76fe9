"""A suspicion that is put to the test by a repair."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autodir.diagnosis.trial import DOUBT, TYPICAL, Suspicion, Trial

FIGURES = 9
PHOTO = torch.zeros(1, 3, 64, 80)


class Fixed(Trial):
    """Says the same of everything, and counts."""

    def __init__(self, logit: float) -> None:
        super().__init__(FIGURES)
        self.logit, self.asked = logit, 0

    def forward(self, figures: Tensor) -> Tensor:
        self.asked += 1
        assert figures.shape == (1, FIGURES)
        return torch.full((len(figures),), self.logit)


def seen(pixels: Tensor) -> Tensor:
    """Evidence that says nothing."""
    return torch.zeros(FIGURES)


@pytest.mark.parametrize("presence", [DOUBT / 2, 0.6, 0.9])
def test_what_is_certain_is_not_tried(presence: float) -> None:
    tried = Fixed(9.0)
    assert Suspicion("rain", tried, seen).presence(PHOTO, presence, 0.6) == presence
    assert tried.asked == 0


def test_a_trial_raises_the_presence_and_never_lowers_it() -> None:
    def presence(logit: float) -> float:
        return Suspicion("rain", Fixed(logit), seen).presence(PHOTO, TYPICAL, 0.6)

    assert presence(2.0) == pytest.approx(0.8808, abs=1e-4)
    assert presence(-9.0) == TYPICAL
    assert 0.999 < presence(1e9) < 1


def test_the_more_is_suspected_the_less_has_to_be_shown() -> None:
    suspicion = Suspicion("rain", Fixed(0.0), seen)
    raised = [suspicion.presence(PHOTO, presence, 0.6) for presence in (0.005, 0.02, 0.1, 0.4)]
    assert raised == sorted(raised)
    assert raised[0] < 0.35 < 0.6 < raised[-1]


def test_without_evidence_a_suspicion_stays_what_it_is() -> None:
    tried = Fixed(9.0)
    assert Suspicion("rain", tried, lambda pixels: None).presence(PHOTO, 0.1, 0.6) == 0.1
    assert tried.asked == 0


def test_networks_read_standardized_figures() -> None:
    figures = torch.randn(40, FIGURES, generator=torch.Generator().manual_seed(1)) * 3 + 2
    tried = Trial(FIGURES, hidden=4, members=2).eval()
    tried.standardize(figures)
    standard = tried.standard(figures)
    torch.testing.assert_close(standard.mean(0), torch.zeros(FIGURES), atol=0.05, rtol=0)
    assert float(tried.standard(figures * 1e6).abs().max()) <= 5
    with torch.no_grad():
        each = torch.stack([member(standard)[:, 0] for member in tried.members])
        torch.testing.assert_close(tried(figures), each.mean(0))
    assert tried.config == {"figures": FIGURES, "hidden": 4, "members": 2, "dropout": 0.3}
