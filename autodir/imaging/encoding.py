"""Samples and metadata → the content of a file, in every format that is written.

Apart from `imaging.photo`, which knows what a photo is, because each format has its own ways here.
Pillow writes most; TIFF and 16 bits of color are written here, since Pillow would lose a part.
"""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from itertools import accumulate
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import PngImagePlugin, TiffImagePlugin, TiffTags

from autodir.errors import ImageError
from autodir.imaging import profiles
from autodir.imaging.formats import FORMATS
from autodir.records import ImageMetadata

BEST_QUALITY, LEAST_QUALITY = 95, 90
"""JPEG quality of a result from no JPEG, and the least that a result from a JPEG gets."""

_AVIF_QUALITY = 90
_DEFLATE = 8
_TIFF_XMP = 700
_OPAQUE = 128
_PNG_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels → PNG color type
_BLOCK = 256


def encode_samples(
    samples: NDArray[Any],
    metadata: ImageMetadata,
    name: str,
    *,
    native: NDArray[Any] | None = None,
    is_lossless: bool = False,
) -> bytes:
    """Write samples as a file of one format.

    Args:
        samples: (H, W, C) gray, gray + alpha, sRGB or sRGB + alpha; uint8, or uint16 where the
            format holds that.
        metadata: what goes into the file besides.
        name: a key of `formats.FORMATS`.
        native: the source's own samples, where they are not sRGB and the result shall be as they.
        is_lossless: keep every bit, where the format gives the choice.

    Returns:
        The content of the file.

    Raises:
        ImageError: the format cannot hold samples of this size or kind.
    """
    try:
        if native is not None:
            samples, metadata = _to_own_space(samples, metadata, name, native)
        if name == "TIFF":
            return _tiff(samples, metadata)
        if samples.dtype == np.uint16 and name in ("PNG", "PPM"):
            return _deep_png(samples, metadata) if name == "PNG" else _deep_ppm(samples)
        has_ink = metadata.mode == "CMYK" and samples.shape[2] == 4
        file = io.BytesIO()
        _save(to_pil(samples, "CMYK" if has_ink else None), file, name, metadata, is_lossless)
    except Exception as error:  # encoders raise nearly anything: sizes, long metadata, modes
        reason = str(error) or type(error).__name__
        raise ImageError(f"cannot write {name}: {reason}", hint="write PNG or TIFF") from error
    return file.getvalue()


def to_pil(samples: NDArray[Any], mode: str | None = None) -> PIL.Image.Image:
    """A Pillow image of (H, W, C) uint8, or of (H, W, 1) uint16."""
    height, width, channels = samples.shape
    deep = samples.dtype == np.uint16
    mode = mode or ("I;16" if deep else ("L", "LA", "RGB", "RGBA")[channels - 1])
    stored = samples.astype("<u2") if deep else samples
    return PIL.Image.frombytes(mode, (width, height), stored.tobytes())


def _to_own_space(
    samples: NDArray[Any], metadata: ImageMetadata, name: str, native: NDArray[Any]
) -> tuple[NDArray[Any], ImageMetadata]:
    """Bring sRGB into the source's own colors, or drop the profile if the format holds none."""
    holds = FORMATS[name]
    has_ink = native.shape[2] == 4
    if not (holds.has_cmyk if has_ink else holds.has_profile):
        return samples, dataclasses.replace(metadata, mode="RGB", icc_profile=None)
    own = profiles.from_srgb(samples[..., :3], native, metadata.icc_profile)
    return np.concatenate([own, samples[..., 3:]], axis=2), metadata


def _save(
    image: PIL.Image.Image,
    file: io.BytesIO,
    name: str,
    metadata: ImageMetadata,
    is_lossless: bool,
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
        options["quality"] = BEST_QUALITY if stated is None else max(stated, LEAST_QUALITY)
        options["subsampling"] = metadata.subsampling or 0  # 4:4:4 where none is stated
    elif name == "PNG" and metadata.xmp:
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
        options["pnginfo"] = text
    elif name == "WEBP":
        options |= {"lossless": is_lossless, "exact": is_lossless, "quality": BEST_QUALITY}
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


def _chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _scanlines(rows: NDArray[np.uint8], above: NDArray[np.uint8], step: int) -> bytes:
    """PNG scanlines, each with the filter (none, sub or up) whose residue is smallest.

    Args:
        rows: bytes (N, W).
        above: the row before them (1, W), zeros before the first.
        step: bytes in a pixel.
    """
    left = rows.copy()
    left[:, step:] -= rows[:, :-step]
    up = rows - np.concatenate([above, rows[:-1]])
    choices = np.stack([rows, left, up])
    cost = np.abs(choices.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    chosen = cost.argmin(axis=0).astype(np.uint8)
    lines = choices[chosen, np.arange(len(rows))]
    return np.concatenate([chosen[:, None], lines], axis=1).tobytes()


def _deep_png(samples: NDArray[Any], metadata: ImageMetadata) -> bytes:
    """A 16-bit PNG of uint16 (H, W, C), C from 1 to 4."""
    height, width, channels = samples.shape
    rows = np.ascontiguousarray(samples.astype(">u2")).view(np.uint8).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 16, _PNG_COLOR_TYPES[channels], 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header)]
    if metadata.icc_profile:
        parts.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc_profile)))
    if metadata.dpi:
        x, y = (round(dots / 0.0254) for dots in metadata.dpi)
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata.exif:
        parts.append(_chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
    if metadata.xmp:
        parts.append(_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp))
    above, deflate = np.zeros_like(rows[:1]), zlib.compressobj()
    for top in range(0, height, _BLOCK):  # block by block, since filtering takes ten times the rows
        block = rows[top : top + _BLOCK]
        if lines := deflate.compress(_scanlines(block, above, 2 * channels)):
            parts.append(_chunk(b"IDAT", lines))
        above = block[-1:]
    return b"".join([*parts, _chunk(b"IDAT", deflate.flush()), _chunk(b"IEND", b"")])


def _tiff(samples: NDArray[Any], metadata: ImageMetadata) -> bytes:
    """A TIFF of uint8 or uint16 (H, W, C): deflated strips, little-endian.

    C is 1 to 4; four channels are inks where the photo's mode is CMYK, RGB and alpha elsewhere.
    Pillow writes the tags alone: its own TIFFs hold XMP or EXIF, and 16 bits of gray only.
    """
    height, width, channels = samples.shape
    stored = samples.astype(samples.dtype.newbyteorder("<"))
    strips = [
        zlib.compress(stored[top : top + _BLOCK].tobytes()) for top in range(0, height, _BLOCK)
    ]
    has_ink = metadata.mode == "CMYK" and channels == 4
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if metadata.exif:
        exif = PIL.Image.Exif()
        exif.load(metadata.exif)
        for tag in exif:
            tags[tag] = exif.get_ifd(tag) or exif[tag]
    tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH] = width, height
    tags[TiffImagePlugin.BITSPERSAMPLE] = (8 * samples.dtype.itemsize,) * channels
    tags[TiffImagePlugin.COMPRESSION] = _DEFLATE
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 5 if has_ink else (2 if channels > 2 else 1)
    tags[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    tags[TiffImagePlugin.PLANAR_CONFIGURATION] = 1  # channels beside each other
    tags[TiffImagePlugin.ROWSPERSTRIP] = _BLOCK
    # counted from the end of the tags: Pillow adds where that is
    tags[TiffImagePlugin.STRIPOFFSETS] = tuple(accumulate((len(s) for s in strips[:-1]), initial=0))
    tags[TiffImagePlugin.STRIPBYTECOUNTS] = tuple(len(s) for s in strips)
    if channels in (2, 4) and not has_ink:
        tags[TiffImagePlugin.EXTRASAMPLES] = 2  # alpha, not multiplied in
    if metadata.dpi:
        tags[TiffImagePlugin.RESOLUTION_UNIT] = 2  # inches
        tags[TiffImagePlugin.X_RESOLUTION], tags[TiffImagePlugin.Y_RESOLUTION] = metadata.dpi
    if metadata.xmp:
        tags.tagtype[_TIFF_XMP] = TiffTags.BYTE
        tags[_TIFF_XMP] = metadata.xmp
    if metadata.icc_profile:
        tags.tagtype[TiffImagePlugin.ICCPROFILE] = TiffTags.UNDEFINED
        tags[TiffImagePlugin.ICCPROFILE] = metadata.icc_profile
    file = io.BytesIO()
    tags.save(file)
    return b"".join([file.getvalue(), *strips])


def _deep_ppm(samples: NDArray[Any]) -> bytes:
    """A binary PGM or PPM of uint16 (H, W, 1 or 3)."""
    height, width, channels = samples.shape
    kind = 5 if channels == 1 else 6
    return f"P{kind}\n{width} {height}\n65535\n".encode() + samples.astype(">u2").tobytes()
