"""PNG: its chunks, and files of 16 bits a sample, of which Pillow would lose a half.

Apart because a PNG states its colors in five ways, and carries words that a result should keep.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autodir.errors import ImageError
from autodir.imaging import matrix
from autodir.records import ImageMetadata

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = b"XML:com.adobe.xmp"

_HEADER_END = 33  # signature and IHDR
_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels → PNG color type
_KEPT = frozenset({b"gAMA", b"cHRM", b"sRGB", b"cICP", b"tEXt", b"zTXt", b"iTXt"})
_USUAL_GAMMA = 45455  # 1 / 2.2, which writers mean sRGB by
_TRANSFERS = {1: None, 6: None, 13: None, 8: 1.0}
"""Gamma by code in ITU-T H.273; None is sRGB's curve, which viewers use for BT.709 video too."""

_BLOCK = 256


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk, as far as the file is whole."""
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += 12 + size


def _chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk as it stands in a file."""
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def kept_chunks(data: bytes) -> bytes:
    """The chunks of a file that a result carries on as they are: words and color, XMP aside."""
    return b"".join(
        _chunk(kind, content)
        for kind, content in _chunks(data)
        if kind in _KEPT and not (kind == b"iTXt" and content.startswith(_XMP_KEYWORD + b"\0"))
    )


def xmp_chunk(xmp: bytes) -> bytes:
    """The chunk of an XMP packet, byte for byte."""
    return _chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + xmp)


def with_chunks(data: bytes, chunks: bytes) -> bytes:
    """The file with further chunks behind its header."""
    return data[:_HEADER_END] + chunks + data[_HEADER_END:]


def color_space(data: bytes) -> matrix.MatrixSpace | None:
    """The color space that a file states in other ways than by a profile; None for sRGB.

    Raises:
        ImageError: it is one that cannot be kept, such as those of high dynamic range.
    """
    found = dict(_chunks(data))
    space = None
    if code := found.get(b"cICP"):
        return coded_space(code[0], code[1]) if len(code) == 4 else None
    if b"iCCP" in found or b"sRGB" in found:
        return None
    try:
        gamma = struct.unpack(">I", found[b"gAMA"])[0] if b"gAMA" in found else _USUAL_GAMMA
        stated = struct.unpack(">8I", found[b"cHRM"]) if b"cHRM" in found else None
    except struct.error:
        return None
    if gamma:
        power = None if gamma == _USUAL_GAMMA else 100000 / gamma
        points = None if stated is None else tuple(value / 100000 for value in stated)
        space = matrix.of_chromaticities(points, power)
    return None if space is None or space.is_srgb else space


def coded_space(primaries: int, transfer: int) -> matrix.MatrixSpace | None:
    """The color space of two codes of ITU-T H.273; None for sRGB, 2 (unspecified) included.

    Raises:
        ImageError: it is none of a photo for screens.
    """
    if transfer in (16, 18):
        raise ImageError(
            "the photo has a high dynamic range (PQ or HLG), which cannot be kept",
            hint="save it with the range of a screen",
        )
    if primaries in (1, 2) and transfer in (1, 2, 6, 13):
        return None
    if primaries not in matrix.PRIMARIES or transfer not in _TRANSFERS:
        raise ImageError(f"color space {primaries}/{transfer} of ITU-T H.273 is not supported")
    return matrix.of_chromaticities(matrix.PRIMARIES[primaries], _TRANSFERS[transfer])


def encode_deep(samples: NDArray[Any], metadata: ImageMetadata) -> bytes:
    """A 16-bit PNG of uint16 (H, W, C), C from 1 to 4."""
    height, width, channels = samples.shape
    rows = np.ascontiguousarray(samples.astype(">u2")).view(np.uint8).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPES[channels], 0, 0, 0)
    parts = [_SIGNATURE, _chunk(b"IHDR", header)]
    if metadata.icc_profile:
        parts.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc_profile)))
    if metadata.dpi:
        x, y = (round(dots / 0.0254) for dots in metadata.dpi)
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata.exif:
        parts.append(_chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
    if metadata.xmp:
        parts.append(xmp_chunk(metadata.xmp))
    above, deflate = np.zeros_like(rows[:1]), zlib.compressobj()
    for top in range(0, height, _BLOCK):  # block by block, since filtering takes ten times the rows
        block = rows[top : top + _BLOCK]
        if lines := deflate.compress(_scanlines(block, above, 2 * channels)):
            parts.append(_chunk(b"IDAT", lines))
        above = block[-1:]
    return b"".join([*parts, _chunk(b"IDAT", deflate.flush()), _chunk(b"IEND", b"")])


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
