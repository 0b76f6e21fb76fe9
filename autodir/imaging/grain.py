"""Features of a photo in which its grain counts: where grain is missing, something lies before it.

Apart because diagnosis and correction both look for drops and blur in this way, and neither knows
the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.imaging.color import luma

CELL = 4
"""Side in pixels of what one place of the features speaks of."""

_STEP = 2


class GrainTrunk(nn.Module):
    """A dilated residual network on the photo and its high-pass.

    Drops and blur are told by the grain that is missing in them. Eight-bit mantissas hide grain,
    so the high-pass is computed in float32 and enlarged before anything is rounded.

    Args:
        width: channels at half the resolution.
        inner: channels of the features, at a quarter of it.
        dilations: one residual convolution for each.
    """

    def __init__(self, *, width: int, inner: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            normalized_convolution(8 * _STEP**2, width), normalized_convolution(width, width),
            normalized_convolution(width, inner, stride=2),
        )  # fmt: skip
        self.body = nn.ModuleList(
            normalized_convolution(inner, inner, dilation=dilation) for dilation in dilations
        )

    def features(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] → (B, inner, ⌈H/4⌉, ⌈W/4⌉); any H, W ≥ 1."""
        height, width = image.shape[-2:]
        padded = F.pad(image, (0, -width % CELL, 0, -height % CELL), mode="replicate")
        with torch.autocast(image.device.type, enabled=False):
            seen = F.pixel_unshuffle(_channels(padded.float()), _STEP)
        x: Tensor = self.stem(seen.to(next(self.stem.parameters()).dtype))
        for block in self.body:
            x = x + block(x)
        return x


def normalized_convolution(
    into: int, out: int, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """A 3 × 3 convolution, batch normalization and a ReLU."""
    return nn.Sequential(
        nn.Conv2d(into, out, 3, stride, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(out), nn.ReLU(inplace=True),
    )  # fmt: skip


def _channels(image: Tensor) -> Tensor:
    """(B, 3, H, W) → (B, 8, H, W): the photo, its high-pass, its middle band, its grain."""
    smooth = _mean(image, 3)
    fine = image - smooth
    middle = luma(smooth) - _mean(luma(image), 9)
    grain = (_mean(fine.abs().mean(1, keepdim=True), 3) + 0.002).log() + 3
    return torch.cat([(image - 0.5) * 4, (fine * 20).clamp(-3, 3), middle * 10, grain], dim=1)


def _mean(image: Tensor, side: int) -> Tensor:
    """Moving average over ``side`` pixels."""
    reach = side // 2
    padded = F.pad(image, (reach,) * 4, mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, (side, 1), 1), (1, side), 1)  # one axis at a time
