"""What a repair finds on the lens: spots that end and hide the scene, or a haze of doubts.

Apart from the trial, which asks the same of any evidence: where the head has seen drops in a part
of a photo alone, or none that are like those it knows, the maps by which they would be taken off
say where each one lies.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.diagnosis.appearance import quantiles
from autodir.errors import ContractError

FIGURES = 17
"""Length of the vector that `measure` returns."""

_SHARES = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
_HIDDEN = 0.5
"""Cover from which on a cell counts as hidden."""
_SPOTS = (9, 5)
"""Sides in cells of the squares that a whole drop may fill."""
_FAINT = 5e-4


def measure(cover: Tensor, change: Tensor) -> Tensor:
    """How much of a photo is hidden, in what shapes, and how much it would change.

    Args:
        cover: (1, 1, h, w) in [0, 1], how much of each cell something hides.
        change: (1, 3, h, w), what would be added to each cell.

    Returns:
        float32 (`FIGURES`,), finite, on the CPU: logarithms of quantiles of the cover, of its mean
        and of the hidden share; edges for each covered cell; logarithms of the change where it is
        largest, in the mean, and under the cover; the mean cover of the fullest squares; that of
        the hidden cells.

    Raises:
        ContractError: the maps are of other shapes.
    """
    if cover.dim() != 4 or cover.shape[:2] != (1, 1) or change.shape[2:] != cover.shape[2:]:
        raise ContractError(
            f"a cover is (1, 1, h, w) and its change (1, 3, h, w), "
            f"got {tuple(cover.shape)} and {tuple(change.shape)}"
        )
    cover, change = cover.float().cpu(), change.float().abs().mean(1, keepdim=True).cpu()
    cells, amounts = cover.flatten(), change.flatten()
    hidden = cells > _HIDDEN
    edges = cover.diff(dim=2).abs().sum() + cover.diff(dim=3).abs().sum()
    spots = [
        F.avg_pool2d(cover, min(side, *cover.shape[2:]), max(1, side // 2)).amax()
        for side in _SPOTS
    ]
    under = (cells * amounts).sum() / (cells.sum() + _FAINT)
    amount = [cells.mean(), hidden.float().mean()]
    changed = [quantiles(amounts, (0.99,))[0], amounts.mean(), under]
    figures = torch.cat([
        (quantiles(cells, _SHARES) + _FAINT).log(), (torch.stack(amount) + _FAINT).log(),
        (edges / (cells.sum() + 1))[None], (torch.stack(changed) + _FAINT).log(),
        torch.stack(spots), ((cells * hidden).sum() / (hidden.sum() + 1))[None],
    ])  # fmt: skip
    return torch.nan_to_num(figures)
