"""Samples and metadata → the content of a file, in every format that is written.

Apart from `imaging.photo`, which knows what a photo is, because each format has its own ways here.
Pillow writes most of them.
"""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from autodir.errors import AutodirError, ImageError
from autodir.imaging import heif, jpeg, png, profiles, tiff
from autodir.imaging.formats import FORMATS, Storage
from autodir.records import ImageMetadata

BEST_QUALITY, LEAST_QUALITY = 95, 90
"""JPEG quality of a result from no JPEG, and the least that a result from a JPEG gets."""

_AVIF_QUALITY = 90
_OPAQUE = 128


def encode_samples(
    samples: NDArray[Any],
    metadata: ImageMetadata,
    name: str,
    *,
    native: NDArray[Any] | None = None,
    storage: Storage | None = None,
) -> bytes:
    """Write samples as a file of one format.

    Args:
        samples: (H, W, C) gray, gray + alpha, sRGB or sRGB + alpha; uint8, or uint16 or float32
            where the format holds that.
        metadata: what goes into the file besides.
        name: a key of `formats.FORMATS`.
        native: the source's own samples, where they are not sRGB and the result shall be as they.
        storage: how the source held them; a result of the same format is stored alike.

    Returns:
        The content of the file.

    Raises:
        ImageError: the format cannot hold samples of this size or kind.
        MissingExtraError: it needs a library that is not installed.
    """
    is_alike = name == metadata.format
    has_own = is_alike or metadata.icc_profile is not None or metadata.mode == "CMYK"
    storage = storage or Storage()
    try:
        if native is not None and has_own:
            samples, metadata = _to_own_space(samples, metadata, name, native, storage.space)
        return _write(samples, metadata, name, storage if is_alike else Storage())
    except AutodirError:
        raise
    except Exception as error:  # encoders raise nearly anything: sizes, long metadata, modes
        reason = str(error) or type(error).__name__
        raise ImageError(f"cannot write {name}: {reason}", hint="write PNG or TIFF") from error


def _write(samples: NDArray[Any], metadata: ImageMetadata, name: str, storage: Storage) -> bytes:
    """Choose who writes: Pillow, or one of the writers of what Pillow would cut down."""
    deep = samples.dtype == np.uint16
    if name == "TIFF":
        is_rare = samples.shape[2] == 2 and samples.itemsize > 1  # hardly any program reads it
        return tiff.encode(samples[..., [0, 0, 0, 1]] if is_rare else samples, metadata)
    if name == "HEIF":
        return heif.encode(samples, metadata, storage.bits, storage.codes)
    if deep and name == "PPM":
        return _deep_ppm(samples)
    if deep and name == "PNG":
        return png.with_chunks(png.encode_deep(samples, metadata), storage.kept)
    has_ink = metadata.mode == "CMYK" and samples.shape[2] == 4
    file = io.BytesIO()
    _save(to_pil(samples, "CMYK" if has_ink else None), file, name, metadata, storage)
    if name == "PNG":
        words = storage.kept + (png.xmp_chunk(metadata.xmp) if metadata.xmp else b"")
        return png.with_chunks(file.getvalue(), words)
    if name == "JPEG":
        return jpeg.with_segments(file.getvalue(), storage.kept)
    return file.getvalue()


def to_pil(samples: NDArray[Any], mode: str | None = None) -> PIL.Image.Image:
    """A Pillow image of (H, W, C) uint8, or of (H, W, 1) uint16."""
    height, width, channels = samples.shape
    deep = samples.dtype == np.uint16
    mode = mode or ("I;16" if deep else ("L", "LA", "RGB", "RGBA")[channels - 1])
    stored = samples.astype("<u2") if deep else samples
    return PIL.Image.frombytes(mode, (width, height), stored.tobytes())


def _to_own_space(
    samples: NDArray[Any], metadata: ImageMetadata, name: str, native: NDArray[Any], space: Any
) -> tuple[NDArray[Any], ImageMetadata]:
    """Bring sRGB into the source's own colors, or drop the profile if the format holds none."""
    holds = FORMATS[name]
    has_ink = native.shape[2] == 4
    if not (holds.has_cmyk if has_ink else holds.has_profile):
        return samples, dataclasses.replace(metadata, mode="RGB", icc_profile=None)
    colors = 1 if native.shape[2] == 1 else 3
    own = profiles.from_srgb(samples[..., :colors], native, space)
    return np.concatenate([own, samples[..., colors:]], axis=2), metadata


def _save(
    image: PIL.Image.Image,
    file: io.BytesIO,
    name: str,
    metadata: ImageMetadata,
    storage: Storage,
) -> None:
    """Let Pillow write, with what the format holds of the metadata."""
    options: dict[str, Any] = {}
    if FORMATS[name].has_profile:
        options["icc_profile"] = metadata.icc_profile
        if metadata.exif:
            options["exif"] = metadata.exif
        if metadata.xmp and name in ("JPEG", "WEBP", "AVIF"):
            options["xmp"] = metadata.xmp
    if metadata.dpi and name in ("JPEG", "PNG", "BMP"):
        options["dpi"] = metadata.dpi
    if name == "JPEG":
        stated = metadata.quality
        options["subsampling"] = metadata.subsampling or 0  # 4:4:4 where none is stated
        options["progressive"] = storage.is_progressive
        tables = storage.quantization or {}
        # libjpeg gives the first to luma and the last to all else, as most files do
        if set(tables) in ({0}, {0, 1}) and (stated or 0) > LEAST_QUALITY:
            options["qtables"] = dict(tables)  # the source's own steps: untouched blocks stay
        else:
            options["quality"] = BEST_QUALITY if stated is None else max(stated, LEAST_QUALITY)
    elif name == "WEBP":
        exact = storage.is_lossless
        options |= {"lossless": exact, "exact": exact, "quality": BEST_QUALITY}
    elif name == "AVIF":
        options |= {"quality": _AVIF_QUALITY, "subsampling": "4:4:4"}
    elif name == "GIF":
        image = _to_palette(image)
        if "transparency" in image.info:
            options["transparency"] = image.info["transparency"]
    image.save(file, name, **options)


def _to_palette(image: PIL.Image.Image) -> PIL.Image.Image:
    """256 colors, dithered where there were more; with alpha, one of them is transparent."""
    if image.mode == "L":
        return image
    has_alpha = image.mode in ("LA", "RGBA")
    count = 255 if has_alpha else 256
    color = image.convert("RGB")
    palette = color.quantize(count, method=PIL.Image.Quantize.MEDIANCUT)
    if color.getcolors(count) is None:
        palette = color.quantize(palette=palette, dither=PIL.Image.Dither.FLOYDSTEINBERG)
    if has_alpha:
        hidden = image.getchannel("A").point(lambda level: 255 if level < _OPAQUE else 0)
        palette.paste(255, mask=hidden)
        palette.info["transparency"] = 255
    return palette


def _deep_ppm(samples: NDArray[Any]) -> bytes:
    """A binary PGM or PPM of uint16 (H, W, 1 or 3)."""
    height, width, channels = samples.shape
    kind = 5 if channels == 1 else 6
    return f"P{kind}\n{width} {height}\n65535\n".encode() + samples.astype(">u2").tobytes()
