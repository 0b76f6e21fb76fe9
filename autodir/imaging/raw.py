"""The raw files of cameras, developed by LibRaw through rawpy.

Apart because it is the extra ``raw`` (rawpy: MIT, LibRaw: LGPL), and because a raw file is no
picture yet: it is developed once, and the result is a TIFF.
"""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from autodir.errors import MissingExtraError
from autodir.imaging import tiff

_STARTS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM")
_SENSOR = frozenset({32803, 34892})  # photometric: color filter array, linear raw
_PHOTOMETRIC, _SUB_FOLDERS, _DNG_VERSION = 262, 330, 50706
_CURVE = (2.4, 12.92)  # of sRGB, as LibRaw counts


def is_raw(data: bytes) -> bool:
    """Whether a file holds what a sensor saw. Most are TIFFs whose first picture is a thumbnail."""
    if data.startswith(_STARTS) or data[8:10] == b"CR" or data[4:12] == b"ftypcrx ":
        return True
    try:
        tags = tiff.tags_of(data)
        return tags is not None and _has_sensor(data, tags)
    except (
        Exception
    ):  # damaged tags raise nearly anything, and are then read as what they look like
        return False


def _has_sensor(data: bytes, tags: tiff.Tags) -> bool:
    """Whether the first folder of tags or one below it describes a sensor."""
    if _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _SENSOR:
        return True
    below = tags.get(_SUB_FOLDERS, ())
    for offset in (below if isinstance(below, tuple) else (below,))[:16]:
        folder = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(int(offset))
        folder.load(file)
        if folder.get(_PHOTOMETRIC) in _SENSOR:
            return True
    return False


def open_raw(data: bytes) -> Any:
    """The opened file, to be closed by its user; ``sizes`` says its size before it is developed.

    Raises:
        MissingExtraError: rawpy is not installed.
        Exception: whatever rawpy raises for damaged files.
    """
    try:
        rawpy = importlib.import_module("rawpy")
    except ImportError as error:
        raise MissingExtraError(
            "raw files of cameras need rawpy", 'pip install "autodir[raw]"'
        ) from error
    return rawpy.imread(io.BytesIO(data))


def develop(opened: Any) -> NDArray[Any]:
    """SRGB samples (H, W, 3) uint16, upright, with the camera's white balance and exposure."""
    developed = opened.postprocess(
        use_camera_wb=True, no_auto_bright=True, output_bps=16, gamma=_CURVE
    )
    samples: NDArray[Any] = np.ascontiguousarray(developed)
    return samples
