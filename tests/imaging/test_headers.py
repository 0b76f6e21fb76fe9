"""What headers say."""

import io

import numpy as np
import PIL.Image
import pytest

from autodir.errors import ImageError
from autodir.imaging import headers


def test_eight_bit_files_are_not_deep(saved, picture):
    for name in ("a.png", "a.tif", "a.ppm", "a.jpg"):
        data = saved(picture, name).read_bytes()
        assert not headers.is_deep_color(PIL.Image.open(io.BytesIO(data)), data)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("icc", [b"", b"VP8 or VP8L" * 1000])
def test_a_lossless_webp_is_known_by_its_chunk(picture, lossless, icc):
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "WEBP", lossless=lossless, icc_profile=icc)
    assert headers.is_lossless_webp(file.getvalue()) is lossless


@pytest.mark.parametrize("data", [b"", b"RIFF....WEBP", b"RIFF....WEBPVP8X\x02\0\0\0", b"\x89PNG"])
def test_what_is_no_whole_webp_is_not_lossless(data):
    assert not headers.is_lossless_webp(data)


def test_deep_gray_is_left_to_pillow(saved):
    deep = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    data = saved(deep, "a.png").read_bytes()
    assert not headers.is_deep_color(PIL.Image.open(io.BytesIO(data)), data)


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
    assert headers.lost_bits(image, data) == bits


def test_the_color_type_of_a_png_is_read(picture, saved):
    assert headers.png_color_type(saved(picture, "a.png").read_bytes()) == 2
    assert headers.png_color_type(saved(picture[..., 0], "b.png").read_bytes()) == 0


def test_a_ppm_of_too_few_samples_or_of_text_is_refused():
    with pytest.raises(ValueError, match="buffer"):
        headers.read_deep_ppm((2, 2), b"P6\n2 2\n65535\n" + b"\0" * 10)
    with pytest.raises(ImageError, match="as text"):
        headers.read_deep_ppm((2, 2), b"P3\n2 2\n65535\n1 2 3")
