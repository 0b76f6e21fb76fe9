"""The structural correction module: I_res = I_sd + w · R(I, I_sd) (AutoDIR, ECCV 2024).

Apart from the network, because here stand the weight, the padding and the tiles: what a caller
needs to know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.correction.clearing import Clearing
from autodir.correction.lighting import Lighting
from autodir.correction.nafnet import NAFNet
from autodir.correction.refinement import Refinement
from autodir.correction.sharpening import Sharpening
from autodir.errors import ContractError
from autodir.imaging.tiles import Core, Tile, assemble, cores
from autodir.records import TextEmbedding, check_image

HEADS = ("residual", "signed", "affine")
LOCAL_WINDOW = 192
"""Largest window in pixels of the statistics where a photo is corrected in tiles: the network sees
as much around each tile, a refinement only what it reaches."""


class StructureCorrector(nn.Module):
    """NAFNet on [degraded, restored], told by the mixed text embedding what to repair.

    Three heads share the network. The ``residual`` one predicts R itself; the ``signed`` one, the
    published one, does so on values in [-1, 1], where R is twice as large. The ``affine`` one
    predicts R = g · (I - I_sd) + a · I + d with maps g (1 channel), a and d (3 channels each),
    and starts at g = 1, a = d = 0, where the result is the degraded photo: an untrained network
    does no harm, haze and darkness are nearly affine in the photo, and a says so in one
    multiplication. A refinement, where there is one, adds its own residual to that of the network.
    A clearing, where there is one, takes off before what lies on the lens. A sharpening makes the
    photo sharper before, and shows the refinement what blind deconvolution makes of it; a lighting
    looks at the whole result. All these need the whole photo, and `correct` alone knows them.

    Args:
        network: keyword arguments of `NAFNet` but for the channels.
        head: "residual", "signed" (published) or "affine".
        tile: side of the tiles in pixels that a large photo is cut into.
        overlap: least number of pixels around a tile that are computed with it; never fewer than
            the window of the local statistics, nor than a refinement reaches.
        refinement: keyword arguments of `Refinement`; None for a correction without.
        lighting: keyword arguments of `Lighting`; None for a correction without.
        sharpening: keyword arguments of `Sharpening`; None for a correction without.
        clearing: keyword arguments of `Clearing`; None for a correction without.
    """

    def __init__(
        self,
        *,
        network: Mapping[str, Any],
        head: str = "residual",
        tile: int = 768,
        overlap: int = 64,
        refinement: Mapping[str, Any] | None = None,
        lighting: Mapping[str, Any] | None = None,
        sharpening: Mapping[str, Any] | None = None,
        clearing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise ContractError(
                f"the head of the correction is one of {', '.join(HEADS)}, got {head!r}"
            )
        self.head, self.tile, self.overlap = head, tile, overlap
        self.config: dict[str, Any] = {
            "network": dict(network), "head": head, "tile": tile, "overlap": overlap,
        }  # fmt: skip
        self.network = NAFNet(img_channel=6, out_channel=7 if head == "affine" else 3, **network)
        if head == "affine":
            for parameter in self.network.ending.parameters():
                nn.init.zeros_(parameter)
        self.refinement: Refinement | None = None
        if refinement is not None:
            self.add_refinement(refinement)
        self.lighting: Lighting | None = None
        if lighting is not None:
            self.add_lighting(lighting)
        self.sharpening: Sharpening | None = None
        if sharpening is not None:
            self.add_sharpening(sharpening)
        self.clearing: Clearing | None = None
        if clearing is not None:
            self.add_clearing(clearing)

    def add_refinement(self, config: Mapping[str, Any]) -> Refinement:
        """A refinement of fresh weights, which adds nothing until it is trained."""
        self.refinement = Refinement(**config).to(self.network.intro.weight)
        self.config["refinement"] = self.refinement.config
        return self.refinement

    def add_lighting(self, config: Mapping[str, Any]) -> Lighting:
        """A lighting of fresh weights, which changes nothing until it is trained."""
        self.lighting = Lighting(**config).to(self.network.intro.weight)
        self.config["lighting"] = self.lighting.config
        return self.lighting

    def add_sharpening(self, config: Mapping[str, Any]) -> Sharpening:
        """A sharpening of fresh weights, which changes nothing until it is trained."""
        self.sharpening = Sharpening(**config).to(self.network.intro.weight)
        self.config["sharpening"] = self.sharpening.config
        return self.sharpening

    def add_clearing(self, config: Mapping[str, Any]) -> Clearing:
        """A clearing of fresh weights, which changes nothing until it is trained."""
        self.clearing = Clearing(**config).to(self.network.intro.weight)
        self.config["clearing"] = self.clearing.config
        return self.clearing

    @contextmanager
    def unrefined(self) -> Iterator[None]:
        """Without all experts: the network alone computes, and alone has weights."""
        kept = self.refinement, self.lighting, self.sharpening, self.clearing
        self.refinement = self.lighting = self.sharpening = self.clearing = None
        try:
            yield
        finally:
            self.refinement, self.lighting, self.sharpening, self.clearing = kept

    @property
    def instructed(self) -> bool:
        """Whether the network reads the text embedding."""
        return self.network.embed_dim > 0

    @property
    def window(self) -> int:
        """Window in pixels of the statistics where a photo is corrected in tiles."""
        return min(self.network.train_size or LOCAL_WINDOW, LOCAL_WINDOW)

    def forward(self, degraded: Tensor, restored: Tensor, instruction: Tensor | None) -> Tensor:
        """The residual R (B, 3, H, W), that of the refinement included.

        Args:
            degraded: I, (B, 3, H, W) in [0, 1].
            restored: I_sd, the same shape.
            instruction: pooled text embedding (B, E), or None for a network that reads none.

        Raises:
            ContractError: there is a refinement and no instruction.
        """
        residual = self._by_network(degraded, restored, instruction)
        return self._refined(degraded, restored, residual, instruction)

    def _refined(
        self, seen: Tensor, restored: Tensor, residual: Tensor, instruction: Tensor | None
    ) -> Tensor:
        """The residual of the network and that of the refinement together."""
        if self.refinement is None:
            return residual
        if instruction is None:
            raise ContractError("the refinement needs an instruction")
        further: Tensor = self.refinement(seen, restored, restored + residual, instruction)
        return residual + further

    def _by_network(self, degraded: Tensor, restored: Tensor, instruction: Tensor | None) -> Tensor:
        pair = torch.cat([degraded, restored], dim=1)
        if self.head == "signed":
            pair = pair * 2 - 1
        told = instruction if self.instructed else None
        dtype = self.network.intro.weight.dtype
        told = None if told is None else told.to(dtype)
        raw: Tensor = self.network(pair.to(dtype), told).float()
        if self.head != "affine":
            return raw / 2 if self.head == "signed" else raw
        gate, gain, offset = raw.split((1, 3, 3), dim=1)
        residual: Tensor = (1 + gate) * (degraded - restored) + gain * degraded + offset
        return residual

    @torch.inference_mode()
    def correct(
        self,
        degraded: Tensor,
        restored: Tensor,
        text: TextEmbedding,
        weight: float = 1.0,
        clamp: bool = True,
    ) -> Tensor:
        """Correct one photo of any size, in tiles where it is large.

        Args:
            degraded: I, (1, 3, H, W) in [0, 1].
            restored: I_sd, the same shape.
            text: the mixed embedding that conditioned the diffusion.
            weight: w; 0 returns ``restored``.
            clamp: limit the result to [0, 1].

        Returns:
            I_res.

        Raises:
            ContractError: the shapes differ or are no images.
        """
        check_image(degraded, "degraded")
        check_image(restored, "restored")
        if degraded.shape != restored.shape:
            raise ContractError(
                f"shapes differ: {tuple(degraded.shape)} and {tuple(restored.shape)}"
            )
        if weight == 0:
            return restored.clamp(0, 1) if clamp else restored
        if self.clearing is not None:
            alone = restored is degraded
            degraded = self.clearing.cleared(degraded, text.pooled, weight)
            restored = degraded if alone else restored  # the photo stands in for a sample
        clear = degraded
        if self.sharpening is not None:
            degraded = self.sharpening.sharpened(degraded, text.pooled, weight)
            clear = self.sharpening.deconvolved(clear, degraded, text.pooled)

        reach = self.refinement.reach if self.refinement is not None else 0

        def repair(part: Core) -> Tensor:
            """What lies within ``reach`` of a part."""
            photo, sample = (_cut(image, part.outer) for image in (degraded, restored))
            residual = self._by_network(photo, sample, text.pooled)
            near = part.closer(reach).outer
            here = near.within(part.outer)
            photo, sample, residual = (here.crop(image) for image in (photo, sample, residual))
            seen = photo if clear is degraded else _cut(clear, near)
            result = sample + weight * self._refined(seen, sample, residual, text.pooled)
            return result.clamp_(0, 1) if clamp else result

        height, width = degraded.shape[-2:]
        align = self.network.multiple
        size = (height + -height % align, width + -width % align)
        window = self.window
        context = max(self.overlap, window, reach)
        if max(size) <= self.tile + 2 * context:  # no larger than what a tile is computed from
            result = repair(Core(Tile(0, 0, *size), Tile(0, 0, *size)))
        else:
            grid = self.network.grid(window)
            parts = cores(size, -(-self.tile // grid) * grid, context, grid)
            with self.network.local_statistics(window):
                closer = [part.closer(reach) for part in parts]
                result = assemble((repair(part) for part in parts), closer, size)
        result = result[..., :height, :width]
        if self.lighting is not None:
            self.lighting.relight(degraded, restored, result, text.pooled, weight)
            result = result.clamp_(0, 1) if clamp else result
        return result


def _cut(image: Tensor, window: Tile) -> Tensor:
    """A window of an image, its last pixels repeated where the window is larger.

    Windows are padded one by one, since a copy of a whole photo costs hundreds of megabytes.
    """
    part = window.crop(image)
    missing = (0, window.width - part.shape[-1], 0, window.height - part.shape[-2])
    return F.pad(part, missing, mode="replicate") if any(missing) else part
