"""Samples → files: what Pillow and OpenCV read back."""

import io

import cv2
import numpy as np
import PIL.Image
import pytest

from autodir.errors import ImageError
from autodir.imaging.encoding import encode_samples, to_pil
from autodir.records import ImageMetadata


def deep(channels: int, height: int = 21, width: int = 13) -> np.ndarray:
    shape = (height, width, channels)
    return np.random.default_rng(channels).integers(0, 65536, shape).astype(np.uint16)


def decoded(data: bytes) -> np.ndarray:
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    samples = samples.reshape(*samples.shape[:2], -1)
    return samples[..., [2, 1, 0, 3][: samples.shape[2]]] if samples.shape[2] > 2 else samples


@pytest.mark.parametrize("name", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_samples_are_read_back_by_another_decoder(name, channels):
    samples = deep(channels)
    assert np.array_equal(decoded(encode_samples(samples, ImageMetadata(), name)), samples)


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_deep_alpha_is_read_back_by_another_decoder(name):
    samples = deep(4)
    assert np.array_equal(decoded(encode_samples(samples, ImageMetadata(), name)), samples)


def test_deep_gray_and_alpha_are_read_back_from_png():
    samples = deep(2)
    assert np.array_equal(
        decoded(encode_samples(samples, ImageMetadata(), "PNG"))[..., [0, 3]], samples
    )


def test_deep_png_of_several_blocks_is_read_back():
    samples = deep(3, height=600, width=5)
    assert np.array_equal(decoded(encode_samples(samples, ImageMetadata(), "PNG")), samples)


def test_filters_make_a_smooth_deep_png_smaller_than_its_samples():
    ramp = np.arange(64 * 64 * 3, dtype=np.uint16).reshape(64, 64, 3) * 5
    assert len(encode_samples(ramp, ImageMetadata(), "PNG")) < ramp.nbytes / 10


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_deep_files_carry_metadata(name, reopened, wide_icc):
    exif = PIL.Image.Exif()
    exif[271] = "Maker"
    exif.get_ifd(0x8769)[0x829A] = 0.5
    metadata = ImageMetadata(
        icc_profile=wide_icc, exif=exif.tobytes(), xmp=b"<x:xmpmeta/>", dpi=(300.0, 150.0)
    )
    image = reopened(encode_samples(deep(3), metadata, name))
    assert image.info["icc_profile"] == wide_icc
    assert image.getexif()[271] == "Maker"
    assert image.getexif().get_ifd(0x8769)[0x829A] == 0.5
    assert [round(float(v)) for v in image.info["dpi"]] == [300, 150]
    packet = image.info.get("xmp") or image.tag_v2.get(700)
    assert packet == b"<x:xmpmeta/>"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_files_carry_metadata(name, reopened, picture, wide_icc):
    exif = PIL.Image.Exif()
    exif[271] = "Maker"
    metadata = ImageMetadata(
        icc_profile=wide_icc, exif=exif.tobytes(), xmp=b"<x:xmpmeta/>", dpi=(300.0, 150.0)
    )
    image = reopened(encode_samples(picture, metadata, name))
    assert image.info["icc_profile"] == wide_icc
    assert image.getexif()[271] == "Maker"
    packet = image.info.get("xmp") or image.tag_v2.get(700)
    assert packet == b"<x:xmpmeta/>"
    if name in ("JPEG", "PNG", "TIFF"):
        assert [round(float(v)) for v in image.info["dpi"]] == [300, 150]


@pytest.mark.parametrize(("stated", "written"), [(None, 95), (60, 90), (93, 93), (100, 100)])
def test_a_jpeg_is_written_near_the_quality_of_its_source(picture, reopened, stated, written):
    metadata = ImageMetadata(format="JPEG", quality=stated)
    expected = PIL.Image.fromarray(picture)
    data = encode_samples(picture, metadata, "JPEG")
    file = io.BytesIO()
    expected.save(file, "JPEG", quality=written, subsampling=0)
    assert reopened(data).quantization == reopened(file.getvalue()).quantization


def test_a_gif_of_few_colors_keeps_them(reopened):
    samples = np.zeros((4, 4, 4), np.uint8)
    samples[:2] = (200, 30, 40, 255)
    samples[2] = (10, 220, 30, 255)
    image = reopened(encode_samples(samples, ImageMetadata(), "GIF")).convert("RGBA")
    read = np.asarray(image)
    assert np.array_equal(read[:3], samples[:3])
    assert (read[3, :, 3] == 0).all()


def test_a_gif_of_many_colors_is_near(reopened, picture):
    image = reopened(encode_samples(picture, ImageMetadata(), "GIF")).convert("RGB")
    assert np.abs(np.asarray(image).astype(int) - picture).mean() < 8


def test_a_gray_gif_is_exact(reopened, picture):
    gray = picture[..., :1]
    image = reopened(encode_samples(gray, ImageMetadata(), "GIF")).convert("L")
    assert np.array_equal(np.asarray(image), gray[..., 0])


def test_inks_become_srgb_where_the_format_has_none(reopened, picture, wide_icc):
    native = np.zeros((*picture.shape[:2], 4), np.uint8)
    metadata = ImageMetadata(mode="CMYK", icc_profile=wide_icc)
    image = reopened(encode_samples(picture, metadata, "PNG", native=native))
    assert image.mode == "RGB"
    assert "icc_profile" not in image.info
    assert np.array_equal(np.asarray(image), picture)


def test_what_a_format_cannot_hold_is_an_image_error():
    with pytest.raises(ImageError, match="cannot write WEBP"):
        encode_samples(np.zeros((1, 16400, 3), np.uint8), ImageMetadata(), "WEBP")


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_channels_name_the_mode(channels, mode):
    assert to_pil(np.zeros((2, 3, channels), np.uint8)).mode == mode
