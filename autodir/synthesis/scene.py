"""Which part of a photo is near and which is far, as far as its edges tell.

Apart because rain and blur both depend on it: a shower hides what is far away, and a camera that
moves, or a thing that does, blurs one part more than the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodir.imaging.color import luma
from autodir.imaging.neighborhoods import guided_map
from autodir.synthesis.filters import smooth_field

_REACH, _SMOOTHING = 1 / 12, 3e-3
"""Radius, as a share of the shorter side, and least variance of the edges that near things have."""
_STEEP = 0.06


def distant_part(photo: Tensor, coarse: Tensor, near: float) -> Tensor:
    """A made-up division of a photo into near and far, along its own edges.

    Args:
        photo: (1, 3, H, W) in [0, 1].
        coarse: (1, 1, h, w) in [0, 1], how far away things are, roughly.
        near: share of the photo that is near, in [0, 1].

    Returns:
        (1, 1, H, W) in [0, 1], 1 where it is far.
    """
    height, width = photo.shape[-2:]
    guide = luma(photo)[:, :1]
    field = smooth_field(coarse.to(photo), height, width)
    radius = max(1, round(_REACH * min(height, width)))
    slope, offset = guided_map(guide, field, radius, _SMOOTHING)
    field = slope * guide + offset
    step = max(1, min(height, width) // 256)
    limit = field[..., ::step, ::step].flatten().quantile(near)
    return torch.sigmoid((field - limit) / _STEEP)
