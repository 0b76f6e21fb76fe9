"""PNG: chunks, stated colors, 16 bits."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from autodir.errors import ImageError
from autodir.imaging import png
from autodir.imaging.io import encode, from_any, read


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def gamma(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", value))


P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
PRIMARIES = chunk(b"cHRM", struct.pack(">8I", *P3))


def with_header(image: np.ndarray, chunks: bytes) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "PNG")
    return file.getvalue()[:33] + chunks + file.getvalue()[33:]


@pytest.mark.parametrize("value", [100_000, 55_556, 30_000])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_stated_gamma_is_worked_out_and_kept(picture, value, mode, reopened):
    stored = picture if mode == "RGB" else picture[..., 0]
    data = with_header(stored, gamma(value))
    photo = read(data)
    assert photo.native is not None or mode == "L"
    if value == 100_000 and mode == "RGB":  # linear light: brighter in sRGB
        assert photo.to_array().mean() > picture.mean() + 20
    result = reopened(encode(photo))
    assert result.info["gamma"] == pytest.approx(value / 100_000)
    assert np.array_equal(np.asarray(result), stored)


def test_stated_primaries_are_worked_out_and_kept(picture, reopened):
    data = with_header(picture, PRIMARIES + gamma(45455))
    photo = read(data)
    assert not np.array_equal(photo.to_array(), picture)
    result = reopened(encode(photo))
    assert result.info["chromaticity"] == reopened(data).info["chromaticity"]
    assert np.array_equal(np.asarray(result), picture)


def test_a_gamma_goes_with_its_file_only(picture, reopened):
    photo = read(with_header(picture, gamma(100_000)))
    result = reopened(encode(photo, "TIFF"))
    assert np.array_equal(np.asarray(result), photo.to_array())


def test_a_deep_photo_with_a_gamma_keeps_its_levels():
    samples = np.random.default_rng(0).integers(0, 65536, (9, 8, 3)).astype(np.uint16)
    data = encode(from_any(samples), "PNG")
    data = data[:33] + gamma(100_000) + data[33:]
    photo = read(data)
    assert not np.array_equal(photo.to_array(), samples)
    assert photo.native is not None
    assert np.array_equal(photo.native, samples)
    again = read(encode(photo))
    assert again.native is not None
    assert np.array_equal(again.native, samples)


@pytest.mark.parametrize(
    "chunks",
    [
        b"",
        gamma(45455),
        gamma(0),
        gamma(0xFFFFFFFF),
        chunk(b"sRGB", b"\0") + gamma(100_000),
        chunk(b"cICP", bytes([1, 13, 0, 1])) + gamma(100_000),
        chunk(b"cHRM", b"\0" * 32),
    ],
)
def test_the_usual_numbers_and_senseless_ones_mean_srgb(picture, chunks):
    assert png.color_space(with_header(picture, chunks)) is None
    assert np.array_equal(read(with_header(picture, chunks)).to_array(), picture)


@pytest.mark.parametrize("code", [bytes([12, 13, 0, 1]), bytes([9, 13, 0, 1]), bytes([1, 8, 0, 1])])
def test_coded_spaces_are_worked_out_and_kept(picture, code, reopened):
    data = with_header(picture, chunk(b"cICP", code))
    photo = read(data)
    assert not np.array_equal(photo.to_array(), picture)
    result = encode(photo)
    assert chunk(b"cICP", code) in result
    assert np.array_equal(np.asarray(reopened(result)), picture)


@pytest.mark.parametrize(
    ("code", "words"), [((9, 16), "high dynamic range"), ((9, 18), "PQ or HLG"), ((5, 13), "5/13")]
)
def test_other_coded_spaces_are_refused_with_the_reason(picture, code, words):
    with pytest.raises(ImageError, match=words):
        read(with_header(picture, chunk(b"cICP", bytes([*code, 0, 1]))))


@pytest.mark.parametrize("is_deep", [False, True])
def test_words_are_carried_on(picture, reopened, is_deep):
    words = chunk(b"tEXt", b"Author\0Me") + chunk(b"iTXt", b"Title\0\0\0\0\0A t\xc3\xaetle")
    stored = picture.astype(np.uint16) * 257 if is_deep else picture
    data = encode(from_any(stored), "PNG")
    photo = read(data[:33] + words + chunk(b"tIME", b"\0" * 7) + data[33:])
    result = encode(photo)
    assert words in result
    assert b"tIME" not in result
    assert reopened(result).text == {"Author": "Me", "Title": "A tîtle"}
    assert b"Author" not in encode(photo, "TIFF")


@pytest.mark.parametrize("xmp", [b"<x:xmpmeta/>", "<x>ü</x>".encode("utf-16"), b"\xff\xfe\0"])
def test_xmp_comes_back_byte_for_byte_whatever_its_coding(picture, xmp):
    data = with_header(picture, png.xmp_chunk(xmp))
    assert read(data).metadata.xmp == xmp
    assert read(encode(read(data))).metadata.xmp == xmp


def test_filters_make_a_smooth_deep_png_smaller_than_its_samples():
    ramp = np.arange(64 * 64 * 3, dtype=np.uint16).reshape(64, 64, 3) * 5
    assert len(encode(from_any(ramp), "PNG")) < ramp.nbytes / 10
