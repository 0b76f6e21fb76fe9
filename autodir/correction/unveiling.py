"""A veil lifted: how dense it is at every place, and what color the air has.

Apart from the light of a whole photo, which is mixed of a few images: haze is denser where the
scene is farther away, and how far that is a network sees that has seen many scenes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autodir.correction.clearing import enlarged
from autodir.correction.experts import Experts
from autodir.correction.lighting import STRIP, rows_of
from autodir.imaging.grain import GrainUNet
from autodir.imaging.neighborhoods import guided_map, shrunk

UNVEILED = ("haze",)
"""The degradations that have one by default."""
SEEN = 320
"""Longer side of the copy on which a photo is looked at: most of a scene, as it was learnt."""
DENSEST = 2.5
"""Largest optical depth that is undone: 8 % of the light of the scene come through."""
RADIUS = 8
"""Of the guided filter in pixels of the copy, two cells."""

_CLEAREST = -0.5
_MOST = math.expm1(DENSEST)


class Unveiler(GrainUNet):
    """A U-Net on a photo that tells its haze: I = J t + A (1 - t) (Koschmieder).

    It says the optical depth τ = -ln t of each cell, which a guided filter fits to the edges of the
    photo, and the air A as the color where it looks for it, moved by what the whole photo tells.
    J = I + (exp τ - 1) (I - A). A fresh one changes nothing.

    Args:
        width, inner, wide, dilations: see `GrainUNet`.
    """

    def __init__(
        self, width: int, inner: int, wide: tuple[int, int], dilations: Sequence[int]
    ) -> None:
        super().__init__(width, inner, wide, dilations, whole=True)
        self.out = nn.Conv2d(inner, 2, 1)
        self.air = nn.Linear(inner, 3)
        for part in (self.out, self.air):
            for parameter in part.parameters():
                nn.init.zeros_(parameter)

    def forward(self, photo: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The haze of photos (B, 3, H, W) in [0, 1].

        Returns:
            ``slope`` and ``offset`` (B, 1, H, W): slope · gray + offset is exp τ - 1; and the air
            (B, 3, 1, 1) in [0, 1], all float32.
        """
        x, mean = self.seen(photo)
        depth, looked_for = self.out(x).float().chunk(2, dim=1)
        where = looked_for.flatten(2).softmax(2)
        found = (mean.flatten(2) * where).sum(2) + self.air(x.mean((2, 3))).float()
        dense = enlarged(depth.clamp(_CLEAREST, DENSEST), *photo.shape[-2:]).expm1()
        gray = photo.float().mean(1, keepdim=True)
        return *guided_map(gray, dense, RADIUS), found.clamp(0, 1)[..., None, None]


def lifted(photo: Tensor, slope: Tensor, offset: Tensor, air: Tensor) -> Tensor:
    """J = I + (exp τ - 1) (I - A) of photos (B, 3, H, W), not limited to [0, 1]."""
    dense = slope * photo.mean(1, keepdim=True) + offset
    return photo + dense.clamp(_CLEAREST, _MOST) * (photo - air)


class Unveiling(Experts):
    """The experts of veils, and the gate that says how much of each is wanted.

    Args:
        embed_dim: width of the instruction vector.
        experts: the degradations that have one.
        width, inner, wide, dilations: of each, see `Unveiler`.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        experts: Sequence[str] = UNVEILED,
        width: int = 32,
        inner: int = 64,
        wide: Sequence[int] = (72, 96),
        dilations: Sequence[int] = (1, 2, 4, 8, 1, 2, 4, 1),
    ) -> None:
        shape = {
            "width": width, "inner": inner, "wide": list(wide), "dilations": list(dilations),
        }  # fmt: skip
        super().__init__(embed_dim, experts, shape)

    def fresh(self, key: str) -> Unveiler:
        """An expert of fresh weights, which changes nothing."""
        config = self.config
        eighth, sixteenth = config["wide"]
        return Unveiler(config["width"], config["inner"], (eighth, sixteenth), config["dilations"])

    @torch.inference_mode()
    def unveiled(self, photo: Tensor, instruction: Tensor, weight: float = 1.0) -> Tensor:
        """Lift the veils of photos.

        Args:
            photo: (B, 3, H, W) in [0, 1].
            instruction: pooled text embeddings (B, embed_dim).
            weight: of what is added.

        Returns:
            (B, 3, H, W) in [0, 1], float32; ``photo`` itself where nothing is asked for.

        Raises:
            ContractError: the instruction is of another width.
        """
        asked = self.asked_of(Unveiler, instruction)
        if not asked:
            return photo
        small = shrunk(photo, SEEN).float()
        told = [(expert(small), weight * share[:, None, None, None]) for expert, share in asked]
        height, width = photo.shape[-2:]
        result = torch.empty(photo.shape, device=photo.device)
        step = max(1, STRIP // width)
        for top in range(0, height, step):
            rows = photo[..., top : top + step, :].float()
            into = result[..., top : top + step, :].copy_(rows)
            for (slope, offset, air), share in told:
                maps = torch.cat([slope, offset], dim=1)
                fine = rows_of(maps, top, rows.shape[-2], height, width)
                into.add_(share * (lifted(rows, fine[:, :1], fine[:, 1:], air) - rows))
            into.clamp_(0, 1)
        return result
