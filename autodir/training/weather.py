"""Weak noise and good files: what nearly every photo has and nobody asks to be repaired.

Apart from the batches, because who sharpens has to know it: a filter raises noise as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodir.imaging.color import luma
from autodir.synthesis.codec import jpeg

NOISY, NOISE = 0.5, 3 / 255
"""Share of the photos with weak noise, and the largest deviation of it."""
FILED, QUALITY = 0.35, (70, 98)
"""Share of the photos that went through a JPEG file, and its quality."""

GRAY = 0.12
"""Share of the photos without color."""


def grayed(photos: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Photos (B, 3, H, W) and what they should be, some of both without color."""
    gray = (torch.rand(len(photos), generator=generator) < GRAY).to(photos.device)
    rows = gray.view(-1, 1, 1, 1)
    return torch.where(rows, luma(photos), photos), torch.where(rows, luma(targets), targets)


def weathered(photos: Tensor, generator: torch.Generator) -> Tensor:
    """Photos (B, 3, H, W) with the little noise and the files that most photos have."""
    dice = torch.rand(3, len(photos), generator=generator)
    deviation = torch.where(dice[0] < NOISY, NOISE * dice[1], torch.zeros(1))
    grain = torch.randn(photos.shape, generator=generator) * deviation.view(-1, 1, 1, 1)
    seen = (photos + grain.to(photos)).clamp(0, 1)
    for index in (dice[2] < FILED).nonzero().flatten().tolist():
        quality = int(torch.randint(*QUALITY, (), generator=generator))
        seen[index] = jpeg(seen[index], quality)
    return seen
