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
        measures: number F of measures that are read; more may be given.
        width: of the two hidden layers.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, hidden: int, measures: int, width: int = 192) -> None:
        super().__init__()
        self.hidden, self.measures = hidden, measures
        self.register_buffer("center", torch.zeros(hidden + measures))
        self.register_buffer("spread", torch.ones(hidden + measures))
        last = nn.Linear(width, hidden)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(
            nn.Linear(hidden + measures, width), nn.GELU(), nn.Dropout(_DROPOUT),
            nn.Linear(width, width), nn.GELU(), nn.Dropout(_DROPOUT), last,
        )  # fmt: skip

    def standardize(self, hidden: Tensor, measures: Tensor, known: int = 0) -> None:
        """Take mean and deviation from samples: (N, H) fused features and (N, F) measures.

        Args:
            hidden, measures: of the same photos.
            known: of the H + F columns, so many are left as they are.
        """
        new = torch.cat([hidden, measures], dim=1)[:, known:]
        if not new.shape[1]:
            return
        self.center[known:] = new.mean(0).to(self.center)
        self.spread[known:] = new.std(0).clamp_min(1e-3).to(self.spread)

    def widened(self, measures: int) -> Blend:
        """The same function, that reads further measures too; at first they change nothing."""
        weights = self.net.state_dict()
        known = weights["0.weight"].shape[1]
        wide = Blend(self.hidden, measures, weights["0.weight"].shape[0])
        wide.center[:known], wide.spread[:known] = self.center.cpu(), self.spread.cpu()
        first = torch.zeros_like(wide.net.state_dict()["0.weight"])
        first[:, :known] = weights["0.weight"]
        wide.net.load_state_dict(weights | {"0.weight": first})
        wide.to(weights["0.weight"])
        return wide

    def forward(self, hidden: Tensor, measures: Tensor) -> Tensor:
        """(B, H) and (B, F or more) → (B, H)."""
        together = torch.cat([hidden, measures[:, : self.measures].to(hidden)], dim=1)
        scaled = ((together - self.center) / self.spread).clamp(-_FAR, _FAR)
        blended: Tensor = hidden + self.net(scaled)
        return blended
