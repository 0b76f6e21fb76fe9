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
_COARSE = 4


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


class GrainUNet(GrainTrunk):
    """The same at a quarter of the resolution, an eighth and a sixteenth, put together again.

    Args:
        width: channels at half the resolution.
        inner: at a quarter.
        wide: at an eighth and a sixteenth.
        dilations: one residual convolution for each, at a quarter.
        whole: whether the mean of the deepest features is told everywhere, so that every place
            knows of the whole photo.
    """

    def __init__(
        self,
        width: int,
        inner: int,
        wide: tuple[int, int],
        dilations: Sequence[int],
        *,
        whole: bool = False,
    ) -> None:
        super().__init__(width=width, inner=inner, dilations=dilations)
        eighth, sixteenth = wide
        self.color = nn.Conv2d(3, inner, 1)
        self.down = nn.ModuleList([_halved(inner, eighth), _halved(eighth, sixteenth)])
        self.deepest = normalized_convolution(sixteenth, sixteenth, dilation=2)
        self.whole = nn.Conv2d(sixteenth, sixteenth, 1) if whole else None
        self.up = nn.ModuleList([nn.Conv2d(sixteenth, eighth, 1), nn.Conv2d(eighth, inner, 1)])
        self.merged = nn.ModuleList([
            normalized_convolution(eighth, eighth), normalized_convolution(inner, inner),
        ])  # fmt: skip

    def seen(self, photo: Tensor) -> tuple[Tensor, Tensor]:
        """What photos (B, 3, H, W) in [0, 1] show.

        Returns:
            Features (B, inner, h, w) and the mean colors of the cells (B, 3, h, w), float32. h and
            w are a quarter of H and W, filled up to multiples of 4.
        """
        height, width = photo.shape[-2:]
        multiple = CELL * _COARSE
        photo = F.pad(photo, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        mean = F.avg_pool2d(photo.float(), CELL)
        levels = [self.features(photo)]
        levels[0] = levels[0] + self.color((4 * mean - 2).to(levels[0].dtype))
        for halve in self.down:
            levels.append(halve(levels[-1]))
        x = levels.pop()
        x = x + self.deepest(x)
        if self.whole is not None:
            x = x + self.whole(x.mean((2, 3), keepdim=True))
        for rise, merge in zip(self.up, self.merged, strict=True):
            finer = levels.pop()
            coarser = F.interpolate(rise(x), finer.shape[-2:], mode="bilinear", align_corners=False)
            x = merge(finer + coarser)
        return x, mean


def _halved(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        normalized_convolution(into, out, stride=2), normalized_convolution(out, out)
    )


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
