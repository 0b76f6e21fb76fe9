"""What the header of a file says that Pillow does not.

Apart because Pillow opens photos of 16 bits as ones of 8, and says so nowhere.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from autodir.errors import ImageError

_SPACE = rb"(?:\s|#[^\n]*\n)+"
_PPM_HEADER = re.compile(
    rb"P(?P<kind>[36])" + _SPACE + rb"\d+" + _SPACE + rb"\d+" + _SPACE + rb"(?P<top>\d+)\s"
)
_PNG_DEPTH, _PNG_COLOR_TYPE = 24, 25  # byte positions in the header chunk, which comes first


def png_color_type(data: bytes) -> int:
    """The color type that a PNG states: 0 is gray, 4 gray with alpha."""
    return data[_PNG_COLOR_TYPE]


def read_deep_ppm(size: tuple[int, int], data: bytes) -> NDArray[Any]:
    """The samples of a binary PPM (Pillow's size: width first), scaled to the full 16 bits.

    Raises:
        ImageError: they are written as text.
        ValueError: some are missing.
    """
    header = _PPM_HEADER.match(data)
    if header is None or header["kind"] != b"6":
        raise ImageError("PPM with 16 bits as text is not supported", hint="save it as binary PPM")
    width, height = size
    stored = np.frombuffer(data, ">u2", width * height * 3, header.end())
    scaled = np.rint(stored * (65535 / int(header["top"]))).clip(0, 65535)
    return scaled.astype(np.uint16).reshape(height, width, 3)


def is_deep_color(image: PIL.Image.Image, data: bytes) -> bool:
    """Whether an opened file holds 16-bit samples that Pillow would cut to 8; it keeps gray ones.

    Args:
        image: opened, not yet decoded.
        data: the file.
    """
    if image.format == "PNG":
        return data[_PNG_DEPTH] == 16 and png_color_type(data) != 0
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,))
        return len(bits) > 1 and max(bits) > 8
    header = _PPM_HEADER.match(data)
    return image.format == "PPM" and header is not None and int(header["top"]) > 255


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
