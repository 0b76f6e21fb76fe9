"""Photos in: upright, sRGB, alpha and metadata aside, 8 or 16 bits; and the way out again.

Apart because it is the door of the decoders: every way in which one fails becomes an `ImageError`
here, and nothing but pixels goes further in.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from autodir.errors import AutodirError, ContractError, ImageError
from autodir.imaging import decoding, exif, formats, profiles, tiff
from autodir.imaging.alpha import fill_hidden
from autodir.imaging.decoding import Decoded
from autodir.imaging.files import MAX_BYTES, read_limited, write_atomic
from autodir.imaging.photo import Photo, encode
from autodir.records import Image, ImageMetadata

__all__ = ["MAX_PIXELS", "Photo", "encode", "from_any", "read", "write_atomic"]

logger = logging.getLogger(__name__)

MAX_PIXELS = 200_000_000
"""Default limit of a photo's size, in pixels."""

_LOSS = re.compile("(possibly )?corrupt|truncated", re.IGNORECASE)
"""Begins what Pillow warns of where tags of a TIFF are lost; elsewhere they are kept as bytes."""

_decoder_lock = threading.RLock()


@contextmanager
def _decoding(name: str, *, is_tiff: bool = False) -> Iterator[None]:
    """Turn whatever a decoder raises into an `ImageError`, and log what it warns of.

    Pillow's own limit on pixels is lifted meanwhile, since `read` checks the caller's. Both that
    and the warning filters belong to the process, hence the lock.
    """
    with _decoder_lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        except AutodirError:
            raise
        except PIL.UnidentifiedImageError as error:
            raise ImageError(
                f"cannot read {name}: not an image in a known format",
                hint=f"supported: {', '.join(formats.FORMATS)}",
            ) from error
        except Exception as error:  # damaged files make decoders raise nearly anything
            reason = str(error) or type(error).__name__
            raise ImageError(f"cannot read {name}: {reason}", hint="is the file whole?") from error
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit
    for warning in dict.fromkeys(str(one.message) for one in caught):
        if is_tiff and _LOSS.match(warning):
            raise ImageError(f"cannot read {name}: {warning}", hint="is the file whole?")
        logger.warning("%s: %s", name, warning)


def read(
    source: str | Path | bytes, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Photo:
    """Read a photo: turned upright, in sRGB, its alpha and metadata aside.

    Args:
        source: a path, or the content of a file.
        max_pixels: limit, compared with the size that the header states before anything is decoded.
        max_bytes: limit of the file, of which no more is read.

    Returns:
        The photo. Samples of 16 bits are kept; gray is repeated in three channels.

    Raises:
        ImageError: the file is missing, empty, no image, truncated, animated, too large, or in a
            layout that could not be written back without loss.
        MissingExtraError: the format needs a library that is not installed.
    """
    if isinstance(source, bytes):
        path, data, name = None, source, "the input"
    else:
        path = Path(source)
        name = str(path)
        data = read_limited(path, max_bytes)
    if not data:
        raise ImageError(f"cannot read {name}: the file is empty")
    with _decoding(name, is_tiff=tiff.is_tiff(data)):
        decoded = decoding.decode(data, name, max_pixels)
        return _photo(decoded, path)


def _photo(decoded: Decoded, path: Path | None = None) -> Photo:
    """Make a photo of what a file holds: upright, in sRGB, alpha aside."""
    metadata, samples = dataclasses.replace(decoded.metadata, path=path), decoded.samples
    samples = exif.turn(samples, exif.orientation(metadata.exif))
    block, packet = metadata.exif, metadata.xmp
    if block:
        if packet and exif.orientation(block) != 1:
            packet = exif.upright_xmp(packet)
        block = exif.for_pixels(block, (samples.shape[0], samples.shape[1]))
        metadata = dataclasses.replace(metadata, exif=block, xmp=packet)
    alpha = hidden = None
    if decoded.layout in ("LA", "RGBA"):
        samples, alpha = samples[..., :-1], _unit(samples[..., -1]).contiguous()
    samples = np.ascontiguousarray(samples)
    color = profiles.to_srgb(samples, decoded.storage.space)
    pixels = _unit(color).permute(2, 0, 1).expand(3, -1, -1).contiguous()
    if alpha is not None:
        filled = fill_hidden(pixels, alpha)
        pixels, hidden = filled, None if filled is pixels else pixels
    return Photo(
        pixels=pixels,
        alpha=alpha,
        metadata=metadata,
        native=None if color is samples else samples,
        hidden=hidden,
        storage=decoded.storage,
    )


def _unit(samples: NDArray[Any]) -> Tensor:
    """Samples as float32 in [0, 1]."""
    floats = torch.from_numpy(samples.astype(np.float32))
    return floats if samples.dtype.kind == "f" else floats / float(np.iinfo(samples.dtype).max)


def from_any(source: object, max_pixels: int = MAX_PIXELS) -> Photo:
    """Make a photo of whatever a caller holds.

    Args:
        source: a path, the bytes of a file, a photo, a Pillow image, an array (H, W) or
            (H, W, 1 to 4) of uint8, uint16 or floats in [0, 1], or a tensor (3, H, W),
            (1, 3, H, W) or (1, H, W) of uint8 or floats in [0, 1].
        max_pixels: see `read`.

    Raises:
        ImageError: the file or Pillow image cannot be used; see `read`.
        ContractError: the array or tensor has another shape, type or range.
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, Image):
        return Photo(pixels=source.pixels, alpha=source.alpha, metadata=source.metadata)
    if isinstance(source, str | Path | bytes):
        return read(source, max_pixels)
    if isinstance(source, PIL.Image.Image):
        with _decoding("the image"):
            return _photo(decoding.of_pil(source, "the image", max_pixels))
    if isinstance(source, Tensor):
        return _from_array(_channels_last(source))
    if isinstance(source, np.ndarray):
        return _from_array(source)
    raise ContractError(f"cannot make a photo of {type(source).__name__}")


def _channels_last(tensor: Tensor) -> NDArray[Any]:
    """(1, C, H, W) or (C, H, W) → (H, W, C)."""
    image = tensor[0] if tensor.ndim == 4 and tensor.shape[0] == 1 else tensor
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ContractError(
            f"a tensor must be (3, H, W) or (1, 3, H, W), got {tuple(tensor.shape)}"
        )
    image = image.detach().cpu().permute(1, 2, 0)
    return (image.float() if image.is_floating_point() else image).numpy()


def _from_array(array: NDArray[Any]) -> Photo:
    """Make a photo of (H, W) or (H, W, C): gray, gray + alpha, RGB or RGBA."""
    samples = array[..., None] if array.ndim == 2 else array
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4) or samples.size == 0:
        raise ContractError(f"an array must be (H, W) or (H, W, 1 to 4), got {array.shape}")
    if samples.dtype in (np.uint8, np.uint16):
        x = _unit(samples)
    elif np.issubdtype(samples.dtype, np.floating):
        x = torch.from_numpy(samples.astype(np.float32))
        if not bool(((x >= 0) & (x <= 1)).all()):  # NaN fails this too
            raise ContractError(
                "an array of floats must lie in [0, 1]",
                hint="divide by 255, or pass uint8",
            )
    else:
        raise ContractError(f"an array must be uint8, uint16 or float, got {samples.dtype}")
    channels = int(samples.shape[2])
    alpha = x[..., -1].contiguous() if channels in (2, 4) else None
    color = x[..., : 1 if channels < 3 else 3]
    depth = 16 if samples.dtype == np.uint16 else 8
    mode = ("I;16" if depth == 16 else "L", "LA", "RGB", "RGBA")[channels - 1]
    return Photo(
        pixels=color.permute(2, 0, 1).expand(3, -1, -1).contiguous(),
        alpha=alpha,
        metadata=ImageMetadata(mode=mode, bit_depth=depth),
    )
