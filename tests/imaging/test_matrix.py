"""Color spaces of curves and a matrix, beside LittleCMS and by their definition."""

import struct

import numpy as np
import pytest
from PIL import ImageCms

from autodir.imaging import matrix, profiles


def profile(color: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ") -> bytes:
    table, body, offset = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    return b"\0" * 16 + color + pcs + b"\0" * 104 + struct.pack(">I", len(tags)) + table + body


def gray_profile(curve: bytes) -> bytes:
    return profile(b"GRAY", {b"kTRC": curve})


GAMMA_2 = b"curv\0\0\0\0" + struct.pack(">IH", 1, 512)
RAMP = np.linspace(0, 1, 65536)


def decoded(curve: bytes) -> np.ndarray:
    space = matrix.of_icc(gray_profile(curve))
    assert space is not None
    return space.curves[0]


def test_deep_samples_are_converted_as_littlecms_converts_bytes(wide_icc):
    samples = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    space = matrix.of_icc(wide_icc)
    assert space is not None
    expected = profiles.to_srgb(samples, wide_icc).astype(int)
    for native, top in (
        (samples.astype(np.uint16) * 257, 257),
        (samples / np.float32(255), 1 / 255),
    ):
        found = space.to_srgb(native)
        assert found.dtype == native.dtype
        assert np.abs(found / top - expected).max() < 1.5  # LittleCMS rounds, and compensates black


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_untouched_samples_come_back_bit_for_bit(wide_icc, dtype):
    unit = np.random.default_rng(1).random((200, 7, 3))
    native = (
        unit.astype(dtype) if dtype == np.float32 else (unit * np.iinfo(dtype).max).astype(dtype)
    )
    space = matrix.of_icc(wide_icc)
    assert space is not None
    result = space.to_srgb(native)
    assert not np.array_equal(result, native)
    assert np.array_equal(space.from_srgb(result, native), native)


def test_a_repair_reaches_the_wide_space(wide_icc):
    space = matrix.of_icc(wide_icc)
    assert space is not None
    native = np.full((2, 2, 3), (40000, 20000, 20000), np.uint16)
    darker = space.to_srgb(native) // 2
    back = space.from_srgb(darker, native)
    assert np.abs(space.to_srgb(back).astype(int) - darker).max() < 40


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (b"curv\0\0\0\0" + struct.pack(">I", 0), RAMP),
        (GAMMA_2, RAMP**2),
        (b"curv\0\0\0\0" + struct.pack(">I3H", 3, 0, 16384, 65535), None),
        (b"para\0\0\0\0" + struct.pack(">HHi", 0, 0, 3 << 16), RAMP**3),
        (
            b"para\0\0\0\0" + struct.pack(">HH3i", 1, 0, 2 << 16, 2 << 16, -1 << 16),
            np.maximum(2 * RAMP - 1, 0) ** 2,
        ),
        (
            b"para\0\0\0\0" + struct.pack(">HH4i", 2, 0, 2 << 16, 1 << 15, -1 << 14, 1 << 15),
            np.maximum(0.5 * RAMP - 0.25, 0) ** 2 + 0.5,
        ),
        (
            b"para\0\0\0\0" + struct.pack(">HH5i", 3, 0, 2 << 16, 1 << 16, 0, 1 << 15, 1 << 15),
            np.where(RAMP >= 0.5, RAMP**2, RAMP * 0.5),
        ),
        (
            b"para\0\0\0\0"
            + struct.pack(">HH7i", 4, 0, 2 << 16, 1 << 15, 0, 0, 1 << 15, 1 << 14, 1 << 13),
            np.where(RAMP >= 0.5, (RAMP / 2) ** 2 + 0.25, 0.125),
        ),
    ],
)
def test_every_kind_of_curve_is_read(curve, expected):
    found = decoded(curve)
    if expected is None:
        assert found[32767] == pytest.approx(0.25, abs=1e-4)
        assert found[-1] == 1
    else:
        assert np.allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize(
    "icc",
    [
        b"",
        b"\0" * 200,
        gray_profile(b"curv\0\0\0\0" + struct.pack(">I3H", 3, 0, 65535, 16384)),
        gray_profile(b"curv\0\0\0\0" + struct.pack(">I", 2_000_000_000)),
        gray_profile(b"para\0\0\0\0" + struct.pack(">HH", 9, 0)),
        gray_profile(b"para\0\0\0\0" + struct.pack(">HHi", 0, 0, 0)),
        profile(b"GRAY", {b"kTRC": GAMMA_2}, pcs=b"Lab "),
        profile(b"RGB ", {b"A2B0": b"mft2", b"rTRC": GAMMA_2}),
        profile(b"RGB ", dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), GAMMA_2)),
        profile(
            b"RGB ",
            dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), GAMMA_2)
            | {
                name: b"XYZ \0\0\0\0" + struct.pack(">3i", 1, 1, 1)
                for name in (b"rXYZ", b"gXYZ", b"bXYZ")
            },
        ),
    ],
)
def test_profiles_of_another_kind_give_no_space(icc):
    assert matrix.of_icc(icc) is None


def test_srgb_is_known_by_its_colors(srgb_icc, wide_icc):
    spaces = [matrix.of_icc(icc) for icc in (srgb_icc, wide_icc)]
    assert [space is not None and space.is_srgb for space in spaces] == [True, False]
    gray = matrix.of_icc(gray_profile(GAMMA_2))
    assert gray is not None
    assert not gray.is_srgb


def test_numbers_describe_the_same_space_as_a_profile(wide_icc):
    adobe = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
    by_numbers, by_profile = matrix.of_chromaticities(adobe, 2.2), matrix.of_icc(wide_icc)
    assert by_numbers is not None
    assert by_profile is not None
    samples = np.random.default_rng(2).integers(0, 65536, (9, 9, 3)).astype(np.uint16)
    difference = by_numbers.to_srgb(samples).astype(int) - by_profile.to_srgb(samples)
    assert np.abs(difference).max() < 300  # of 65535


def test_srgb_by_numbers_is_srgb():
    plain = matrix.of_chromaticities(None, None)
    assert plain is not None
    assert plain.is_srgb
    linear = matrix.of_chromaticities(None, 1.0)
    assert linear is not None
    half = linear.to_srgb(np.full((1, 1, 3), 0.5, np.float32))
    assert half[0, 0, 0] == pytest.approx(0.7354, abs=1e-3)


@pytest.mark.parametrize(
    ("points", "gamma"),
    [
        (None, 0.0),
        (None, float("nan")),
        ((0.3,) * 8, 2.2),
        ((0.3127, 0.3290, 0.64, 0.33, 0.30, 0.0, 0.15, 0.06), 2.2),
        ((1e300,) * 8, 1.0),
    ],
)
def test_numbers_without_sense_give_no_space(points, gamma):
    assert matrix.of_chromaticities(points, gamma) is None


def test_a_gray_profile_is_applied_and_undone():
    native = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    icc = gray_profile(GAMMA_2)
    work = profiles.to_srgb(native, icc)
    assert work.shape == native.shape
    assert not np.array_equal(work, native)
    assert np.array_equal(profiles.from_srgb(work, native, icc), native)


def test_a_table_of_colors_is_not_applied_to_deep_samples():
    deep = np.zeros((2, 2, 3), np.uint16)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert profiles.to_srgb(deep, lab) is deep
    assert profiles.from_srgb(deep, deep, lab) is deep
