"""Every format that is written, with every kind of samples: what went in comes back.

A matrix of formats, modes, sizes and metadata, drawn by hypothesis.
"""

import dataclasses
import io
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import ImageCms

from autodir.imaging import exif as exif_block
from autodir.imaging.encoding import encode_samples
from autodir.imaging.formats import FORMATS
from autodir.imaging.io import encode, read
from autodir.records import ImageMetadata

LOSSY = {"JPEG", "AVIF", "HEIF", "WEBP"}
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXAMPLES = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def kinds() -> list[tuple[str, int, int]]:
    """Format, channels and bits of everything that is written."""
    found = []
    for name, holds in FORMATS.items():
        channels = [1, 3, *([2, 4] if holds.has_alpha else [])]
        found += [(name, count, 8) for count in channels]
        found += [(name, c, 16) for c in channels if ("color", "gray")[c < 3] in holds.deep]
        found += [(name, count, 32) for count in (1, 3, 4) if holds.has_float]
    return found


@pytest.fixture(params=kinds(), ids=lambda kind: f"{kind[0]}-{kind[1]}x{kind[2]}")
def kind(request: pytest.FixtureRequest) -> tuple[str, int, int]:
    if request.param[0] == "HEIF":
        pytest.importorskip("pillow_heif")
    return request.param


@st.composite
def stated(draw: st.DrawFn) -> dict[str, Any]:
    """EXIF, XMP, a profile and a resolution, each there or not."""
    tags = PIL.Image.Exif()
    tags[271] = draw(st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=20))
    tags[0x0112] = 1
    tags.get_ifd(0x8769)[0x829A] = draw(st.sampled_from([0.5, 0.004]))
    xmp = b"<x:xmpmeta>" + draw(st.text(max_size=30)).encode() + b"</x:xmpmeta>"
    return {
        "exif": draw(st.sampled_from([None, tags.tobytes()])),
        "xmp": draw(st.sampled_from([None, xmp])),
        "icc_profile": draw(st.sampled_from([None, ICC])),
        "dpi": draw(st.sampled_from([None, (300.0, 300.0)])),
    }


def samples_of(seed: int, height: int, width: int, channels: int, bits: int) -> np.ndarray:
    unit = np.random.default_rng(seed).random((height, width, channels))
    if channels in (2, 4):
        unit[..., -1] = np.round(unit[..., -1] * 3) / 3  # some of it fully transparent, some opaque
    if bits == 32:
        return unit.astype(np.float32)
    return np.round(unit * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


@EXAMPLES
@given(seed=st.integers(0, 99), height=st.integers(1, 9), width=st.integers(1, 9), words=stated())
def test_what_went_in_comes_back(kind, seed, height, width, words):
    name, channels, bits = kind
    samples = samples_of(seed, height, width, channels, bits)
    if name == "GIF":  # holds 256 colors, and no half of transparency
        samples[..., :] = samples[:1, :1]
        samples[..., -1] = 255 if channels in (2, 4) else samples[..., -1]
    data = encode_samples(samples, ImageMetadata(format=name, **words), name)
    photo = read(data)
    assert photo.size == (height, width)
    assert photo.metadata.format == name
    assert photo.metadata.bit_depth == bits
    result = encode(photo)
    again = read(result)

    assert again.size == photo.size
    assert again.metadata.bit_depth == bits
    assert again.is_gray == photo.is_gray
    for field in ("icc_profile", "exif", "xmp", "dpi"):
        assert getattr(again.metadata, field) == getattr(photo.metadata, field), field
    if FORMATS[name].has_profile:
        assert photo.metadata.icc_profile == words["icc_profile"]
        assert photo.metadata.xmp == words["xmp"]
        # A TIFF has tags of its own in place of a block, and Pillow takes the orientation out of
        # a block for AVIF, which states it elsewhere.
        if words["exif"] and name not in ("TIFF", "AVIF"):
            assert photo.metadata.exif == exif_block.for_pixels(words["exif"], (height, width))
    if name not in LOSSY:
        assert np.array_equal(again.colors, photo.colors)
    if photo.alpha is not None and name not in ("AVIF", "HEIF"):
        assert again.alpha is not None
        assert np.array_equal(again.alpha, photo.alpha)


@pytest.mark.parametrize("name", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_repair_of_sixteen_bits_has_more_than_256_levels(name, channels):
    samples = samples_of(0, 40, 50, channels, 16)
    photo = read(encode_samples(samples, ImageMetadata(format=name), name))
    repaired = photo.with_pixels(photo.pixels * 0.9)
    result = read(encode(repaired)).to_array()
    assert result.dtype == np.uint16
    assert len(np.unique(result)) > 256
    assert len(np.unique(result & 0xFF)) == 256


@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP", "TGA"])
def test_what_is_hidden_reaches_nothing_and_comes_back(name):
    picture = np.full((16, 16, 4), (200, 30, 30, 255), np.uint8)
    picture[4:12, 4:12] = (0, 255, 0, 0)
    file = io.BytesIO()
    options = {"lossless": True, "exact": True} if name == "WEBP" else {}
    PIL.Image.fromarray(picture).save(file, name, **options)
    photo = read(file.getvalue())
    assert photo.pixels[1].max() * 255 == pytest.approx(30, abs=0.1)  # no green is left
    blurred = photo.with_pixels(photo.pixels * 0.5)
    result = np.array(PIL.Image.open(io.BytesIO(encode(blurred))))
    assert np.array_equal(result[5:11, 5:11], picture[5:11, 5:11])
    assert np.array_equal(result[0, 0], (100, 15, 15, 255))


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 16])
def test_an_untouched_region_of_a_wide_space_keeps_its_colors(name, bits, wide_icc):
    samples = samples_of(3, 12, 12, 3, bits)
    metadata = ImageMetadata(format=name, icc_profile=wide_icc)
    photo = read(encode_samples(samples, metadata, name))
    assert photo.native is not None
    pixels = photo.pixels.clone()
    pixels[:, :6] *= 0.7
    again = read(encode(photo.with_pixels(pixels)))
    assert again.native is not None
    assert np.array_equal(again.native[6:], samples[6:])
    assert not np.array_equal(again.native[:6], samples[:6])


def test_a_photo_of_another_format_takes_its_profile_along(wide_icc):
    samples = samples_of(4, 6, 6, 3, 16)
    data = encode_samples(samples, ImageMetadata(format="TIFF", icc_profile=wide_icc), "TIFF")
    result = read(encode(read(data), "PNG"))
    assert result.native is not None
    assert np.array_equal(result.native, samples)
    eight = read(encode(read(data), "JPEG"))
    assert eight.metadata.icc_profile == wide_icc
    assert eight.native is not None
    assert eight.native.dtype == np.uint8


def test_enlarged_photos_with_hidden_colors_are_written(picture):
    rgba = np.concatenate([picture, np.zeros_like(picture[..., :1])], axis=-1)
    rgba[:6, ..., 3] = 255
    file = io.BytesIO()
    PIL.Image.fromarray(rgba).save(file, "PNG")
    photo = read(file.getvalue())
    assert photo.hidden is not None
    large = photo.enlarged(2)
    assert read(encode(large)).size == (24, 34)
    assert np.array_equal(photo.to_array(), picture)
    stretched = dataclasses.replace(photo, pixels=large.pixels, alpha=large.alpha)
    assert read(encode(stretched)).size == (24, 34)
