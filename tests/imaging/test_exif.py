"""EXIF blocks, changed in place."""

import numpy as np
import PIL.Image
import pytest
from PIL import ImageOps

from autodir.imaging import exif


def block(orientation: int | None = 6, big_endian: bool = True) -> bytes:
    tags = PIL.Image.Exif()
    tags.endian = ">" if big_endian else "<"
    tags[271] = "Maker"
    if orientation is not None:
        tags[0x0112] = orientation
    tags.get_ifd(0x8769)[0xA002] = 640
    tags.get_ifd(0x8769)[0xA003] = 480
    tags.get_ifd(0x8769)[0x927C] = b"maker note \x00\x01"
    return tags.tobytes()


def parsed(data: bytes) -> PIL.Image.Exif:
    tags = PIL.Image.Exif()
    tags.load(data)
    return tags


@pytest.mark.parametrize("value", range(1, 9))
def test_the_orientation_is_read(value):
    assert exif.orientation(block(value)) == value


@pytest.mark.parametrize("data", [None, b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"x" * 40])
def test_malformed_blocks_mean_upright_and_are_kept(data):
    assert exif.orientation(data) == 1
    if data is not None:
        assert exif.for_pixels(data, (3, 4)) == data


def test_an_orientation_out_of_range_means_upright():
    assert exif.orientation(block(9)) == 1
    assert exif.orientation(block(None)) == 1


def test_orientation_and_size_change_and_nothing_else_does():
    before = block(6)
    after = exif.for_pixels(before, (640, 480))
    assert len(after) == len(before)
    assert sum(a != b for a, b in zip(after, before, strict=True)) <= 5
    tags = parsed(after)
    assert tags[0x0112] == 1
    assert tags.get_ifd(0x8769)[0xA002] == 480
    assert tags.get_ifd(0x8769)[0xA003] == 640
    assert tags.get_ifd(0x8769)[0x927C] == b"maker note \x00\x01"
    assert tags[271] == "Maker"


@pytest.mark.parametrize("count", [b"\0\x02", b"\0\xff", b"\xff\xff"])
def test_a_block_that_ends_too_soon_is_turned_once(count):
    data = b"Exif\0\0MM\0*\0\0\0\x08" + count + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
    assert exif.orientation(data) == 6
    after = exif.for_pixels(data, (1, 1))
    assert exif.orientation(after) == 1
    assert len(after) == len(data)


def test_an_orientation_of_another_type_means_upright():
    before = block(6)
    entry = before.index(b"\x01\x12\0\x03")
    assert exif.orientation(before[:entry] + b"\x01\x12\0\x01" + before[entry + 4 :]) == 1


def test_a_size_that_a_short_number_cannot_hold_is_left():
    data = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\0\0\x03\0\0\0\x01\0\x07\0\0\0\0\0\0"
    assert exif.for_pixels(data, (1, 70_000)) == data
    assert exif.for_pixels(data, (1, 9)) == data.replace(b"\0\x07", b"\0\x09")


def test_the_stale_thumbnail_is_unlinked():
    # one folder with one entry, linked to a second folder at offset 26
    first = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
    data = b"Exif\0\0" + first + b"\0\0\0\x1a" + b"\0\0"
    after = exif.for_pixels(data, (1, 1))
    assert after == data.replace(b"\0\x06\0\0\0\0\0\x1a", b"\0\x01\0\0\0\0\0\0")


def test_xmp_orientation_is_reset_in_both_spellings():
    packet = b"<a tiff:Orientation='6' b='6'/><tiff:Orientation>8</tiff:Orientation>"
    assert exif.upright_xmp(packet) == packet.replace(b"'6' b", b"'1' b").replace(b">8<", b">1<")


@pytest.mark.parametrize("value", range(1, 9))
def test_turning_equals_pillow(value):
    samples = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    image = PIL.Image.fromarray(samples)
    tags = image.getexif()
    tags[0x0112] = value
    upright = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(exif.turn(samples, value), upright)
