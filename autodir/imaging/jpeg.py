"""JPEG: its quality, and the segments that a result carries on as they are.

Apart because Pillow keeps EXIF, XMP and ICC only, and captions live elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

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
_START, _SCAN, _COMMENT, _APP0, _APP1, _APP13, _APP15 = 0xD8, 0xDA, 0xFE, 0xE0, 0xE1, 0xED, 0xEF
_LONG_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_THUMBNAILS = frozenset({1033, 1036})  # resources that show the photo as it was


def quality_of(table: list[int]) -> int:
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


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment before the first scan; the start is that of 0xFF."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _SCAN or end > len(data):
            return
        yield marker, at, end
        at = end


def kept_segments(data: bytes) -> bytes:
    """Captions (IPTC), comments and the long part of XMP, for a result to carry on."""
    kept = []
    for marker, start, end in _segments(data):
        content = data[start + 4 : end]
        if marker == _APP13 and content.startswith(_PHOTOSHOP):
            content = _PHOTOSHOP + _without_thumbnails(content[len(_PHOTOSHOP) :])
        elif marker != _COMMENT and not (marker == _APP1 and content.startswith(_LONG_XMP)):
            continue
        kept.append(b"\xff%c" % marker + (len(content) + 2).to_bytes(2, "big") + content)
    return b"".join(kept)


def with_segments(data: bytes, segments: bytes) -> bytes:
    """The file with further segments behind those of applications that it begins with."""
    place = 2
    for marker, _, end in _segments(data):
        if not _APP0 <= marker <= _APP15:
            break
        place = end
    return data[:place] + segments + data[place:]


def _without_thumbnails(block: bytes) -> bytes:
    """Photoshop's resources, less those with a picture; unchanged if they are no whole list."""
    kept, at = [], 0
    while at < len(block):
        name_end = at + 6 + (block[at + 6] // 2 + 1) * 2 if at + 7 <= len(block) else len(block)
        size = int.from_bytes(block[name_end : name_end + 4], "big")
        end = name_end + 4 + size + size % 2
        if block[at : at + 4] != b"8BIM" or end > len(block):
            return block
        if int.from_bytes(block[at + 4 : at + 6], "big") not in _THUMBNAILS:
            kept.append(block[at:end])
        at = end
    return b"".join(kept)
