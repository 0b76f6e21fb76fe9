"""What a repair against streaks took away: lines that run the same way everywhere, or texture.

Apart from the trial, which asks the same of any evidence: a shower far away looks like texture,
mist or a bad file, and what tells it is what the correction takes out of the photo.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.diagnosis import streaks
from autodir.records import check_image

LARGEST = 416
"""Side in pixels of the middle of a photo that is tried: rain falls nearly everywhere, and larger
photos are none of those that the trial learns from."""
MULTIPLE = 16
"""The sides of it are multiples of so many pixels, which every correction takes."""
FIGURES = 7 + streaks.MEASURES
"""Length of the vector that `measure` returns."""

_NEAR, _WIDE = 15, 31
"""Radius in pixels of the neighborhoods whose mean is left out, and of those that are compared."""
_FAINT = 1e-4
_RAISED = 4.0
"""What was taken away is shown to the measures of streaks so many times stronger."""


def middle(pixels: Tensor) -> Tensor | None:
    """What is tried of a photo (1, 3, H, W): its middle, or None where it is too small."""
    height, width = (min(side, LARGEST) // MULTIPLE * MULTIPLE for side in pixels.shape[-2:])
    if min(height, width) < 4 * _NEAR:
        return None
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[..., top : top + height, left : left + width]


def tried(photo: Tensor, attempt: Callable[[Tensor], Tensor]) -> Tensor | None:
    """`measure` of a repair, tried on the `middle` of a photo; None where that is too small."""
    part = middle(photo)
    return None if part is None else measure(part, attempt(part))


def measure(photo: Tensor, repaired: Tensor) -> Tensor:
    """How a repair against streaks changed a photo.

    Args:
        photo: (1, 3, H, W) in [0, 1], sRGB-encoded, upright.
        repaired: the same without the streaks that were found in it.

    Returns:
        float32 (`FIGURES`,), finite, on the CPU: how much was taken away, how much brighter it was
        than what was added, its brightest fiftieth, its mean, how much it is of all detail, and how
        much there is in a typical and in a calm neighborhood; then `streaks.measure` of what was
        taken away.
    """
    check_image(photo, "photo")
    check_image(repaired, "repaired")
    photo, repaired = photo.float().cpu(), repaired.float().cpu()
    whole = (photo - repaired).mean(1, keepdim=True)
    taken, detail = _detail(whole), _detail(photo.mean(1, keepdim=True))
    bright, dark = taken.clamp_min(0), (-taken).clamp_min(0)
    around = F.avg_pool2d(taken.abs(), 2 * _WIDE + 1, 8, _WIDE, count_include_pad=False).flatten()
    amounts = torch.stack([
        _root(taken), _root(bright) / (_root(dark) + _FAINT), _upper(bright),
        _root(taken) / (_root(detail) + 10 * _FAINT), around.median(), around.quantile(0.1),
    ])  # fmt: skip
    shown = (0.5 + _RAISED * taken).clamp(0, 1).expand(-1, 3, -1, -1)
    return torch.nan_to_num(
        torch.cat([amounts.clamp_min(_FAINT).log(), whole.mean()[None], streaks.measure(shown)])
    )


def _detail(plane: Tensor) -> Tensor:
    return plane - F.avg_pool2d(plane, 2 * _NEAR + 1, 1, _NEAR, count_include_pad=False)


def _root(plane: Tensor) -> Tensor:
    return plane.square().mean().sqrt()


def _upper(plane: Tensor) -> Tensor:
    return plane.flatten().sort().values[-max(1, plane.numel() // 50)]
