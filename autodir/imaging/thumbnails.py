"""Pictures for people to look at: small copies of photos, and heat-maps.

Apart from the results, whose depth, profile and metadata are kept: here nothing is.
"""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from autodir.imaging.photo import Photo
from autodir.imaging.resize import resize

_QUALITY = 78


def thumbnail(photo: Photo, longest: int) -> tuple[bytes, tuple[int, int]]:
    """A small copy in sRGB, its transparency kept.

    Args:
        photo: of any size.
        longest: the longer side in pixels, at most; a smaller photo keeps its size.

    Returns:
        The content of a WebP file, and its (height, width).
    """
    height, width = photo.size
    scale = min(1.0, longest / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    channels = [photo.pixels] if photo.alpha is None else [photo.pixels, photo.alpha[None]]
    samples = torch.cat(channels)[None]
    small = samples if size == photo.size else resize(samples, size)
    levels = (small[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(levels)).save(buffer, "WEBP", quality=_QUALITY)
    return buffer.getvalue(), size


def heat_map(values: Tensor) -> bytes:
    """Values (H, W) in [0, 1] as a PNG from black over red and yellow to white.

    The mean of the three channels, divided by 255, is the value again.
    """
    channels = values.cpu()[..., None] * 3 - torch.arange(3)
    levels = (channels.clamp(0, 1) * 255).round().numpy().astype(np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(levels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
