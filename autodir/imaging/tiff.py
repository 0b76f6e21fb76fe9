"""TIFF: what its tags say before anything is decoded, floats, and files that Pillow cannot write.

Apart because a TIFF may hold any kind of sample, of which Pillow quietly drops some and turns
others about. Pillow reads and writes the tags here, OpenCV the floats, zlib the strips.
"""

from __future__ import annotations

import io
import zlib
from itertools import accumulate
from typing import Any

import PIL.Image
from numpy.typing import NDArray
from PIL import TiffImagePlugin, TiffTags

from autodir.errors import ImageError
from autodir.imaging.exif import PREFIX
from autodir.records import ImageMetadata

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_XMP, _IPTC = 700, 33723
_PHOTO_TAGS = (
    269, 270, 271, 272, 285, 305, 306, 315, 316, 18246, 18249, 33432, _IPTC, 34665, 34853,
    33550, 33922, 34264, 34735, 34736, 34737, 40091, 40092, 40093, 40094, 40095, 42112, 42113,
)  # fmt: skip
"""Tags that describe the photo and not its storage: maker, date, rights, caption, place, ..."""

_COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # photometric interpretation → channels
_WHITE_IS_ZERO, _RGB, _CMYK = 0, 2, 5
_SIGNED, _FLOAT = 2, 3
_DEFLATE = 8
_BLOCK = 256

Tags = TiffImagePlugin.ImageFileDirectory_v2


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as a TIFF does."""
    return data[:4] in _MAGIC


def tags_of(data: bytes) -> Tags | None:
    """The first folder of tags of a TIFF; None for another file.

    Raises:
        Exception: whatever Pillow raises for damaged tags.
    """
    if not is_tiff(data):
        return None
    is_big = 43 in data[2:4]
    tags = Tags(data[: 16 if is_big else 8])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return tags


def bits_of(tags: Tags) -> int:
    """Bits in the largest sample."""
    return int(max(_numbers(tags, TiffImagePlugin.BITSPERSAMPLE, 1)))


def is_float(tags: Tags) -> bool:
    """Whether samples are floats."""
    return _FLOAT in _numbers(tags, TiffImagePlugin.SAMPLEFORMAT, 1)


def is_inverted(tags: Tags) -> bool:
    """Whether the samples count darkness, as in a negative."""
    return bool(tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO)


def is_premultiplied(tags: Tags) -> bool:
    """Whether the colors are multiplied by the alpha."""
    return _numbers(tags, TiffImagePlugin.EXTRASAMPLES, 0)[:1] == (1,)


def _numbers(tags: Tags, tag: int, default: int) -> tuple[int, ...]:
    """The value of a tag, which may hold one number or several."""
    value = tags.get(tag, default)
    return value if isinstance(value, tuple) and value else (default,) if value == () else (value,)


def size_of(tags: Tags) -> tuple[int, int]:
    """(height, width) as stated, before any turn."""
    return int(tags[TiffImagePlugin.IMAGELENGTH]), int(tags[TiffImagePlugin.IMAGEWIDTH])


def check_kind(tags: Tags, name: str) -> None:
    """Refuse samples that would be read in part, or not as they are meant.

    Raises:
        ImageError: signed or 32-bit integers, floats of a half, channels besides color and alpha.
    """
    photometric = int(tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 1))
    channels = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
    extra = channels - _COLORS.get(photometric, channels)
    bits, kinds = bits_of(tags), _numbers(tags, TiffImagePlugin.SAMPLEFORMAT, 1)
    problem = ""
    if _SIGNED in kinds:
        problem = "samples with a sign"
    elif is_float(tags) and (bits not in (32, 64) or photometric not in (1, _RGB)):
        problem = f"floats of {bits} bits in the layout {photometric}"
    elif not is_float(tags) and bits > 16:
        problem = f"integers of {bits} bits"
    elif bits > 8 and photometric not in (_WHITE_IS_ZERO, 1, _RGB):
        problem = f"{bits} bits a sample in the layout {photometric}"
    elif extra > (0 if photometric == _CMYK else 1):
        problem = f"{extra} channels besides its colors"
    elif extra == 1 and _numbers(tags, TiffImagePlugin.EXTRASAMPLES, 2)[0] not in (1, 2):
        problem = "a channel that is neither color nor transparency"
    elif extra == 1 and channels == 2 and bits > 8:
        problem = f"gray and transparency of {bits} bits"
    if problem:
        raise ImageError(
            f"{name} has {problem}, which cannot be kept",
            hint="save it as 8- or 16-bit gray or RGB",
        )


def photo_tags(exif: PIL.Image.Exif) -> bytes | None:
    """An EXIF block of the tags that describe the photo; None where there is none."""
    kept = PIL.Image.Exif()
    for tag, value in exif.items():
        if tag in _PHOTO_TAGS:
            kept[tag] = exif.get_ifd(tag) or value
    return PREFIX + kept.tobytes().removeprefix(PREFIX) if len(kept) else None


def metadata_of(data: bytes, tags: Tags) -> dict[str, Any]:
    """EXIF, XMP, ICC profile and stated resolution, as arguments of `ImageMetadata`."""
    exif = PIL.Image.Exif()
    exif.load(data)
    unit = {2: 1.0, 3: 2.54}.get(int(tags.get(TiffImagePlugin.RESOLUTION_UNIT, 2)))
    x, y = tags.get(TiffImagePlugin.X_RESOLUTION), tags.get(TiffImagePlugin.Y_RESOLUTION)
    return {
        "exif": photo_tags(exif),
        "xmp": tags.get(_XMP) or None,
        "icc_profile": tags.get(TiffImagePlugin.ICCPROFILE) or None,
        "dpi": (float(x) * unit, float(y) * unit) if unit and x and y else None,
    }


def encode(samples: NDArray[Any], metadata: ImageMetadata) -> bytes:
    """A TIFF of uint8, uint16 or float32 (H, W, C): deflated strips, little-endian.

    C is 1 to 4; four channels are inks where the photo's mode is CMYK, RGB and alpha elsewhere.
    Pillow writes the tags alone: its own TIFFs hold XMP or EXIF, and 16 bits of gray only.
    """
    height, width, channels = samples.shape
    stored = samples.astype(samples.dtype.newbyteorder("<"))
    strips = [
        zlib.compress(stored[top : top + _BLOCK].tobytes()) for top in range(0, height, _BLOCK)
    ]
    has_ink = metadata.mode == "CMYK" and channels == 4
    photometric = _CMYK if has_ink else (_RGB if channels > 2 else 1)
    tags = Tags()
    if metadata.exif:
        exif = PIL.Image.Exif()
        exif.load(metadata.exif)
        for tag in exif:
            tags[tag] = exif.get_ifd(tag) or exif[tag]
    tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH] = width, height
    tags[TiffImagePlugin.BITSPERSAMPLE] = (8 * samples.dtype.itemsize,) * channels
    tags[TiffImagePlugin.COMPRESSION] = _DEFLATE
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = photometric
    tags[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    tags[TiffImagePlugin.PLANAR_CONFIGURATION] = 1  # channels beside each other
    tags[TiffImagePlugin.ROWSPERSTRIP] = _BLOCK
    if samples.dtype.kind == "f":
        tags[TiffImagePlugin.SAMPLEFORMAT] = (_FLOAT,) * channels
    # counted from the end of the tags: Pillow adds where that is
    tags[TiffImagePlugin.STRIPOFFSETS] = tuple(accumulate((len(s) for s in strips[:-1]), initial=0))
    tags[TiffImagePlugin.STRIPBYTECOUNTS] = tuple(len(s) for s in strips)
    if channels in (2, 4) and not has_ink:
        tags[TiffImagePlugin.EXTRASAMPLES] = 2  # alpha, not multiplied in
    if metadata.dpi:
        tags[TiffImagePlugin.RESOLUTION_UNIT] = 2  # inches
        tags[TiffImagePlugin.X_RESOLUTION], tags[TiffImagePlugin.Y_RESOLUTION] = metadata.dpi
    if metadata.xmp:
        tags.tagtype[_XMP] = TiffTags.BYTE
        tags[_XMP] = metadata.xmp
    if metadata.icc_profile:
        tags.tagtype[TiffImagePlugin.ICCPROFILE] = TiffTags.UNDEFINED
        tags[TiffImagePlugin.ICCPROFILE] = metadata.icc_profile
    file = io.BytesIO()
    tags.save(file)
    return b"".join([file.getvalue(), *strips])
