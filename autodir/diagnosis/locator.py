"""Where in a photo each degradation is: a small network over every pixel, told pixel by pixel.

Apart from the image tower, which names a photo by one vector and is taught by one label: what is
scattered over a picture (drops, streaks) is found by looking everywhere at native resolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.diagnosis.appearance import native_windows
from autodir.imaging.grain import GrainTrunk

SEEN = 512
"""Longer side of the copy on which a large photo is looked at as a whole."""
STATISTICS = 3
"""Figures of each map: mean share, mean of its strongest fiftieth, how far the peak stands out."""

_STRONGEST = 50


class Locator(GrainTrunk):
    """Maps of the degradations from a dilated residual network on the photo and its high-pass.

    Args:
        degradations: number K of maps.
        width: channels at half the resolution.
        inner: channels at a quarter of it.
        dilations: one residual convolution for each.
    """

    def __init__(
        self,
        *,
        degradations: int,
        width: int = 32,
        inner: int = 64,
        dilations: Sequence[int] = (1, 2, 4, 8, 1, 2, 4, 1),
    ) -> None:
        super().__init__(width=width, inner=inner, dilations=dilations)
        self.config = {
            "degradations": degradations, "width": width, "inner": inner,
            "dilations": list(dilations),
        }  # fmt: skip
        self.out = nn.Conv2d(inner, degradations, 1)
        assert self.out.bias is not None
        nn.init.constant_(self.out.bias, -2.0)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] → logits (B, K, ⌈H/4⌉, ⌈W/4⌉)."""
        maps: Tensor = self.out(self.features(image))
        return maps

    @torch.no_grad()
    def evidence(self, pixels: Tensor) -> Tensor:
        """What the maps of one photo say, as a vector whose length depends on no photo.

        A large photo is looked at in native windows, where grain survives, and as a copy of at most
        `SEEN` pixels along its longer side, where drops have the size that was learnt; the
        larger figure counts.

        Args:
            pixels: (1, 3, H, W) in [0, 1], sRGB-encoded.

        Returns:
            (`STATISTICS` · K,), finite.
        """
        height, width = pixels.shape[-2:]
        if max(height, width) <= SEEN:
            return _statistics(self(pixels).float()).flatten()
        share = SEEN / max(height, width)
        size = (max(1, round(height * share)), max(1, round(width * share)))
        whole = F.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)
        near = _statistics(self(native_windows(pixels)).float()).mean(0)
        return torch.maximum(near, _statistics(self(whole).float())[0]).flatten()


def _statistics(maps: Tensor) -> Tensor:
    """Logits (B, K, h, w) → (B, K, `STATISTICS`)."""
    flat = maps.flatten(2)
    strongest = flat.topk(max(1, flat.shape[-1] // _STRONGEST), dim=-1).values
    peak = strongest.amax(-1) - strongest.mean(-1)
    return torch.stack([flat.sigmoid().mean(-1), strongest.mean(-1), peak], dim=-1)
