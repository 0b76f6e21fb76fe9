"""What lies on the lens taken off: drops are found, seen through or filled from around.

Apart from the other experts, which look 30 pixels far: what a drop hides is told by what lies
around it, and where one is by the grain that is missing. Colors behind it are smooth, so that maps
of a quarter of the resolution say all that can be known.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.correction.experts import Experts
from autodir.correction.lighting import STRIP, rows_of
from autodir.imaging.grain import CELL, GrainTrunk, normalized_convolution
from autodir.imaging.neighborhoods import shrunk

CLEARED = ("raindrop",)
"""The degradations that have one by default: those that lie before the scene in places."""
SEEN = 768
"""Longer side of the copy on which a large photo is looked at, where drops have the size that was
learnt."""
STRONGEST = 5.0
"""Details behind a drop are raised by so many times themselves at most."""

_COARSE = 4


class Clearer(GrainTrunk):
    """A U-Net on features of grain: where something lies, and what the scene behind it is.

    With the means m of cells of four pixels, cover c, gain g and color d, (1, 1 and 3 channels),
    the result is I + c · (g · (I - m) + d): g of -1 fills, a larger one raises what shines through,
    and d brings the color of the scene. That is affine in I, so the maps may be enlarged. A fresh
    one changes nothing.

    Args:
        width: channels at half the resolution.
        inner: at a quarter.
        wide: at an eighth and a sixteenth.
        dilations: one residual convolution for each, at a quarter.
    """

    def __init__(
        self, width: int, inner: int, wide: tuple[int, int], dilations: Sequence[int]
    ) -> None:
        super().__init__(width=width, inner=inner, dilations=dilations)
        eighth, sixteenth = wide
        self.color = nn.Conv2d(3, inner, 1)
        self.down = nn.ModuleList([_halved(inner, eighth), _halved(eighth, sixteenth)])
        self.deepest = normalized_convolution(sixteenth, sixteenth, dilation=2)
        self.up = nn.ModuleList([nn.Conv2d(sixteenth, eighth, 1), nn.Conv2d(eighth, inner, 1)])
        self.merged = nn.ModuleList([
            normalized_convolution(eighth, eighth), normalized_convolution(inner, inner),
        ])  # fmt: skip
        self.out = nn.Conv2d(inner, 5, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, photo: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What lies before photos (B, 3, H, W) in [0, 1].

        Returns:
            The cover (B, 1, h, w), in [0, 1], and the ``slope`` (B, 1, h, w) and ``offset``
            (B, 3, h, w) of what is to be added, slope · I + offset, float32. h and w are a quarter
            of H and W, filled up to multiples of 4.
        """
        cover, gain, color, mean = self.maps(photo)
        slope = cover * gain
        return cover, slope, cover * color - slope * mean

    def maps(self, photo: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The maps c, g, d and m themselves; c · d is what is added to the mean of a cell."""
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
        for rise, merge in zip(self.up, self.merged, strict=True):
            finer = levels.pop()
            coarser = F.interpolate(rise(x), finer.shape[-2:], mode="bilinear", align_corners=False)
            x = merge(finer + coarser)
        cover, gain, color = self.out(x).float().split((1, 1, 3), dim=1)
        return cover.sigmoid(), gain.clamp(-1, STRONGEST), color, mean


def _halved(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        normalized_convolution(into, out, stride=2), normalized_convolution(out, out)
    )


def enlarged(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps of cells (B, C, h, w) as those of the pixels of a photo, (B, C, height, width)."""
    whole = F.interpolate(maps, scale_factor=CELL, mode="bilinear", align_corners=False)
    return whole[..., :height, :width]


class Clearing(Experts):
    """The experts of what lies on the lens, and the gate that says how much of each is wanted.

    Args:
        embed_dim: width of the instruction vector.
        experts: the degradations that have one.
        width, inner, wide, dilations: of each, see `Clearer`.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        experts: Sequence[str] = CLEARED,
        width: int = 32,
        inner: int = 64,
        wide: Sequence[int] = (72, 96),
        dilations: Sequence[int] = (1, 2, 4, 8, 1, 2, 4, 1),
    ) -> None:
        shape = {
            "width": width, "inner": inner, "wide": list(wide), "dilations": list(dilations),
        }  # fmt: skip
        super().__init__(embed_dim, experts, shape)

    def fresh(self, key: str) -> Clearer:
        """An expert of fresh weights, which changes nothing."""
        config = self.config
        eighth, sixteenth = config["wide"]
        return Clearer(config["width"], config["inner"], (eighth, sixteenth), config["dilations"])

    @torch.inference_mode()
    def cleared(self, photo: Tensor, instruction: Tensor, weight: float = 1.0) -> Tensor:
        """Take off what lies before one photo.

        Args:
            photo: (1, 3, H, W) in [0, 1].
            instruction: pooled text embedding (1, embed_dim).
            weight: of what is added.

        Returns:
            (1, 3, H, W) in [0, 1], float32; ``photo`` itself where nothing is asked for.

        Raises:
            ContractError: the instruction is of another width.
        """
        asked = self.asked_of(Clearer, instruction)
        if not asked:
            return photo
        small = shrunk(photo, SEEN).float()
        maps = torch.zeros(1, 4, *small.shape[-2:], device=small.device)
        for expert, share in asked:
            added = torch.cat(expert(small)[1:], dim=1)
            maps += weight * share[:, None, None, None] * enlarged(added, *small.shape[-2:])
        height, width = photo.shape[-2:]
        result = torch.empty(photo.shape, device=photo.device)
        step = max(1, STRIP // width)
        for top in range(0, height, step):
            rows = photo[..., top : top + step, :].float()
            slope, offset = rows_of(maps, top, rows.shape[-2], height, width).split((1, 3), dim=1)
            result[..., top : top + step, :] = (rows + slope * rows + offset).clamp_(0, 1)
        return result
