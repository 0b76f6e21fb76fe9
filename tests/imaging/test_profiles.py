"""ICC profiles."""

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from autodir.imaging import profiles


@pytest.fixture
def samples() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)


def test_a_profile_that_means_srgb_changes_nothing(samples, srgb_icc):
    assert profiles.to_srgb(samples, srgb_icc) is samples


def test_no_profile_changes_nothing(samples):
    assert profiles.to_srgb(samples, None) is samples


def test_a_broken_profile_changes_nothing(samples):
    assert profiles.to_srgb(samples, b"no profile") is samples


def test_a_wide_profile_is_converted_as_littlecms_does(samples, wide_icc):
    converted = profiles.to_srgb(samples, wide_icc)
    assert converted is not samples
    # the green primary of the wide space is cut off at sRGB's
    green = profiles.to_srgb(np.array([[[0, 255, 0]]], np.uint8), wide_icc)
    assert green.tolist() == [[[0, 255, 0]]]
    gray = np.full((1, 1, 3), 128, np.uint8)
    assert np.abs(profiles.to_srgb(gray, wide_icc).astype(int) - 128).max() <= 20


def test_untouched_samples_come_back_bit_for_bit(samples, wide_icc):
    assert np.array_equal(
        profiles.from_srgb(profiles.to_srgb(samples, wide_icc), samples, wide_icc), samples
    )


def test_a_repair_reaches_the_wide_space(samples, wide_icc):
    native = np.full((4, 4, 3), (200, 60, 60), np.uint8)
    before = profiles.to_srgb(native, wide_icc)
    darker = (before * 0.5).astype(np.uint8)
    after = profiles.from_srgb(darker, native, wide_icc)
    assert np.abs(profiles.to_srgb(after, wide_icc).astype(int) - darker).max() <= 12
    assert (after[..., 0] < native[..., 0]).all()


def test_ink_without_a_profile_is_converted_and_back():
    rgb = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    inks = profiles.from_srgb(rgb, np.zeros((8, 8, 4), np.uint8), None)
    assert np.abs(profiles.to_srgb(inks, None).astype(int) - rgb).max() <= 1
    assert (inks[..., :3].min(axis=-1) == 0).all()  # gray is printed in black alone


def test_ink_without_a_profile_is_read_as_pillow_reads_it():
    inks = np.random.default_rng(2).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    image = PIL.Image.frombytes("CMYK", (8, 8), inks.tobytes()).convert("RGB")
    assert np.abs(profiles.to_srgb(inks, None).astype(int) - np.asarray(image)).max() <= 1


def test_untouched_inks_are_kept():
    inks = np.random.default_rng(3).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    assert np.array_equal(profiles.from_srgb(profiles.to_srgb(inks, None), inks, None), inks)


def test_black_has_ink():
    black = np.zeros((1, 1, 3), np.uint8)
    white = np.zeros((1, 1, 4), np.uint8)
    assert profiles.from_srgb(black, white, None).tolist() == [[[0, 0, 0, 255]]]


def test_a_profile_of_another_kind_is_ignored(samples):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert profiles.to_srgb(samples, lab) is samples
