"""Reading photos: good ones of every kind, and bad ones."""

import io
import logging
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
import torch
from PIL import ImageOps

from autodir.errors import ContractError, ImageError
from autodir.imaging.io import encode, from_any, read
from autodir.imaging.photo import Photo


def file_of(image: PIL.Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


# --- orientation, profiles, metadata -------------------------------------------------------------


def exif_with(orientation: int) -> bytes:
    tags = PIL.Image.Exif()
    tags[0x0112] = orientation
    tags[271] = "Maker"
    return tags.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
def test_photos_are_turned_upright_once(format, orientation, picture, reopened):
    options = {"lossless": True} if format == "WEBP" else {}
    data = file_of(PIL.Image.fromarray(picture), format, exif=exif_with(orientation), **options)
    opened = PIL.Image.open(io.BytesIO(data))
    opened.load()
    upright = np.asarray(ImageOps.exif_transpose(opened))
    photo = read(data)
    assert np.array_equal(photo.to_array(), upright)
    result = reopened(encode(photo))
    assert result.getexif().get(0x0112, 1) == 1
    assert result.getexif()[271] == "Maker"
    assert result.size == upright.shape[1::-1]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_deep_photos_are_turned_upright_once(orientation):
    samples = np.random.default_rng(0).integers(0, 65536, (4, 7, 3)).astype(np.uint16)
    k = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]
    photo = from_any(samples)
    png = encode(photo, "PNG")
    block = exif_with(orientation).removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + block))
    assert np.array_equal(read(png[:33] + chunk + png[33:]).to_array(), np.rot90(samples, k))
    tiff = encode(photo, "TIFF")
    if orientation == 1:
        assert np.array_equal(read(tiff).to_array(), samples)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_deep_tiffs_are_turned_upright_once(orientation):
    samples = np.random.default_rng(0).integers(0, 65536, (4, 7, 3)).astype(np.uint16)
    tiff = bytearray(encode(from_any(samples), "TIFF"))
    # an orientation entry in place of the planar configuration (whose default is the same)
    at = tiff.find(struct.pack("<HHI", 284, 3, 1))
    entries = [tiff[i : i + 12] for i in range(10, at + 12, 12)]
    entries[-1] = struct.pack("<HHIHH", 274, 3, 1, orientation, 0)
    tiff[10 : at + 12] = b"".join(sorted(entries, key=lambda e: struct.unpack_from("<H", e)[0]))
    k = {3: 2, 6: -1, 8: 1}[orientation]
    assert np.array_equal(read(bytes(tiff)).to_array(), np.rot90(samples, k))


def test_the_orientation_in_xmp_is_reset_with_the_one_in_exif(picture, reopened):
    packet = b'<x:xmpmeta><a tiff:Orientation="6"/></x:xmpmeta>'
    data = file_of(PIL.Image.fromarray(picture), "JPEG", exif=exif_with(6), xmp=packet)
    result = reopened(encode(read(data)))
    assert result.info["xmp"] == packet.replace(b'"6"', b'"1"')


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_the_profile_comes_back_byte_for_byte(format, picture, reopened, wide_icc, srgb_icc):
    for icc in (wide_icc, srgb_icc):
        data = file_of(PIL.Image.fromarray(picture), format, icc_profile=icc)
        assert reopened(encode(read(data))).info["icc_profile"] == icc


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_untouched_pixels_in_a_wide_profile_come_back_bit_for_bit(
    format, picture, reopened, wide_icc
):
    samples = np.concatenate([picture, picture[..., :1]], axis=-1)
    photo = read(file_of(PIL.Image.fromarray(samples), format, icc_profile=wide_icc))
    assert not np.array_equal(photo.to_array(), picture)  # the work is done in sRGB
    assert np.array_equal(np.asarray(reopened(encode(photo))), samples)


def test_a_turned_photo_in_a_wide_profile_comes_back_turned(picture, reopened, wide_icc):
    data = file_of(PIL.Image.fromarray(picture), "PNG", icc_profile=wide_icc, exif=exif_with(6))
    result = np.asarray(reopened(encode(read(data))))
    assert np.array_equal(result, np.rot90(picture, -1))


def test_jpeg_quality_and_subsampling_are_known(picture):
    photo = read(file_of(PIL.Image.fromarray(picture), "JPEG", quality=83, subsampling=2))
    assert photo.metadata.quality == 83
    assert photo.metadata.subsampling == 2


def test_the_resolution_comes_back(picture, reopened):
    photo = read(file_of(PIL.Image.fromarray(picture), "JPEG", dpi=(240, 240)))
    assert photo.metadata.dpi == (240, 240)
    assert reopened(encode(photo)).info["dpi"] == (240, 240)


# --- bad input -----------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"none\.jpg: No such file"):
        read(tmp_path / "none.jpg")


def test_a_folder_is_no_photo(tmp_path):
    with pytest.raises(ImageError, match="a folder"):
        read(tmp_path)


def test_an_impossible_path_is_refused():
    with pytest.raises(ImageError):
        read("a\0b.jpg")


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"a\.jpg: the file is empty"):
        read(tmp_path / "a.jpg")


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%PDF-1.7 not a photo at all")
    with pytest.raises(ImageError, match=r"a\.jpg: not an image") as caught:
        read(tmp_path / "a.jpg")
    assert "PNG" in caught.value.hint


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "TGA", "PPM", "AVIF"]
)
def test_every_truncation_is_refused_or_read_and_never_crashes(format, picture):
    data = file_of(PIL.Image.fromarray(picture), format)
    for length in [*range(1, min(len(data), 60)), *range(60, len(data) - 1, 37)]:
        try:
            read(data[:length])
        except ImageError as error:
            assert error.message.startswith(("cannot read the input", "the input"))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
def test_half_a_photo_is_refused_with_the_reason(format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = file_of(PIL.Image.fromarray(noise), format)
    with pytest.raises(ImageError) as caught:
        read(data[: len(data) // 2])
    assert caught.value.message.removeprefix("cannot read the input: ")


def test_damaged_bytes_are_refused_or_read_and_never_crash(picture):
    rng = np.random.default_rng(0)
    for format in ("JPEG", "PNG", "TIFF", "WEBP", "GIF"):
        data = file_of(PIL.Image.fromarray(picture), format)
        for _ in range(40):
            damaged = bytearray(data)
            for position in rng.integers(0, len(data), 4):
                damaged[position] = rng.integers(0, 256)
            try:
                photo = read(bytes(damaged), max_pixels=10_000)
            except ImageError:
                continue
            assert torch.isfinite(photo.pixels).all()


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )
    body = b"IDAT" + zlib.compress(b"\0" * 100)
    data += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data + b"\0\0\0\0IEND\xaeB`\x82"


def test_a_claim_of_too_many_pixels_is_refused_before_decoding(monkeypatch):
    def fail(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"60000 x 60000 = 3600\.0 megapixels") as caught:
            read(png_header(60_000, 60_000))
    assert "--max-pixels" in caught.value.hint


def test_the_limit_is_exact(picture):
    data = file_of(PIL.Image.fromarray(picture), "PNG")
    assert read(data, max_pixels=12 * 17).size == (12, 17)
    with pytest.raises(ImageError, match="17 x 12"):
        read(data, max_pixels=12 * 17 - 1)


def test_photos_between_two_limits_warn_of_nothing_and_pillow_keeps_its_own(monkeypatch, picture):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(file_of(PIL.Image.fromarray(picture), "PNG")).size == (12, 17)
    assert PIL.Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "AVIF"])
def test_animations_are_refused_with_the_reason(format, picture):
    frames = [PIL.Image.fromarray(picture), PIL.Image.fromarray(255 - picture)]
    data = file_of(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=r"animated \(2 frames\)"):
        read(data)


def test_pages_are_refused_with_the_reason(picture):
    page = PIL.Image.fromarray(picture)
    with pytest.raises(ImageError, match="3 pages"):
        read(file_of(page, "TIFF", save_all=True, append_images=[page, page]))


def test_a_phone_photo_with_a_second_picture_is_read_and_that_is_said(picture, caplog):
    page = PIL.Image.fromarray(picture)
    with caplog.at_level(logging.WARNING):
        photo = read(file_of(page, "MPO", save_all=True, append_images=[page]))
    assert photo.metadata.format == "JPEG"
    assert "1 more are left out" in caplog.text


# --- whatever a caller holds ---------------------------------------------------------------------


def test_every_way_to_hand_over_a_photo_gives_the_same_pixels(picture, saved):
    path = saved(picture)
    unit = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    sources = [
        path,
        str(path),
        path.read_bytes(),
        PIL.Image.open(path),
        picture,
        picture.astype(np.uint16) * 257,
        picture / 255,
        (picture / 255).astype(np.float32),
        torch.from_numpy(picture).permute(2, 0, 1),
        unit,
        unit[None],
        unit.double(),
        read(path),
    ]
    for source in sources:
        photo = from_any(source)
        assert isinstance(photo, Photo)
        assert torch.allclose(photo.pixels, unit, atol=1e-6)


def test_a_plain_image_becomes_a_photo(picture):
    from autodir.records import Image

    plain = Image(pixels=from_any(picture).pixels)
    photo = from_any(plain)
    assert isinstance(photo, Photo)
    assert photo.pixels is plain.pixels


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_arrays_of_one_to_four_channels_come_back(channels, reopened):
    samples = np.random.default_rng(0).integers(0, 256, (5, 6, channels)).astype(np.uint8)
    result = np.asarray(reopened(encode(from_any(samples))))
    assert np.array_equal(result.reshape(samples.shape), samples)


def test_a_rotated_view_of_an_array_is_read(picture):
    assert np.array_equal(from_any(picture[::-1, ::-2]).to_array(), picture[::-1, ::-2])


def test_a_pillow_photo_is_turned_and_converted(picture, wide_icc):
    data = file_of(PIL.Image.fromarray(picture), "PNG", exif=exif_with(6), icc_profile=wide_icc)
    opened, loaded = PIL.Image.open(io.BytesIO(data)), PIL.Image.open(io.BytesIO(data))
    loaded.load()
    assert torch.equal(from_any(opened).pixels, read(data).pixels)
    assert torch.equal(from_any(loaded).pixels, read(data).pixels)


def test_a_broken_pillow_photo_is_refused(picture):
    data = file_of(PIL.Image.fromarray(picture), "PNG")
    with pytest.raises(ImageError):
        from_any(PIL.Image.open(io.BytesIO(data[:-30])))


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((3, 4, 5, 3), np.uint8),
        np.zeros((4, 5, 7), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((4, 5, 3), np.int64),
        np.full((4, 5, 3), 1.5),
        np.full((4, 5, 3), np.nan),
        np.zeros(5, np.uint8),
        torch.zeros(2, 3, 4, 5),
        torch.zeros(4, 5, 3),
        torch.full((3, 4, 5), -0.1),
        None,
        42,
    ],
)
def test_what_is_no_photo_is_refused(source):
    with pytest.raises(ContractError):
        from_any(source)
