"""Photos in: upright, sRGB, alpha and metadata aside, 8 or 16 bits; and the way out again.

Apart because it is the door to Pillow: every way in which a decoder fails becomes an `ImageError`
here, and nothing but pixels goes further in.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import math
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
from PIL import JpegImagePlugin
from torch import Tensor

from autodir.errors import AutodirError, ContractError, ImageError
from autodir.imaging import exif, formats, profiles
from autodir.imaging.files import copy_atomic, write_atomic
from autodir.imaging.photo import Photo, encode
from autodir.records import Image, ImageMetadata

__all__ = ["MAX_PIXELS", "Photo", "copy_atomic", "encode", "from_any", "read", "write_atomic"]

logger = logging.getLogger(__name__)

MAX_PIXELS = 200_000_000
"""Default limit of a photo's size, in pixels."""

_TIFF_TAGS = (270, 271, 272, 305, 306, 315, 33432, 34665, 34853)
"""EXIF fields that describe a TIFF's photo and not its storage: maker, date, rights, GPS, ..."""

_decoder_lock = threading.RLock()


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an `ImageError`, and keep its warnings to itself.

    Pillow's own limit on pixels is lifted meanwhile, since `read` checks the caller's. Both that
    and the warning filters belong to the process, hence the lock.
    """
    with _decoder_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
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


def read(source: str | Path | bytes, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a photo: turned upright, in sRGB, its alpha and metadata aside.

    Args:
        source: a path, or the content of a file.
        max_pixels: limit, compared with the size that the header states before anything is decoded.

    Returns:
        The photo. Samples of 16 bits are kept; gray is repeated in three channels.

    Raises:
        ImageError: the file is missing, empty, no image, truncated, animated, too large, or in a
            layout that could not be written back without loss.
    """
    if isinstance(source, bytes):
        path, data, name = None, source, "the input"
    else:
        path = Path(source)
        name = str(path)
        try:
            data = path.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ImageError(f"cannot read {name}: {reason}") from error
    if not data:
        raise ImageError(f"cannot read {name}: the file is empty")
    with _decoding(name):
        image = PIL.Image.open(io.BytesIO(data), formats=list(formats.FORMATS))
        return _from_pil(image, name, max_pixels, data=data, path=path)


def _check_header(image: PIL.Image.Image, name: str, max_pixels: int) -> None:
    """Refuse what is too large, has several pictures, or has samples of another kind."""
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width} x {height} = {width * height / 1e6:.1f} megapixels, "
            f"more than the limit of {max_pixels / 1e6:.1f}",
            hint="raise --max-pixels if the file is to be trusted",
        )
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format == "MPO":
        logger.warning(
            "%s: the first of %d pictures is used, the others are left out", name, frames
        )
    elif frames > 1:
        what = f"has {frames} pages" if image.format == "TIFF" else f"is animated ({frames} frames)"
        raise ImageError(f"{name} {what}", hint="save the picture to repair as a file of its own")


def _decode(image: PIL.Image.Image, name: str, data: bytes | None) -> tuple[NDArray[Any], str]:
    """Decode to integers (H, W, C) and the layout: L, LA, RGB, RGBA or CMYK."""
    deep = data is not None and formats.is_deep_color(image, data)
    if data is not None and (bits := formats.lost_bits(image, data)):
        logger.warning("%s has %d bits a sample, of which 8 are kept", name, bits)
    transparent = image.info.get("transparency")
    image.load()
    if deep and data is not None:
        samples = formats.read_deep_color(image, data)
        return samples, {2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[2]]
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format == "PPM"):
        gray = np.asarray(image).astype(np.uint16)[..., None]
        if transparent is None:
            return gray, "L"
        opaque = np.where(gray == transparent, 0, 65535).astype(np.uint16)
        return np.concatenate([gray, opaque], axis=-1), "LA"
    layout = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB"}.get(mode, mode)
    if mode in ("P", "PA"):
        layout = "RGBA" if mode == "PA" or transparent is not None else "RGB"
    elif transparent is not None and mode in ("1", "L", "RGB"):
        layout = "LA" if layout == "L" else "RGBA"
    if layout not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        raise ImageError(
            f"{name} has samples of the kind {mode!r}, which cannot be kept",
            hint="save it as 8- or 16-bit gray or RGB",
        )
    samples = np.array(image if layout == mode else image.convert(layout))
    return samples.reshape(*samples.shape[:2], -1), layout


def _from_pil(
    image: PIL.Image.Image,
    name: str,
    max_pixels: int,
    data: bytes | None = None,
    path: Path | None = None,
) -> Photo:
    """Make a photo of a Pillow image that is opened and may be not yet decoded."""
    _check_header(image, name, max_pixels)
    samples, layout = _decode(image, name, data)
    metadata = _metadata(image, samples, path)
    if samples.dtype == np.uint16 and samples.shape[2] > 1:
        metadata = dataclasses.replace(metadata, mode=layout)  # Pillow names the cut-down one
    samples = exif.turn(samples, exif.orientation(metadata.exif))
    block, packet = metadata.exif, metadata.xmp
    if block:
        if packet and exif.orientation(block) != 1:
            packet = exif.upright_xmp(packet)
        block = exif.for_pixels(block, (samples.shape[0], samples.shape[1]))
        metadata = dataclasses.replace(metadata, exif=block, xmp=packet)
    alpha = None
    if layout in ("LA", "RGBA"):
        samples, alpha = samples[..., :-1], samples[..., -1]
    color, native = samples, None
    if samples.dtype == np.uint8 and samples.shape[2] > 1:
        # Profiles are applied at 8 bits only: 16-bit samples would lose their lower half.
        color = profiles.to_srgb(np.ascontiguousarray(samples), metadata.icc_profile)
        native = None if color is samples or np.shares_memory(color, samples) else samples
    return Photo(
        pixels=_unit(color).permute(2, 0, 1).expand(3, -1, -1).contiguous(),
        alpha=None if alpha is None else _unit(alpha).contiguous(),
        metadata=metadata,
        native=native,
        is_lossless=data is not None and formats.is_lossless_webp(data),
    )


def _unit(samples: NDArray[Any]) -> Tensor:
    """Integers as float32 in [0, 1]."""
    top = float(np.iinfo(samples.dtype).max)
    return torch.from_numpy(samples.astype(np.float32)) / top


def _metadata(image: PIL.Image.Image, samples: NDArray[Any], path: Path | None) -> ImageMetadata:
    """What the decoded file says besides its samples; the orientation as stored."""
    info = image.info
    block = info.get("exif")
    packet = info.get("xmp") or info.get("XML:com.adobe.xmp")
    if image.format == "TIFF":
        # A TIFF's EXIF is its own list of tags, and Pillow has turned its pixels upright already.
        tags = PIL.Image.Exif()
        for tag, value in image.getexif().items():
            if tag in _TIFF_TAGS:
                tags[tag] = image.getexif().get_ifd(tag) or value
        block = tags.tobytes() if len(tags) else None
        packet = packet or getattr(image, "tag_v2", {}).get(700)
    if isinstance(packet, str):
        packet = packet.encode()
    quality = subsampling = None
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.quantization:
        quality = formats.jpeg_quality(list(image.quantization[min(image.quantization)]))
        sampling = JpegImagePlugin.get_sampling(image)
        subsampling = sampling if sampling >= 0 else None
    return ImageMetadata(
        path=path,
        format=formats.ALIASES.get(image.format or "", image.format or ""),
        mode=image.mode,
        bit_depth=16 if samples.dtype == np.uint16 else 8,
        icc_profile=info.get("icc_profile") or None,
        exif=exif.PREFIX + block.removeprefix(exif.PREFIX) if block else None,
        xmp=packet or None,
        dpi=_dpi(info.get("dpi")),
        quality=quality,
        subsampling=subsampling,
    )


def _dpi(stated: Any) -> tuple[float, float] | None:
    """Pixels per inch, where the file states finite positive ones."""
    try:
        x, y = (float(value) for value in stated)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if all(math.isfinite(v) and v > 0 for v in (x, y)) else None


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
            return _from_pil(source, "the image", max_pixels)
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
