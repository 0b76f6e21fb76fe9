"""The table of degradation operators, one per key of the taxonomy.

Apart, and short, so that adding a degradation is one import and one line.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from autodir.synthesis.blur import blur
from autodir.synthesis.codec import compression, low_resolution
from autodir.synthesis.draws import Fixed, Parameters
from autodir.synthesis.drops import raindrop
from autodir.synthesis.light import haze, underexposure
from autodir.synthesis.noise import noise
from autodir.synthesis.rain import rain


class Operator(Protocol):
    """Clean (B, 3, H, W) in [0, 1] and severity (B,) to the degraded image and its parameters."""

    def __call__(
        self,
        clean: Tensor,
        severity: Tensor,
        generator: torch.Generator,
        fixed: Fixed | None = None,
    ) -> tuple[Tensor, Parameters]:
        """Degrade a batch; see each operator for the names in ``fixed``."""
        ...


OPERATORS: dict[str, Operator] = {
    "noise": noise,
    "blur": blur,
    "rain": rain,
    "underexposure": underexposure,
    "haze": haze,
    "low_resolution": low_resolution,
    "raindrop": raindrop,
    "compression": compression,
}


def quantize_8bit(image: Tensor) -> Tensor:
    """Round [0, 1] to the 256 levels of an 8-bit file, without leaving float."""
    return (image.clamp(0, 1) * 255).round() / 255


__all__ = [
    "OPERATORS",
    "Operator",
    "blur",
    "compression",
    "haze",
    "low_resolution",
    "noise",
    "quantize_8bit",
    "rain",
    "raindrop",
    "underexposure",
]
