"""JPEG's quality and segments."""

import io
import struct

import PIL.Image
import pytest

from autodir.imaging import jpeg
from autodir.imaging.io import encode, read


def resource(number: int, content: bytes, name: bytes = b"") -> bytes:
    label = bytes([len(name)]) + name + b"\0" * (1 - len(name) % 2)
    return (
        b"8BIM"
        + struct.pack(">H", number)
        + label
        + struct.pack(">I", len(content))
        + (content + b"\0" * (len(content) % 2))
    )


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


CAPTION = resource(1028, b"\x1c\x02\x78\0\x05words", b"ab")
LONG_XMP = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"1" * 60)


@pytest.fixture
def photo(picture) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "JPEG", comment=b"a comment", xmp=b"<x/>")
    return file.getvalue()


@pytest.mark.parametrize("quality", [1, 10, 30, 50, 75, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_estimated(picture, quality):
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "JPEG", quality=quality)
    table = PIL.Image.open(file).quantization[0]
    assert abs(jpeg.quality_of(list(table)) - quality) <= 1


def test_captions_comments_and_long_xmp_are_carried_on(photo, reopened):
    block = b"Photoshop 3.0\0" + CAPTION + resource(1036, b"old picture") + resource(1037, b"x")
    data = photo[:2] + segment(0xED, block) + LONG_XMP + segment(0xE5, b"other") + photo[2:]
    kept = jpeg.kept_segments(data)
    assert kept.count(b"\xff\xed") == 1
    assert CAPTION in kept
    assert b"old picture" not in kept
    assert LONG_XMP in kept
    assert b"other" not in kept
    result = encode(read(data))
    assert reopened(result).info["comment"] == b"a comment"
    assert reopened(result).info["photoshop"][1028] == reopened(data).info["photoshop"][1028]
    assert 1036 not in reopened(result).info["photoshop"]
    assert jpeg.kept_segments(result) == kept


def test_other_formats_get_no_segments(photo):
    assert b"a comment" not in encode(read(photo), "PNG")


def test_segments_stand_behind_those_of_applications(photo):
    data = jpeg.with_segments(photo, LONG_XMP)
    assert data.index(b"JFIF") < data.index(b"xap/1.0") < data.index(LONG_XMP)
    assert data.index(LONG_XMP) < data.index(b"a comment") < data.index(b"\xff\xdb")
    assert jpeg.with_segments(photo, b"") == photo


@pytest.mark.parametrize(
    "block",
    [b"8BIM", b"8BIM\x04\x0c", CAPTION[:-3], b"x" * 30, resource(1036, b"1")[:-4] + b"\xff" * 4],
)
def test_a_broken_list_of_resources_is_carried_on_as_it_is(photo, block):
    content = b"Photoshop 3.0\0" + block
    assert content in jpeg.kept_segments(photo[:2] + segment(0xED, content) + photo[2:])


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xfe\xff\xff", b"\xff\xd8\xff\xfe\0\0"],
)
def test_half_a_header_holds_nothing_to_keep(data):
    assert jpeg.kept_segments(data) in (b"", b"\xff\xfe\0\2")


def test_padding_before_a_marker_is_passed_over(photo):
    assert jpeg.kept_segments(photo[:2] + b"\xff\xff" + photo[2:]) == jpeg.kept_segments(photo)


def test_progressive_photos_stay_progressive(picture, reopened):
    for is_progressive in (True, False):
        file = io.BytesIO()
        PIL.Image.fromarray(picture).save(file, "JPEG", progressive=is_progressive)
        result = reopened(encode(read(file.getvalue())))
        assert ("progressive" in result.info) is is_progressive


def test_a_good_photo_keeps_its_own_quantization(picture, reopened):
    tables = [[1 + i // 32 for i in range(64)], [2 + i // 16 for i in range(64)]]
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "JPEG", qtables=tables, subsampling=1)
    result = reopened(encode(read(file.getvalue())))
    assert result.quantization == reopened(file.getvalue()).quantization
    assert read(encode(read(file.getvalue()))).metadata.subsampling == 1


def test_a_poor_photo_is_not_made_poor_again(picture, reopened):
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "JPEG", quality=30)
    assert read(encode(read(file.getvalue()))).metadata.quality == 90
