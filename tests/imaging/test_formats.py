"""What formats hold, and what headers say."""

from pathlib import Path

import PIL.Image
import pytest

from autodir.errors import ImageError
from autodir.imaging import formats


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
    assert len(suffixes) == len(set(suffixes)) == len(formats.WRITTEN_SUFFIXES)
    assert not formats.WRITTEN_SUFFIXES & formats.RAW_SUFFIXES
    assert formats.WRITTEN_SUFFIXES | formats.RAW_SUFFIXES == formats.SUFFIXES


def test_every_format_but_heif_is_one_that_pillow_writes():
    PIL.Image.init()
    assert set(formats.FORMATS) - set(formats.PILLOW_FORMATS) == {"HEIF"}
    assert set(formats.PILLOW_FORMATS) <= set(PIL.Image.SAVE)
    assert set(formats.PILLOW_FORMATS) <= set(PIL.Image.OPEN)
    assert set(formats.ALIASES.values()) <= set(formats.FORMATS)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.jpg", ".jpg"), ("a.HEIC", ".HEIC"), ("a.dng", ".tif"), ("a.CR3", ".tif")],
)
def test_the_result_of_a_raw_file_is_a_tiff(name, suffix):
    assert formats.result_suffix(Path(name)) == suffix


def test_no_photo_is_written_as_a_raw_file():
    with pytest.raises(ImageError, match="unknown suffix"):
        formats.format_of_suffix(Path("a.dng"))


def test_sizes_are_limited_by_pixels():
    formats.check_size(10, 20, "a", 200)
    with pytest.raises(ImageError, match=r"20 x 10 = 0\.0 megapixels") as caught:
        formats.check_size(10, 20, "a", 199)
    assert "--max-pixels" in caught.value.hint
    with pytest.raises(ImageError, match="0 x 3"):
        formats.check_size(3, 0, "a", 199)
