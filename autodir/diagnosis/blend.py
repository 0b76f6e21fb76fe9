"""Classical measures of a photo beside what the image tower saw.

Apart from the head, which works without them: noise, block grids, dullness and darkness can be
measured exactly, and a small tower trained for minutes only guesses at them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FAR = 5.0
"""Standard deviations at which a measure is clipped: unheard-of photos must not run away."""
_DROPOUT = 0.3


class Blend(nn.Module):
    """h + f(h, m): fused features, corrected by the standardized measures; at first the identity.

    Args:
        hidden: width of the fused features.
        measures: number F of `autodir.diagnosis.appearance.measure`.
        width: of the two hidden layers.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, hidden: int, measures: int, width: int = 192) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(hidden + measures))
        self.register_buffer("spread", torch.ones(hidden + measures))
        last = nn.Linear(width, hidden)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(
            nn.Linear(hidden + measures, width), nn.GELU(), nn.Dropout(_DROPOUT),
            nn.Linear(width, width), nn.GELU(), nn.Dropout(_DROPOUT), last,
        )  # fmt: skip

    def standardize(self, hidden: Tensor, measures: Tensor) -> None:
        """Take mean and deviation from samples: (N, H) fused features and (N, F) measures."""
        together = torch.cat([hidden, measures], dim=1)
        self.center.copy_(together.mean(0))
        self.spread.copy_(together.std(0).clamp_min(1e-3))

    def forward(self, hidden: Tensor, measures: Tensor) -> Tensor:
        """(B, H) and (B, F) → (B, H)."""
        together = torch.cat([hidden, measures.to(hidden)], dim=1)
        scaled = ((together - self.center) / self.spread).clamp(-_FAR, _FAR)
        blended: Tensor = hidden + self.net(scaled)
        return blended
