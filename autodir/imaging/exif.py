"""The few EXIF fields that a restored photo must change, changed in place.

Apart because the rest of the block stays byte for byte: maker notes do not survive re-writing.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PREFIX = b"Exif\x00\x00"

_IMAGE_WIDTH, _IMAGE_HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112
_EXIF_FOLDER, _EXIF_WIDTH, _EXIF_HEIGHT = 0x8769, 0xA002, 0xA003
_SHORT, _LONG = 3, 4
_ENTRY_BYTES = 12

_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[1-8]")


@dataclass(frozen=True)
class _Entry:
    """One field of a folder of tags: its number, type, and where its value lies."""

    tag: int
    kind: int
    position: int


class _Block:
    """A mutable EXIF block: the TIFF header of ``data`` (after the prefix) and its folders of tags.

    Raises:
        struct.error, ValueError: the block is malformed.
    """

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data.removeprefix(PREFIX))
        order = bytes(self.data[:2])
        if order not in (b"II", b"MM"):
            raise ValueError(f"byte order {order!r}")
        self._order = "<" if order == b"II" else ">"
        self.first = self._number("I", 4)

    def _number(self, code: str, position: int) -> int:
        return int(struct.unpack_from(self._order + code, self.data, position)[0])

    def entries(self, folder: int) -> Iterator[_Entry]:
        """The numbers in a folder, as far as the block is whole."""
        end = len(self.data)
        for index in range(self._number("H", folder) if folder + 2 <= end else 0):
            at = folder + 2 + index * _ENTRY_BYTES
            if at + _ENTRY_BYTES > end:
                return
            entry = _Entry(self._number("H", at), self._number("H", at + 2), at + 8)
            if entry.kind in (_SHORT, _LONG):
                yield entry

    def get(self, entry: _Entry) -> int:
        return self._number("H" if entry.kind == _SHORT else "I", entry.position)

    def set(self, entry: _Entry, value: int) -> None:
        if entry.kind == _SHORT and value > 0xFFFF:
            return
        code = "H" if entry.kind == _SHORT else "I"
        struct.pack_into(self._order + code, self.data, entry.position, value)

    def unlink_thumbnail(self) -> None:
        """Set the link from the first folder to the second, which holds the thumbnail, to 0."""
        end = self.first + 2 + self._number("H", self.first) * _ENTRY_BYTES
        struct.pack_into(self._order + "I", self.data, end, 0)


def orientation(exif: bytes | None) -> int:
    """The orientation tag, 1 to 8; 1 (upright) where there is none or the block is malformed."""
    if not exif:
        return 1
    try:
        block = _Block(exif)
        values = [block.get(e) for e in block.entries(block.first) if e.tag == _ORIENTATION]
    except (struct.error, ValueError):
        return 1
    return values[0] if values and 1 <= values[0] <= 8 else 1


def for_pixels(exif: bytes, size: tuple[int, int]) -> bytes:
    """The block for upright pixels of ``size`` (height, width): nothing else in it is touched.

    Orientation becomes 1, stated sizes become ``size``, and the thumbnail, which shows the photo as
    it was, is no longer linked. A damaged block is changed as far as `orientation` reads it, so
    that a photo which was turned says so.
    """
    height, width = size
    values = {
        _ORIENTATION: 1,
        _IMAGE_WIDTH: width,
        _IMAGE_HEIGHT: height,
        _EXIF_WIDTH: width,
        _EXIF_HEIGHT: height,
    }
    try:
        block = _Block(exif)
    except (struct.error, ValueError):
        return exif
    folders = [block.first]
    folders += [block.get(e) for e in block.entries(block.first) if e.tag == _EXIF_FOLDER]
    for entry in [e for folder in folders for e in block.entries(folder)]:
        if entry.tag in values:
            block.set(entry, values[entry.tag])
    with contextlib.suppress(struct.error):  # a block that ends before has no thumbnail
        block.unlink_thumbnail()
    return PREFIX + bytes(block.data)


def upright_xmp(xmp: bytes) -> bytes:
    """The XMP packet with every ``tiff:Orientation`` set to 1, of unchanged length."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def turn(samples: NDArray[Any], tag: int) -> NDArray[Any]:
    """Turn stored samples (H, W, ...) upright, as orientation ``tag`` (1 to 8) asks."""
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, k=-1),
        7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
        8: lambda a: np.rot90(a, k=1),
    }[tag](samples)
    return np.ascontiguousarray(turned)
