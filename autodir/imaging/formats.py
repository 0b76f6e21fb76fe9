"""What each file format can hold of a photo, and how a file held one.

Apart because formats differ in everything but their pixels; a new one is added to this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodir.errors import ImageError


@dataclass(frozen=True, kw_only=True)
class Format:
    """What a format can hold of a photo.

    Attributes:
        suffixes: of its files, in lower case; the first is the usual one.
        has_alpha: transparency.
        deep: 16 bits a sample are written, for "gray", for "color", for both ("gray color"), or "".
        has_float: floats are written, for gray and for color.
        has_cmyk: four inks.
        has_profile: ICC, EXIF and XMP can be stored.
    """

    suffixes: tuple[str, ...]
    has_alpha: bool = False
    deep: str = ""
    has_float: bool = False
    has_cmyk: bool = False
    has_profile: bool = False


FORMATS: dict[str, Format] = {
    "JPEG": Format(suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"), has_cmyk=True, has_profile=True),
    "PNG": Format(suffixes=(".png",), has_alpha=True, deep="gray color", has_profile=True),
    "TIFF": Format(
        suffixes=(".tif", ".tiff"),
        has_alpha=True,
        deep="gray color",
        has_float=True,
        has_cmyk=True,
        has_profile=True,
    ),
    "WEBP": Format(suffixes=(".webp",), has_alpha=True, has_profile=True),
    "AVIF": Format(suffixes=(".avif",), has_alpha=True, has_profile=True),
    "HEIF": Format(
        suffixes=(".heic", ".heif", ".hif"), has_alpha=True, deep="gray color", has_profile=True
    ),
    "BMP": Format(suffixes=(".bmp", ".dib")),
    "GIF": Format(suffixes=(".gif",), has_alpha=True),
    "PPM": Format(suffixes=(".ppm", ".pgm", ".pbm", ".pnm"), deep="gray color"),
    "TGA": Format(suffixes=(".tga",), has_alpha=True),
    "JPEG2000": Format(suffixes=(".jp2", ".j2k", ".jpx"), has_alpha=True, deep="gray"),
}
"""The formats read and written, by Pillow's names; pillow-heif reads and writes HEIF."""

PILLOW_FORMATS = tuple(name for name in FORMATS if name != "HEIF")
"""Those that Pillow itself reads and writes."""

ALIASES = {"MPO": "JPEG", "DIB": "BMP"}
"""What Pillow may call a file in one of the formats, and which one it is."""

RAW_SUFFIXES = frozenset({
    ".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2",
    ".pef", ".srw", ".3fr", ".iiq", ".erf", ".mrw", ".kdc", ".dcr", ".mef", ".mos",
})  # fmt: skip
"""Of the raw files of cameras, which are read only."""

WRITTEN_SUFFIXES = frozenset(suffix for entry in FORMATS.values() for suffix in entry.suffixes)
"""The suffixes that a result may have."""

SUFFIXES = WRITTEN_SUFFIXES | RAW_SUFFIXES
"""The suffixes by which a folder's photos are recognized."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How a file held its samples; a result is stored alike, as far as its format can.

    Attributes:
        is_lossless: compressed without loss, where the format gives the choice.
        is_progressive: JPEG: coarse first, then finer.
        quantization: JPEG: the steps, by number of table.
        bits: HEIF: of a sample.
        codes: HEIF: of the color space, where it has no profile.
        kept: JPEG segments or PNG chunks that go into the result as they are.
        space: the color space of the file's own samples: a profile, or a `MatrixSpace`.
    """

    is_lossless: bool = False
    is_progressive: bool = False
    quantization: Mapping[int, list[int]] | None = None
    bits: int = 8
    codes: Any = None
    kept: bytes = b""
    space: Any = None


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


def result_suffix(path: Path) -> str:
    """The suffix of a photo's result: its own, and that of a TIFF for a camera's raw file."""
    return ".tif" if path.suffix.lower() in RAW_SUFFIXES else path.suffix


def check_size(height: int, width: int, name: str, max_pixels: int) -> None:
    """Refuse a photo by the size that its header states.

    Raises:
        ImageError: it has no pixels, or more than ``max_pixels``.
    """
    if width < 1 or height < 1:
        raise ImageError(f"{name} has {width} x {height} pixels")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width} x {height} = {width * height / 1e6:.1f} megapixels, "
            f"more than the limit of {max_pixels / 1e6:.1f}",
            hint="raise --max-pixels if the file is to be trusted",
        )
