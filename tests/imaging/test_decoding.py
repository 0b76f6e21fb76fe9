"""Files of every kind of samples: what comes back as it came."""

import io
import logging
import struct

import numpy as np
import PIL.Image
import pytest
import torch

from autodir.errors import ImageError
from autodir.imaging.io import encode, from_any, read


def file_of(image: PIL.Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def rgba(picture: np.ndarray) -> PIL.Image.Image:
    alpha = np.linspace(0, 255, picture[..., 0].size).astype(np.uint8).reshape(picture.shape[:2])
    return PIL.Image.fromarray(np.concatenate([picture, alpha[..., None]], axis=-1))


# --- what comes back as it came ------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "PPM", "TGA", "JPEG2000"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_lossless_formats_come_back_bit_for_bit(format, mode, picture, reopened):
    image = PIL.Image.fromarray(picture).convert(mode)
    photo = read(file_of(image, format))
    assert photo.pixels.shape == (3, 12, 17)
    assert photo.pixels.dtype == torch.float32
    result = reopened(encode(photo))
    assert (result.format, result.mode) == (format, mode)
    assert np.array_equal(np.asarray(result), np.asarray(image))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "TGA"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_set_aside_and_comes_back(format, mode, picture, reopened):
    image = rgba(picture).convert(mode)
    photo = read(file_of(image, format))
    assert photo.alpha is not None
    assert photo.alpha.shape == (12, 17)
    result = reopened(encode(photo))
    assert result.mode == mode
    assert np.array_equal(np.asarray(result), np.asarray(image))


def test_lossless_webp_stays_lossless(picture, reopened):
    image = rgba(picture)
    photo = read(file_of(image, "WEBP", lossless=True, exact=True))
    assert photo.storage.is_lossless
    assert np.array_equal(np.asarray(reopened(encode(photo))), np.asarray(image))
    assert not read(file_of(image, "WEBP")).storage.is_lossless


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_come_back_near(format, reopened):
    smooth = np.full((32, 32, 3), (180, 120, 60), np.uint8)
    photo = read(file_of(PIL.Image.fromarray(smooth), format))
    result = reopened(encode(photo))
    assert result.format == format
    assert np.abs(np.asarray(result).astype(int) - smooth).max() <= 6


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3), (2, 1)])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "GIF"])
def test_tiny_photos_are_read_and_written(size, format, reopened):
    image = PIL.Image.new("RGB", size[::-1], (10, 200, 30))
    photo = read(file_of(image, format))
    assert photo.size == size
    assert reopened(encode(photo)).size == size[::-1]


def test_a_palette_becomes_colors(picture, reopened):
    image = PIL.Image.fromarray(picture).quantize(16)
    photo = read(file_of(image, "PNG"))
    result = reopened(encode(photo))
    assert result.mode == "RGB"
    assert np.array_equal(np.asarray(result), np.asarray(image.convert("RGB")))


def test_a_transparent_palette_becomes_colors_and_alpha(picture, reopened):
    image = PIL.Image.fromarray(picture).quantize(16)
    data = file_of(image, "PNG", transparency=3)
    result = reopened(encode(read(data)))
    assert result.mode == "RGBA"
    assert np.array_equal(np.asarray(result), np.asarray(reopened(data).convert("RGBA")))


def test_a_transparent_gif_stays_a_gif(picture, reopened):
    image = PIL.Image.fromarray(picture).quantize(16)
    data = file_of(image, "GIF", transparency=3)
    result = reopened(encode(read(data)))
    assert result.format == "GIF"
    before, after = (np.asarray(i.convert("RGBA")) for i in (reopened(data), result))
    assert np.array_equal(before[..., 3], after[..., 3])
    visible = before[..., 3] > 0
    assert np.array_equal(before[visible], after[visible])


@pytest.mark.parametrize(("mode", "key"), [("L", 40), ("RGB", (0, 0, 0))])
def test_a_transparent_color_becomes_alpha(mode, key, picture, reopened):
    data = file_of(PIL.Image.fromarray(picture).convert(mode), "PNG", transparency=key)
    result = reopened(encode(read(data)))
    assert result.mode == mode[0] + "A" if mode == "L" else "RGBA"
    expected = reopened(data).convert("RGBA")
    assert np.array_equal(np.asarray(result.convert("RGBA")), np.asarray(expected))


def test_a_bilevel_photo_becomes_gray(picture, reopened):
    image = PIL.Image.fromarray(picture).convert("1")
    result = reopened(encode(read(file_of(image, "PNG"))))
    assert result.mode == "L"
    assert np.array_equal(np.asarray(result) > 0, np.asarray(image))


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_inks_come_back_as_inks(format, picture, reopened):
    image = PIL.Image.fromarray(picture).convert("CMYK")
    data = file_of(image, format)
    photo = read(data)
    expected = np.asarray(reopened(data).convert("RGB")).astype(int)
    assert np.abs(photo.to_array().astype(int) - expected).max() <= 1
    result = reopened(encode(photo))
    assert (result.format, result.mode) == (format, "CMYK")
    assert np.abs(np.asarray(result.convert("RGB")).astype(int) - expected).mean() < 4


# --- sixteen bits --------------------------------------------------------------------------------


def deep(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_deep_gray_comes_back_with_all_its_levels(format, reopened):
    samples = deep(30, 40)
    photo = read(file_of(PIL.Image.fromarray(samples), format))
    assert photo.metadata.bit_depth == 16
    assert photo.is_gray
    result = np.asarray(reopened(encode(photo)))
    assert len(np.unique(result)) > 256
    assert np.array_equal(result, samples)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_deep_color_comes_back_with_all_its_levels(format):
    samples = deep(30, 40, 3)
    photo = read(encode(from_any(samples), format))
    assert (photo.metadata.bit_depth, photo.metadata.format) == (16, format)
    assert len(np.unique(photo.to_array())) > 256
    assert np.array_equal(photo.to_array(), samples)
    assert np.array_equal(read(encode(photo)).to_array(), samples)


@pytest.mark.parametrize(("format", "channels"), [("PNG", 2), ("PNG", 4), ("TIFF", 4)])
def test_deep_alpha_comes_back(format, channels):
    samples = deep(9, 10, channels)
    photo = read(encode(from_any(samples), format))
    assert photo.alpha is not None
    assert np.array_equal((photo.alpha * 65535).round().int().numpy(), samples[..., -1])
    assert np.array_equal(photo.to_array()[..., 0], samples[..., 0])
    assert photo.is_gray == (channels == 2)


def test_a_deep_transparent_gray_becomes_alpha():
    samples = deep(5, 6)
    data = file_of(PIL.Image.fromarray(samples), "PNG", transparency=int(samples[2, 3]))
    photo = read(data)
    assert photo.alpha is not None
    assert photo.alpha[2, 3] == 0
    assert photo.alpha.sum() == 29
    again = read(encode(photo))
    assert torch.equal(again.pixels, photo.pixels)
    assert torch.equal(again.alpha, photo.alpha)


def test_a_truncated_deep_photo_is_refused():
    data = encode(from_any(deep(60, 60, 3)), "PNG")
    with pytest.raises(ImageError):
        read(data[: len(data) // 2])


def test_a_deep_ppm_of_another_maximum_is_scaled():
    data = b"P6\n2 1\n1023\n" + struct.pack(">6H", 0, 1023, 512, 1023, 0, 1)
    photo = read(data)
    assert photo.metadata.bit_depth == 16
    assert photo.pixels[1, 0, 0] == pytest.approx(1, abs=1e-3)
    assert photo.pixels[2, 0, 0] == pytest.approx(512 / 1023, abs=1e-3)


def test_a_deep_ppm_as_text_is_refused():
    with pytest.raises(ImageError, match="as text"):
        read(b"P3\n1 1\n65535\n1 2 3\n")


def test_bits_that_are_lost_are_said(caplog, picture):
    data = bytearray(file_of(PIL.Image.fromarray(picture), "JPEG2000"))
    at = data.find(b"\xff\x4f\xff\x51")
    assert data[at + 42] == 7
    for component in range(3):
        data[at + 42 + 3 * component] = 9  # ten bits
    with caplog.at_level(logging.WARNING):
        read(bytes(data))
    assert "10 bits" in caplog.text
