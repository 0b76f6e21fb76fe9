"""TIFF: what is read whole, what is refused, what is written."""

import cv2
import numpy as np
import PIL.Image
import pytest
from PIL import TiffImagePlugin

from autodir.errors import ImageError
from autodir.imaging import tiff
from autodir.imaging.io import encode, from_any, read
from autodir.records import ImageMetadata


def changed(data: bytes, tag: int, value: int) -> bytes:
    """The file with the one number of a tag changed in place."""
    count = int.from_bytes(data[8:10], "little")
    for at in range(10, 10 + 12 * count, 12):
        if int.from_bytes(data[at : at + 2], "little") == tag:
            return data[: at + 8] + value.to_bytes(4, "little") + data[at + 12 :]
    raise AssertionError(f"no tag {tag}")


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape).astype(np.float32)


def written(samples: np.ndarray, code: int = 1) -> bytes:
    """By OpenCV."""
    options = (cv2.IMWRITE_TIFF_COMPRESSION, code)
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[samples.shape[2]]
    return bytes(cv2.imencode(".tiff", np.ascontiguousarray(samples[..., order]), options)[1])


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("code", [1, 5, 8], ids=["plain", "LZW", "deflate"])
def test_floats_come_back_bit_for_bit(channels, code):
    samples = floats(9, 7, channels)
    photo = read(written(samples, code))
    assert photo.metadata.bit_depth == 32
    assert photo.is_gray == (channels == 1)
    result = encode(photo)
    again = cv2.imdecode(np.frombuffer(result, np.uint8), cv2.IMREAD_UNCHANGED)
    again = again.reshape(9, 7, -1)[..., {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]]
    assert again.dtype == np.float32
    assert np.array_equal(again, samples)
    assert np.array_equal(read(result).to_array(), photo.to_array())


def test_floats_of_a_profile_come_back_bit_for_bit(wide_icc):
    photo = read(tiff.encode(floats(6, 5, 3), ImageMetadata(icc_profile=wide_icc)))
    assert photo.metadata.icc_profile == wide_icc
    assert photo.native is not None
    again = read(encode(photo))
    assert again.native is not None
    assert np.array_equal(again.native, photo.native)


def test_floats_become_integers_where_a_format_has_no_floats(caplog):
    photo = read(written(floats(6, 5, 3)))
    png = read(encode(photo, "PNG"))
    assert png.metadata.bit_depth == 16
    assert "PNG holds 16 bits a sample, the photo has 32" in caplog.text
    assert np.abs(png.to_array() / 65535 - photo.to_array()).max() < 1e-5


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
def test_floats_outside_the_range_are_refused(value):
    samples = floats(4, 4, 3)
    samples[2, 1, 0] = value
    with pytest.raises(ImageError, match="floats outside"):
        read(written(samples))


def test_doubles_are_cut_and_that_is_said(caplog):
    data = bytes(cv2.imencode(".tiff", floats(4, 5, 3).astype(np.float64))[1])
    assert read(data).metadata.bit_depth == 32
    assert "64 bits a sample, of which 32 are kept" in caplog.text


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_negative_is_read_as_a_positive(dtype):
    top = np.iinfo(dtype).max
    samples = (floats(5, 6, 1) * top).astype(dtype)
    data = changed(tiff.encode(samples, ImageMetadata()), 262, 0)
    photo = read(data)
    assert np.array_equal(photo.to_array()[..., 0], top - samples[..., 0])
    assert np.array_equal(read(encode(photo)).to_array(), photo.to_array())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colors_multiplied_by_alpha_are_divided_again(dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    samples = np.full((3, 4, 4), 0.25) * top
    samples[..., 3] = 0.5 * top
    samples[0, 0] = 0
    stored = samples.astype(dtype)
    data = tiff.encode(stored, ImageMetadata())
    photo = read(changed(data, TiffImagePlugin.EXTRASAMPLES, 1))
    assert photo.pixels[:, 1, 1].tolist() == pytest.approx([0.5] * 3, abs=0.01)
    assert photo.alpha is not None
    assert photo.alpha[0, 0] == 0


@pytest.mark.parametrize(
    ("samples", "tag", "value", "words"),
    [
        (np.zeros((4, 4, 3), np.uint8), 339, 2, "a sign"),
        (np.zeros((4, 4, 4), np.uint8), 338, 0, "neither color nor transparency"),
        (np.zeros((4, 4, 4), np.uint16), 262, 5, "16 bits a sample in the layout 5"),
        (np.zeros((4, 4, 3), np.uint16), 262, 8, "16 bits a sample in the layout 8"),
        (np.zeros((4, 4, 3), np.float32), 262, 8, "floats of 32 bits in the layout 8"),
        (np.zeros((4, 4, 2), np.uint16), 277, 2, "gray and transparency of 16 bits"),
        (np.zeros((4, 4, 4), np.uint8), 262, 1, "3 channels besides its colors"),
    ],
)
def test_what_would_be_read_in_part_is_refused(samples, tag, value, words):
    data = tiff.encode(samples, ImageMetadata(mode="LA" if samples.shape[2] == 2 else "RGB"))
    if tag == 339 and samples.dtype != np.float32:
        tags = tiff.tags_of(data)
        assert tags is not None
        tags[tag] = value
        with pytest.raises(ImageError, match=words):
            tiff.check_kind(tags, "the input")
        return
    with pytest.raises(ImageError, match=words):
        read(changed(data, tag, value))


@pytest.mark.parametrize("bits", [(32,), (24, 24, 24)])
def test_integers_of_many_bits_are_refused(bits):
    tags = tiff.Tags()
    tags[TiffImagePlugin.BITSPERSAMPLE] = bits
    with pytest.raises(ImageError, match=f"integers of {bits[0]} bits"):
        tiff.check_kind(tags, "a.tif")


def test_deep_gray_with_alpha_is_written_so_that_others_read_it():
    samples = (floats(5, 6, 2) * 65535).astype(np.uint16)
    photo = read(encode(from_any(samples), "TIFF"))
    assert photo.metadata.mode == "RGBA"
    assert np.array_equal(photo.to_array(), samples[..., [0, 0, 0]])
    assert photo.alpha is not None
    assert np.array_equal((photo.alpha * 65535).round().numpy(), samples[..., 1])


def test_words_of_the_photo_are_told_from_its_storage(picture):
    image = PIL.Image.fromarray(picture)
    exif = image.getexif()
    exif[270], exif[33432], exif[256] = "a caption", "rights", 999
    block = tiff.photo_tags(exif)
    assert block is not None
    kept = PIL.Image.Exif()
    kept.load(block)
    assert dict(kept) == {270: "a caption", 33432: "rights"}
    assert tiff.photo_tags(PIL.Image.Exif()) is None


def test_pages_of_floats_are_refused():
    data = written(floats(4, 4, 3))
    count = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[count : count + 2], "little")
    end = count + 2 + 12 * entries
    assert data[end : end + 4] == b"\0" * 4
    with pytest.raises(ImageError, match="several pages"):
        read(data[:end] + b"\x08\0\0\0" + data[end + 4 :])


def test_a_tiff_whose_tags_are_cut_is_refused(picture):
    data = encode(from_any(picture), "TIFF")
    with pytest.raises(ImageError, match="cannot read"):
        read(data[:60])
