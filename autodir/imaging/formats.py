"""What each file format can hold, and what its header says.

Apart because formats differ in everything but their pixels; a new one is added to this table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from autodir.errors import ImageError


@dataclass(frozen=True, kw_only=True)
class Format:
    """What a format can hold of a photo.

    Attributes:
        suffixes: of its files, in lower case; the first is the usual one.
        has_alpha: transparency.
        deep: 16 bits a sample are written, for "gray", for "color", for both ("gray color"), or "".
        has_cmyk: four inks.
        has_profile: ICC, EXIF and XMP can be stored.
    """

    suffixes: tuple[str, ...]
    has_alpha: bool = False
    deep: str = ""
    has_cmyk: bool = False
    has_profile: bool = False


FORMATS: dict[str, Format] = {
    "JPEG": Format(suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"), has_cmyk=True, has_profile=True),
    "PNG": Format(suffixes=(".png",), has_alpha=True, deep="gray color", has_profile=True),
    "TIFF": Format(
        suffixes=(".tif", ".tiff"),
        has_alpha=True,
        deep="gray color",
        has_cmyk=True,
        has_profile=True,
    ),
    "WEBP": Format(suffixes=(".webp",), has_alpha=True, has_profile=True),
    "AVIF": Format(suffixes=(".avif",), has_alpha=True, has_profile=True),
    "BMP": Format(suffixes=(".bmp", ".dib")),
    "GIF": Format(suffixes=(".gif",), has_alpha=True),
    "PPM": Format(suffixes=(".ppm", ".pgm", ".pbm", ".pnm"), deep="gray color"),
    "TGA": Format(suffixes=(".tga",), has_alpha=True),
    "JPEG2000": Format(suffixes=(".jp2", ".j2k", ".jpx"), has_alpha=True, deep="gray"),
}
"""The formats read and written, by Pillow's names."""

ALIASES = {"MPO": "JPEG", "DIB": "BMP"}
"""What Pillow may call a file in one of the formats, and which one it is."""

SUFFIXES = frozenset(suffix for entry in FORMATS.values() for suffix in entry.suffixes)
"""The suffixes by which a folder's photos are recognized."""

_SPACE = rb"(?:\s|#[^\n]*\n)+"
_PPM_HEADER = re.compile(
    rb"P(?P<kind>[36])" + _SPACE + rb"\d+" + _SPACE + rb"\d+" + _SPACE + rb"(?P<top>\d+)\s"
)
_PNG_DEPTH, _PNG_COLOR_TYPE = 24, 25  # byte positions in the header chunk, which comes first
# ITU-T T.81, Table K.1: the luminance quantization that libjpeg scales by its quality
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


def format_of_suffix(path: Path) -> str:
    """The format that a file name asks for.

    Raises:
        ImageError: no format has this suffix.
    """
    for name, entry in FORMATS.items():
        if path.suffix.lower() in entry.suffixes:
            return name
    known = ", ".join(entry.suffixes[0] for entry in FORMATS.values())
    raise ImageError(f"cannot write {path}: unknown suffix {path.suffix!r}", hint=f"use {known}")


def jpeg_quality(table: list[int]) -> int:
    """The libjpeg quality, 1 to 100, whose luminance table is nearest to ``table`` (64 steps).

    The sum of the steps decides, so neither their order nor a camera's own table matters much.
    """
    wanted = sum(table)
    best, distance = 100, float("inf")
    for quality in range(100, 0, -1):
        percent = 5000 // quality if quality < 50 else 200 - 2 * quality
        total = int(np.clip((_LUMINANCE * percent + 50) // 100, 1, 255).sum())
        if abs(total - wanted) < distance:
            best, distance = quality, abs(total - wanted)
    return best


def is_deep_color(image: PIL.Image.Image, data: bytes) -> bool:
    """Whether an opened file holds 16-bit samples that Pillow would cut to 8; it keeps gray ones.

    Args:
        image: opened, not yet decoded.
        data: the file.
    """
    if image.format == "PNG":
        return data[_PNG_DEPTH] == 16 and data[_PNG_COLOR_TYPE] != 0
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,))
        return len(bits) > 1 and max(bits) > 8
    header = _PPM_HEADER.match(data)
    return image.format == "PPM" and header is not None and int(header["top"]) > 255


def read_deep_color(image: PIL.Image.Image, data: bytes) -> NDArray[Any]:
    """Decode what `is_deep_color` found.

    Args:
        image: decoded by Pillow, which has thereby shown that the file is whole.
        data: the file.

    Returns:
        uint16 (H, W, C): gray + alpha, RGB or RGBA.

    Raises:
        ImageError: the layout is one that cannot be kept at 16 bits.
    """
    if image.format == "PPM":
        return _read_deep_ppm(image.size, data)
    samples: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    height, width = image.size[::-1]
    if samples is None or samples.dtype != np.uint16 or samples.ndim != 3:
        raise ImageError(f"{image.format} with 16 bits in the layout {image.mode} is not supported")
    if samples.shape[:2] != (height, width) or samples.shape[2] not in (3, 4):
        raise ImageError(f"{image.format} with {samples.shape[2]} channels of 16 bits")
    order = [2, 1, 0, 3][: samples.shape[2]]
    is_gray = image.format == "PNG" and data[_PNG_COLOR_TYPE] == 4
    return samples[..., [0, 3]] if is_gray else samples[..., order]


def _read_deep_ppm(size: tuple[int, int], data: bytes) -> NDArray[Any]:
    """The samples of a binary PPM (Pillow's size: width first), scaled to the full 16 bits."""
    header = _PPM_HEADER.match(data)
    if header is None or header["kind"] != b"6":
        raise ImageError("PPM with 16 bits as text is not supported", hint="save it as binary PPM")
    width, height = size
    stored = np.frombuffer(data, ">u2", width * height * 3, header.end())
    scaled = np.rint(stored * (65535 / int(header["top"]))).clip(0, 65535)
    return scaled.astype(np.uint16).reshape(height, width, 3)


def lost_bits(image: PIL.Image.Image, data: bytes) -> int:
    """Bits of a sample in an AVIF or JPEG 2000 file, where Pillow reads fewer; 0 elsewhere."""
    if image.format == "AVIF" and (at := data.find(b"pixi", 0, 4096)) >= 0:
        stated = data[at + 9 : at + 9 + data[at + 8]]  # after version and flags: a count, the bits
    elif image.format == "JPEG2000" and (at := data.find(b"\xff\x4f\xff\x51", 0, 4096)) >= 0:
        stated = bytes([1 + (data[at + 42] & 0x7F)])  # Ssiz of the first component
    else:
        return 0
    bits = max(stated, default=0)
    return bits if bits > 8 and not image.mode.startswith("I;16") else 0


def is_lossless_webp(data: bytes) -> bool:
    """Whether a file is a WebP whose picture was compressed without loss."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return False
    at = 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        at += 8 + size + size % 2  # chunks begin at even positions
    return False
