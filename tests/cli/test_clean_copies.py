"""A clean photo is copied byte for byte, whatever its format and kind of samples."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from autodir.imaging import heif
from autodir.imaging.formats import FORMATS
from autodir.records import ImageMetadata

pytestmark = pytest.mark.usefixtures("restorer")

MODES = {
    "JPEG": "L RGB CMYK", "PNG": "1 L LA P RGB RGBA I;16", "TIFF": "1 L LA P RGB RGBA CMYK I;16",
    "WEBP": "RGB RGBA", "AVIF": "RGB RGBA", "GIF": "L P", "BMP": "1 L P RGB", "PPM": "1 L RGB",
    "TGA": "L P RGB RGBA", "JPEG2000": "L LA RGB RGBA",
}  # fmt: skip


def bright(mode: str) -> PIL.Image.Image:
    image = PIL.Image.fromarray(np.linspace(180, 255, 192).reshape(8, 8, 3).astype(np.uint8))
    if mode == "I;16":
        return PIL.Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return image.convert(mode)


@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name, modes in MODES.items() for mode in modes.split()]
)
def test_a_clean_photo_is_copied(run: Callable[..., int], good: Path, name: str, mode: str) -> None:
    file = io.BytesIO()
    bright(mode).save(file, name)
    check_copy(run, good.parent, FORMATS[name].suffixes[0], file.getvalue())


def test_a_clean_heic_is_copied(run: Callable[..., int], good: Path) -> None:
    pytest.importorskip("pillow_heif")
    samples = np.asarray(bright("RGB"))
    check_copy(run, good.parent, ".heic", heif.encode(samples, ImageMetadata(), 8, None))


def check_copy(run: Callable[..., int], folder: Path, suffix: str, data: bytes) -> None:
    (folder / f"photo{suffix}").write_bytes(data)
    assert run("fix", f"photo{suffix}", "--json") == 0
    assert (folder / f"photo.restored{suffix}").read_bytes() == data


def test_every_format_has_been_copied() -> None:
    assert {*MODES, "HEIF"} == set(FORMATS)
