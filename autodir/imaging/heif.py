"""HEIC and HEIF, the photos of phones, through pillow-heif.

Apart because it is the extra ``heif``: its wheels carry libheif (LGPL) and x265 (GPL).
"""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autodir.errors import ImageError, MissingExtraError
from autodir.records import ImageMetadata

_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_MODES = ("L", "LA", "RGB", "RGBA")
_QUALITY = 90


def is_heif(data: bytes) -> bool:
    """Whether a file calls itself one of pictures coded by HEVC."""
    if data[4:8] != b"ftyp":
        return False
    header = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    brands = {header[:4], *(header[at : at + 4] for at in range(8, len(header), 4))}
    return bool(brands & _BRANDS) and header[:4] not in (b"avif", b"avis")


def _library() -> Any:
    try:
        return importlib.import_module("pillow_heif")
    except ImportError as error:
        raise MissingExtraError(
            "HEIC photos need pillow-heif", 'pip install "autodir[heif]"'
        ) from error


def is_alpha(kind: str) -> bool:
    """Whether an auxiliary picture of this kind (a URN) is the transparency of the photo."""
    return kind.endswith((":alpha", "auxid:1"))


def open_heif(data: bytes) -> Any:
    """The opened file: its ``len`` is the number of pictures, the first of which is the photo.

    Nothing is decoded yet; ``size`` is (width, height).

    Raises:
        MissingExtraError: pillow-heif is not installed.
        Exception: whatever pillow-heif raises for damaged files.
    """
    return _library().open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)


def decode(opened: Any) -> NDArray[Any]:
    """The samples (H, W, 1 to 4), uint8, or uint16 over its whole range.

    Raises:
        ImageError: the file has a layout of its own.
    """
    depth = 16 if ";16" in opened.mode else 8
    if opened.mode.partition(";")[0] not in (*_MODES, "I"):  # I;16 is gray of more than 8 bits
        raise ImageError(f"HEIF in the layout {opened.mode} is not supported")
    samples = np.ascontiguousarray(np.asarray(opened))
    return samples.astype(np.uint8 if depth == 8 else np.uint16).reshape(*samples.shape[:2], -1)


def encode(samples: NDArray[Any], metadata: ImageMetadata, bits: int, coded: Any) -> bytes:
    """A HEIC of uint8 or uint16 (H, W, 1 to 4).

    Args:
        samples: what to write.
        metadata: what goes into the file besides.
        bits: of the source; uint16 gets 10 of its 16, or 12 where the source has them.
        coded: the color codes of the source, which stand in place of a profile.

    Raises:
        MissingExtraError: pillow-heif is not installed.
    """
    height, width, channels = samples.shape
    mode = _MODES[channels - 1] + (";16" if samples.dtype == np.uint16 else "")
    stated = {
        "exif": metadata.exif,
        "xmp": metadata.xmp,
        "icc_profile": metadata.icc_profile,
        "nclx_profile": coded,
    }
    file = io.BytesIO()
    _library().encode(
        mode,
        (width, height),
        samples.tobytes(),
        file,
        quality=_QUALITY,
        chroma=444,
        bit_depth=12 if bits == 12 else 10,
        **{name: value for name, value in stated.items() if value},
    )
    return file.getvalue()
