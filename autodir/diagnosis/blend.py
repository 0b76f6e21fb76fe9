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
    """h + mean of f_i(h, m): fused features, corrected by the standardized measures.

    At first it is the identity. Several networks that began differently err differently, and their
    mean less than any of them (deep ensembles, arXiv:1612.01474).

    Args:
        hidden: width of the fused features.
        measures: number F of measures that are read; more may be given.
        width: of the two hidden layers.
        members: number of networks.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, hidden: int, measures: int, width: int = 192, members: int = 1) -> None:
        super().__init__()
        self.hidden, self.measures, self.width = hidden, measures, width
        self.register_buffer("center", torch.zeros(hidden + measures))
        self.register_buffer("spread", torch.ones(hidden + measures))
        self.nets = nn.ModuleList(
            _network(hidden + measures, width, hidden) for _ in range(members)
        )

    def member(self, index: int) -> Blend:
        """One of the networks as a blend of its own, with the same weights: changes are shared."""
        alone = Blend(self.hidden, self.measures, self.width, members=0)
        alone.center, alone.spread = self.center, self.spread
        alone.nets.append(self.nets[index])
        return alone

    def enlarge(self, members: int) -> None:
        """Up to so many networks; a fresh one is the identity until it is trained."""
        for _ in range(members - len(self.nets)):
            fresh = _network(self.hidden + self.measures, self.width, self.hidden)
            self.nets.append(fresh.to(self.center))

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
        known = len(self.center)
        wide = Blend(self.hidden, measures, self.width, len(self.nets))
        wide.center[:known], wide.spread[:known] = self.center.cpu(), self.spread.cpu()
        for fresh, old in zip(wide.nets, self.nets, strict=True):
            weights = old.state_dict()
            first = torch.zeros_like(fresh.state_dict()["0.weight"])
            first[:, :known] = weights["0.weight"]
            fresh.load_state_dict(weights | {"0.weight": first})
        return wide.to(self.center)

    def forward(self, hidden: Tensor, measures: Tensor) -> Tensor:
        """(B, H) and (B, F or more) → (B, H)."""
        together = torch.cat([hidden, measures[:, : self.measures].to(hidden)], dim=1)
        scaled = ((together - self.center) / self.spread).clamp(-_FAR, _FAR)
        return hidden + torch.stack([net(scaled) for net in self.nets]).mean(0)


def _network(seen: int, width: int, hidden: int) -> nn.Sequential:
    last = nn.Linear(width, hidden)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Linear(seen, width), nn.GELU(), nn.Dropout(_DROPOUT),
        nn.Linear(width, width), nn.GELU(), nn.Dropout(_DROPOUT), last,
    )  # fmt: skip
