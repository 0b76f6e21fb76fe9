"""A restoration model of another kind as stage 1: it removes the degradation before the diffusion.

Apart because it is the door to spandrel, an extra under the MIT licence. The models it reads have
licences of their own, many of them non-commercial.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autodir.errors import CheckpointError, MissingExtraError
from autodir.imaging.resize import resize
from autodir.imaging.tiles import map_tiles
from autodir.records import check_image

TILE, OVERLAP = 512, 32


class Stage1:
    """A network that restores pictures, at any size and in bounded memory.

    Args:
        network: (B, 3, H, W) in [0, 1] to the same, or to ``scale`` times the size.
        name: what reports call it.
        tile: side in pixels above which a photo is cut into tiles, which overlap by an eighth.
    """

    def __init__(self, network: nn.Module | Any, name: str, tile: int = TILE) -> None:
        self.network, self.name, self.tile = network, name, tile

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """The restored picture (B, 3, H, W) in [0, 1], of the size it came in.

        A network that enlarges is followed by an antialiased reduction.
        """
        check_image(pixels, "pixels")
        overlap = min(OVERLAP, self.tile // 8)
        restored = map_tiles(pixels.float(), self.network, self.tile, overlap)
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        return resize(restored.float(), size).clamp(0, 1)


def load_stage1(path: str | Path, device: torch.device | None = None) -> Stage1:
    """Read a model file in any format and of any architecture that spandrel knows.

    Safetensors hold no code; spandrel opens pickles (.pth) with an unpickler of its own that admits
    tensors and nothing that runs.

    Raises:
        MissingExtraError: spandrel is not installed.
        CheckpointError: the file is missing, unknown to spandrel, or no model from color pictures
            to color pictures.
    """
    try:
        import spandrel
    except ImportError as error:
        raise MissingExtraError(
            "models for stage 1 are read by spandrel, which is not installed",
            'pip install "autodir[stage1]"',
        ) from error
    where = Path(path).expanduser()
    if not where.is_file():
        raise CheckpointError(f"there is no file {where}", "--stage1 names a model file")
    try:
        found = spandrel.ModelLoader(device or torch.device("cpu")).load_from_file(where)
    except Exception as error:  # spandrel lets the errors of torch, pickle and safetensors through
        raise CheckpointError(
            f"{where} cannot be read as a model: {error}", "give a file that spandrel supports"
        ) from error
    channels = (found.input_channels, found.output_channels)
    if not isinstance(found, spandrel.ImageModelDescriptor) or channels != (3, 3):
        raise CheckpointError(
            f"{where} is a {found.purpose} model of {channels[0]} to {channels[1]} channels",
            "stage 1 needs a model from color pictures to color pictures",
        )
    found.model.eval().requires_grad_(False)
    return Stage1(found, f"{found.architecture.name} ({where.name})")
