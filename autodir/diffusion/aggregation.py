"""Progressive aggregation: one denoising of a large canvas as the blend of many small ones.

Apart because tiles must be blended at every sampling step, not once at the end, and no sampler
should know of it.
"""

from __future__ import annotations

from torch import Tensor

from autodir.diffusion.denoiser import Denoise
from autodir.errors import ContractError
from autodir.imaging.tiles import blend, grid
from autodir.records import Conditioning


def aggregated(denoise: Denoise, tile: int, overlap: int) -> Denoise:
    """Denoise tile by tile and average with Gaussian weights (arXiv:2305.07015, Algorithm 1).

    Each tile sees its own window of the noisy latents and of the image latents; the instruction is
    the same for all. Patches sampled one by one drift apart over the steps, whereas here all meet
    again after each of them. A canvas that fits into one tile is denoised whole.

    Args:
        denoise: the denoiser of one tile.
        tile: side of a tile in latents; a shorter side of the canvas makes the tile shorter.
        overlap: latents that neighbors share, in [0, tile).

    Raises:
        ContractError: ``tile`` or ``overlap`` is out of range.
    """
    if tile < 1 or not 0 <= overlap < tile:
        raise ContractError(
            f"tile must be at least 1 and overlap in [0, tile), got {tile} and {overlap}"
        )

    def over_tiles(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        size = (int(x.shape[-2]), int(x.shape[-1]))
        windows = grid(size, tile, overlap)
        values = (
            denoise(
                window.crop(x),
                sigma,
                cond.crop(window.top, window.left, window.height, window.width),
            )
            for window in windows
        )
        return blend(windows, values, size, overlap, weighting="gaussian")

    return over_tiles
