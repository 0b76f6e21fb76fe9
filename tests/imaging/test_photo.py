"""Photos written back as they came."""

import dataclasses
import logging

import numpy as np
import PIL.Image
import pytest
import torch

from autodir.errors import ContractError, ImageError
from autodir.imaging.io import encode, from_any, read
from autodir.imaging.photo import Photo


def test_a_result_has_the_format_of_its_suffix(tmp_path, picture, reopened):
    for name, expected in (("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.webp", "WEBP")):
        from_any(picture).save(tmp_path / name)
        assert reopened((tmp_path / name).read_bytes()).format == expected


def test_a_file_is_replaced_only_when_told(tmp_path, picture, reopened):
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    with pytest.raises(ImageError, match="exists"):
        from_any(picture).save(path)
    assert path.read_bytes() == b"mine"
    from_any(picture).save(path, overwrite=True)
    assert np.array_equal(np.asarray(reopened(path.read_bytes())), picture)


def test_a_photo_whose_suffix_lies_keeps_its_format(tmp_path, picture, reopened):
    rgba = PIL.Image.fromarray(picture).convert("RGBA")
    rgba.putalpha(7)
    rgba.save(tmp_path / "photo.jpg", format="PNG")
    read(tmp_path / "photo.jpg").save(tmp_path / "result.jpg")
    assert reopened((tmp_path / "result.jpg").read_bytes()).format == "PNG"
    with pytest.raises(ImageError, match="transparency"):
        read(tmp_path / "photo.jpg").save(tmp_path / "result.jpeg")


def test_a_photo_without_a_suffix_keeps_its_format(tmp_path, picture, saved, reopened):
    read(saved(picture, "a.webp")).save(tmp_path / "result")
    assert reopened((tmp_path / "result").read_bytes()).format == "WEBP"


def test_a_name_without_a_format_is_refused(tmp_path, picture):
    for name in ("a", "a.xyz"):
        with pytest.raises(ImageError, match="unknown suffix"):
            from_any(picture).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_nothing(tmp_path, picture):
    rgba = np.concatenate([picture, picture[..., :1]], axis=-1)
    with pytest.raises(ImageError, match="no transparency") as caught:
        from_any(rgba).save(tmp_path / "a.jpg")
    assert "PNG" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_opaque_alpha_does_not_hinder_a_jpeg(tmp_path, picture, reopened):
    opaque = np.concatenate([picture, np.full_like(picture[..., :1], 255)], axis=-1)
    from_any(opaque).save(tmp_path / "a.jpg")
    assert reopened((tmp_path / "a.jpg").read_bytes()).mode == "RGB"


def test_an_unknown_format_is_refused(picture):
    with pytest.raises(ImageError, match="cannot write PSD"):
        encode(from_any(picture), "PSD")


def test_depth_that_a_format_cannot_hold_is_said(caplog, reopened):
    deep = np.full((3, 4, 3), 40000, np.uint16)
    with caplog.at_level(logging.WARNING):
        image = reopened(encode(from_any(deep), "JPEG"))
    assert "8 bits" in caplog.text
    assert image.mode == "RGB"


def test_with_pixels_keeps_everything_else(picture):
    photo = from_any(np.concatenate([picture, picture[..., :1]], axis=-1))
    other = photo.with_pixels(photo.pixels * 0.5)
    assert isinstance(other, Photo)
    assert other.alpha is photo.alpha
    with pytest.raises(ContractError):
        photo.with_pixels(photo.pixels[:, 1:])


def test_a_result_of_a_gray_photo_is_gray(picture, reopened):
    photo = from_any(picture[..., 0])
    tinted = photo.with_pixels(photo.pixels * torch.tensor([1.0, 0.5, 0.2]).view(3, 1, 1))
    assert reopened(encode(tinted)).mode == "L"
    assert photo.to_pil().mode == "L"


def test_enlarging_takes_the_alpha_along(picture, wide_icc, reopened):
    rgba = PIL.Image.fromarray(picture).convert("RGBA")
    rgba.putalpha(128)
    rgba.info["icc_profile"] = wide_icc
    photo = from_any(rgba)
    assert photo.native is not None
    large = photo.enlarged(2)
    assert large.size == (24, 34)
    assert large.alpha is not None
    assert large.alpha.shape == (24, 34)
    assert reopened(encode(large, "PNG")).size == (34, 24)
    assert photo.enlarged(1) is photo


def test_an_enlarged_photo_keeps_its_color_space(picture, wide_icc, reopened):
    image = PIL.Image.fromarray(np.full_like(picture, (200, 90, 40)))
    image.info["icc_profile"] = wide_icc
    photo = from_any(image)
    assert photo.native is not None
    for larger in (photo.enlarged(2), dataclasses.replace(photo, pixels=photo.enlarged(2).pixels)):
        result = reopened(encode(larger, "PNG"))
        assert result.info["icc_profile"] == wide_icc
        assert np.abs(np.asarray(result).astype(int) - (200, 90, 40)).max() <= 1


def test_enlarged_inks_stay_inks(picture, reopened):
    photo = from_any(PIL.Image.fromarray(picture).convert("CMYK")).enlarged(2)
    result = reopened(encode(photo, "TIFF"))
    assert (result.mode, result.size) == ("CMYK", (34, 24))


def test_arrays_round_and_clamp(picture):
    photo = from_any(picture)
    assert np.array_equal(photo.to_array(), picture)
    beyond = photo.with_pixels(photo.pixels + 0.3 / 255).to_array()
    assert np.array_equal(beyond, picture)
    assert photo.with_pixels(photo.pixels + 2).to_array().min() == 255


def test_deep_photos_give_deep_arrays():
    deep = np.random.default_rng(0).integers(0, 65536, (5, 6, 3)).astype(np.uint16)
    assert np.array_equal(from_any(deep).to_array(), deep)
    assert from_any(deep).to_pil().mode == "RGB"
    assert from_any(deep[..., 0]).to_pil().mode == "I;16"
    assert np.array_equal(np.asarray(from_any(deep[..., 0]).to_pil()), deep[..., 0])
