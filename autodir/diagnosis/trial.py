"""A suspicion is put to the test: is what its repair would take away what it should take away?

Apart from the head, which looks at the photo alone: what the correction takes out of a photo says
more of a faint shower, or of a few drops on the lens, than the photo itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

DOUBT = 0.004
"""Presence below which a photo is not suspected, so that most photos cost nothing."""
Evidence = Callable[[Tensor], Tensor | None]
"""A photo (1, 3, H, W) in [0, 1] → figures (F,) of what a repair does to it, or None."""

TRUST, TYPICAL = 0.5, 0.03
"""Share of the log-odds of its presence that a suspicion brings to its trial, and the presence that
brings nothing.

The trial has seen what the repair takes away and not the photo. Of 961 held-out photos with a
presence of drops in doubt, 244 of them with drops, it finds 114 by itself and 18 that have none;
with this 118 and 12; of 384 with one of rain 76 of 90 showers either way, and 26 and 21 others.
"""
_CERTAIN = 16.0
"""Logit of a suspicion that has proved right, at most."""
_FAR = 5.0
"""Standard deviations at which a figure is clipped: unheard-of photos must not run away."""


class Trial(nn.Module):
    """What the measures of a tried repair say of a suspicion: their networks' mean.

    Args:
        figures: how many are read.
        hidden: width of the one hidden layer of each network.
        members: how many networks.
        dropout: share of the hidden figures left out in training.
    """

    def __init__(
        self, figures: int, *, hidden: int = 32, members: int = 4, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "figures": figures, "hidden": hidden, "members": members, "dropout": dropout,
        }  # fmt: skip
        # Parameters, though nothing learns them: a part moves to a device when its own are used.
        self.center = nn.Parameter(torch.zeros(figures), requires_grad=False)
        self.spread = nn.Parameter(torch.ones(figures), requires_grad=False)
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Linear(figures, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, 1)
            )
            for _ in range(members)
        )

    def standardize(self, figures: Tensor) -> None:
        """Take center and spread from the figures (N, F) of photos."""
        self.center.copy_(figures.mean(0))
        self.spread.copy_(figures.std(0).clamp_min(1e-3))

    def standard(self, figures: Tensor) -> Tensor:
        """Figures (B, F) as the networks read them."""
        return ((figures.to(self.center) - self.center) / self.spread).clamp(-_FAR, _FAR)

    def forward(self, figures: Tensor) -> Tensor:
        """Figures (B, F) → the logit (B,) that the suspicion is right."""
        seen = self.standard(figures)
        return torch.stack([member(seen)[:, 0] for member in self.members]).mean(0)


class Suspicion:
    """Tries a repair where a degradation is suspected and not found.

    Args:
        key: the degradation.
        tried: says what the evidence means.
        evidence: figures (F,) of a photo (1, 3, H, W), or None where they say nothing of it.
    """

    def __init__(self, key: str, tried: Trial, evidence: Evidence) -> None:
        self.key, self.trial, self.evidence = key, tried, evidence

    def presence(self, pixels: Tensor, presence: float, threshold: float) -> float:
        """The presence of the degradation in a photo (1, 3, H, W): as it is, or higher.

        Args:
            pixels: in [0, 1], sRGB-encoded.
            presence: as the quality model sees it.
            threshold: the presence from which on it counts as found, and nothing is tried.
        """
        figures = self.evidence(pixels) if DOUBT <= presence < threshold else None
        if figures is None:
            return presence
        logit = float(self.trial(figures[None].to(pixels.device))[0])
        logit += TRUST * (_log_odds(presence) - _log_odds(TYPICAL))
        return max(presence, 1 / (1 + math.exp(-max(-_CERTAIN, min(_CERTAIN, logit)))))


def _log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))
