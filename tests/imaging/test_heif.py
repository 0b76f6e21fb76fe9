"""HEIC: through its library where that is installed, and a clear word where it is not."""

import sys

import numpy as np
import PIL.Image
import pytest

from autodir.errors import ImageError, MissingExtraError
from autodir.imaging import heif
from autodir.imaging.io import encode, from_any, read
from autodir.records import ImageMetadata

HEADER = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.fixture
def smooth() -> np.ndarray:
    rows, columns = np.mgrid[0:40, 0:64]
    return np.stack([rows * 5, columns * 3, 255 - rows * 4], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (HEADER, True),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heixmiaf", True),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", False),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1heic", False),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf" + b"heic", False),
        (b"", False),
        (b"\x89PNG", False),
    ],
)
def test_a_heic_is_known_by_its_brands(data, expected):
    assert heif.is_heif(data) is expected


def test_without_the_library_the_extra_is_named(monkeypatch, smooth):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for attempt in (lambda: read(HEADER), lambda: encode(from_any(smooth), "HEIF")):
        with pytest.raises(MissingExtraError, match="HEIC") as caught:
            attempt()
        assert caught.value.hint == 'pip install "autodir[heif]"'


def test_a_photo_of_a_phone_comes_back_as_it_came(smooth, wide_icc):
    pytest.importorskip("pillow_heif")
    exif = PIL.Image.Exif()
    exif[0x0112], exif[271] = 6, "Maker"
    stated = ImageMetadata(icc_profile=wide_icc, exif=exif.tobytes(), xmp=b"<x:xmpmeta/>")
    data = heif.encode(smooth, stated, 8, None)
    photo = read(data)
    assert photo.metadata.format == "HEIF"
    assert photo.metadata.icc_profile == wide_icc
    assert photo.metadata.xmp == b"<x:xmpmeta/>"
    assert photo.size == (64, 40)  # turned by its own instruction, and once only
    again = read(encode(photo))
    assert again.size == photo.size
    assert again.metadata.exif == photo.metadata.exif
    assert again.metadata.icc_profile == wide_icc
    assert again.metadata.xmp == photo.metadata.xmp
    difference = np.abs(again.to_array().astype(int) - photo.to_array())
    assert difference.mean() < 3


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_more_than_eight_bits_stay_more(channels):
    pytest.importorskip("pillow_heif")
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64, 1).repeat(channels, 2).astype(np.uint16)
    photo = read(encode(from_any(ramp), "HEIF"))
    assert photo.metadata.bit_depth == 16
    assert photo.storage.bits == 10
    again = read(encode(photo))
    assert (again.storage.bits, again.metadata.bit_depth) == (10, 16)
    assert len(np.unique(again.to_array())) > 256
    assert (again.alpha is not None) == (channels == 4)


def test_a_damaged_heic_is_refused(smooth):
    pytest.importorskip("pillow_heif")
    data = heif.encode(smooth, ImageMetadata(), 8, None)
    for damaged in (data[:60], data[: len(data) // 2], HEADER):
        with pytest.raises(ImageError, match="cannot read"):
            read(damaged)
    with pytest.raises(ImageError, match="64 x 40"):
        read(data, max_pixels=64 * 40 - 1)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("urn:mpeg:hevc:2015:auxid:1", True),
        ("urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", True),
        ("urn:com:apple:photo:2020:aux:hdrgainmap", False),
    ],
)
def test_transparency_is_told_from_other_pictures(kind, expected):
    assert heif.is_alpha(kind) is expected
