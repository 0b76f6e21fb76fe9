"""The raw files of cameras: a made-up one, and a clear word where the library is missing."""

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import TiffImagePlugin

from autodir.errors import ImageError, MissingExtraError
from autodir.imaging import raw
from autodir.imaging.io import encode, read


@pytest.fixture
def dng() -> Callable[..., bytes]:
    """A DNG of one gray level behind a Bayer pattern, as ``tags`` change it."""

    def make(level: int = 8000, **tags: Any) -> bytes:
        sensor = np.full((48, 64), level, "<u2").tobytes()
        folder = TiffImagePlugin.ImageFileDirectory_v2()
        values = {
            "ImageWidth": (256, 4, 64), "ImageLength": (257, 4, 48), "Bits": (258, 3, 16),
            "Compression": (259, 3, 1), "Photometric": (262, 3, 32803), "Make": (271, 2, "Maker"),
            "Model": (272, 2, "Camera"), "Offset": (273, 4, 0), "Samples": (277, 3, 1),
            "Rows": (278, 4, 48), "Bytes": (279, 4, len(sensor)), "Dim": (33421, 3, (2, 2)),
            "Pattern": (33422, 1, bytes([0, 1, 1, 2])), "Version": (50706, 1, bytes([1, 4, 0, 0])),
            "UniqueModel": (50708, 2, "Camera"), "White": (50717, 4, 16000),
            "Matrix": (50721, 10, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)),
            "Neutral": (50728, 5, (1.0, 1.0, 1.0)),
        }  # fmt: skip
        for tag, kind, value in {**values, **tags}.values():
            folder.tagtype[tag] = kind
            folder[tag] = value
        file = io.BytesIO()
        folder.save(file)
        return file.getvalue() + sensor

    return make


def test_a_raw_file_is_known_by_what_it_holds(dng, picture, saved):
    assert raw.is_raw(dng())
    assert raw.is_raw(dng(Version=(270, 2, "no DNG")))  # the color filter array tells
    assert raw.is_raw(b"FUJIFILMCCD-RAW 0201")
    assert raw.is_raw(b"II*\0\x10\0\0\0CR\x02\0")
    assert raw.is_raw(b"\0\0\0\x18ftypcrx ")
    for name in ("a.tif", "a.png", "a.jpg"):
        assert not raw.is_raw(saved(picture, name).read_bytes())
    for data in (b"", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff"):
        assert not raw.is_raw(data)


def test_without_the_library_the_extra_is_named(monkeypatch, dng):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(MissingExtraError, match="raw files") as caught:
        read(dng())
    assert caught.value.hint == 'pip install "autodir[raw]"'


def test_a_raw_file_is_developed_into_sixteen_bits(dng):
    pytest.importorskip("rawpy")
    photo = read(dng())
    assert photo.size == (48, 64)
    assert (photo.metadata.format, photo.metadata.bit_depth) == ("", 16)
    assert b"Maker" in (photo.metadata.exif or b"")
    assert photo.pixels[1].mean() == pytest.approx(0.735, abs=0.03)  # half of the light, in sRGB
    again = read(encode(photo, "TIFF"))
    assert np.array_equal(again.to_array(), photo.to_array())
    assert again.metadata.exif is not None


def test_a_raw_file_is_turned_upright(dng):
    pytest.importorskip("rawpy")
    assert read(dng(Orientation=(274, 3, 6))).size == (64, 48)


def test_a_large_or_damaged_raw_file_is_refused(dng):
    pytest.importorskip("rawpy")
    with pytest.raises(ImageError, match="64 x 48"):
        read(dng(), max_pixels=64 * 48 - 1)
    with pytest.raises(ImageError, match="cannot read"):
        read(dng()[:300])
