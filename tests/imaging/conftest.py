"""Pictures and profiles for the tests of imaging."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))


def _text(words: str) -> bytes:
    data = words.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(data), 28) + data


def _profile(red: tuple, green: tuple, blue: tuple, gamma: float) -> bytes:
    """A version 4 display profile of three primaries (XYZ, adapted to D50) and one gamma."""
    tags = {
        b"desc": _text("Test"),
        b"cprt": _text("None"),
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": _xyz(*red),
        b"gXYZ": _xyz(*green),
        b"bXYZ": _xyz(*blue),
        b"rTRC": _curve(gamma),
        b"gTRC": _curve(gamma),
        b"bTRC": _curve(gamma),
    }
    table, body, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    size = offset + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    header += struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


@pytest.fixture(scope="session")
def wide_icc() -> bytes:
    """Primaries of Adobe RGB, gamma 2.2."""
    return _profile(
        (0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446), 2.2
    )


@pytest.fixture(scope="session")
def srgb_icc() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """uint8 (12, 17, 3): gradients, different in each corner and channel."""
    rows, columns = np.mgrid[0:12, 0:17]
    return np.stack([rows * 20, columns * 15, (rows + columns) * 9], axis=-1).astype(np.uint8)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Save an array or a Pillow image under a name, with Pillow's options."""

    def save(image: np.ndarray | PIL.Image.Image, name: str = "photo.png", **options) -> Path:
        path = tmp_path / name
        picture = image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)
        picture.save(path, **options)
        return path

    return save


@pytest.fixture
def reopened() -> Callable[[bytes], PIL.Image.Image]:
    """Open the bytes of a file with Pillow and decode them."""

    def reopen(data: bytes) -> PIL.Image.Image:
        image = PIL.Image.open(io.BytesIO(data))
        image.load()
        return image

    return reopen
