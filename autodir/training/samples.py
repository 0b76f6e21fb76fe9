"""Sheets of samples, so that a person can see what a training run does.

Apart because every part shows its work the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.utils import make_grid, save_image


def save_sheet(rows: Sequence[Tensor], path: Path) -> None:
    """Write a PNG with a row of pictures for each tensor (B, 3, H, W) in [0, 1], first on top."""
    pictures = torch.cat([row.detach().float().cpu().clamp(0, 1) for row in rows])
    save_image(make_grid(pictures, nrow=len(rows[0]), padding=2, pad_value=1.0), path)
