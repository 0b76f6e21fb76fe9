"""What formats hold, and what headers say."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from autodir.errors import ImageError
from autodir.imaging import formats


@pytest.mark.parametrize("quality", [1, 10, 30, 50, 75, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_estimated(picture, quality):
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "JPEG", quality=quality)
    table = PIL.Image.open(file).quantization[0]
    assert abs(formats.jpeg_quality(list(table)) - quality) <= 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", "JPEG"),
        ("a.JPEG", "JPEG"),
        ("a.tif", "TIFF"),
        ("a.b.png", "PNG"),
        ("a.pgm", "PPM"),
    ],
)
def test_a_suffix_names_a_format(name, expected):
    assert formats.format_of_suffix(Path(name)) == expected


@pytest.mark.parametrize("name", ["a", "a.txt", "a.psd"])
def test_an_unknown_suffix_is_refused(name):
    with pytest.raises(ImageError, match="unknown suffix") as caught:
        formats.format_of_suffix(Path(name))
    assert ".png" in caught.value.hint


def test_every_suffix_belongs_to_one_format():
    suffixes = [suffix for entry in formats.FORMATS.values() for suffix in entry.suffixes]
    assert len(suffixes) == len(set(suffixes)) == len(formats.SUFFIXES)


def test_every_format_is_one_that_pillow_writes():
    PIL.Image.init()
    assert set(formats.FORMATS) <= set(PIL.Image.SAVE)
    assert set(formats.FORMATS) <= set(PIL.Image.OPEN)
    assert set(formats.ALIASES.values()) <= set(formats.FORMATS)


def test_eight_bit_files_are_not_deep(saved, picture):
    for name in ("a.png", "a.tif", "a.ppm", "a.jpg"):
        data = saved(picture, name).read_bytes()
        assert not formats.is_deep_color(PIL.Image.open(io.BytesIO(data)), data)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("icc", [b"", b"VP8 or VP8L" * 1000])
def test_a_lossless_webp_is_known_by_its_chunk(picture, lossless, icc):
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "WEBP", lossless=lossless, icc_profile=icc)
    assert formats.is_lossless_webp(file.getvalue()) is lossless


@pytest.mark.parametrize("data", [b"", b"RIFF....WEBP", b"RIFF....WEBPVP8X\x02\0\0\0", b"\x89PNG"])
def test_what_is_no_whole_webp_is_not_lossless(data):
    assert not formats.is_lossless_webp(data)


def test_deep_gray_is_left_to_pillow(saved):
    deep = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    data = saved(deep, "a.png").read_bytes()
    assert not formats.is_deep_color(PIL.Image.open(io.BytesIO(data)), data)


@pytest.mark.parametrize(
    ("format", "data", "bits"),
    [
        ("AVIF", b"....pixi\0\0\0\0\x03\x0a\x0a\x0a", 10),
        ("AVIF", b"....pixi\0\0\0\0\x03\x08\x08\x08", 0),
        ("AVIF", b"", 0),
        ("JPEG2000", b"\xff\x4f\xff\x51" + b"\0" * 38 + b"\x0b", 12),
        ("JPEG2000", b"\xff\x4f\xff\x51" + b"\0" * 38 + b"\x07", 0),
        ("PNG", b"pixi", 0),
    ],
)
def test_bits_that_would_be_lost_are_found(format, data, bits):
    image = PIL.Image.new("RGB", (1, 1))
    image.format = format
    assert formats.lost_bits(image, data) == bits
