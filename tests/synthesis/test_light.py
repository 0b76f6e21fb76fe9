"""Haze and underexposure: the laws they follow and the ranges they keep."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autodir.imaging.color import linear_to_srgb, srgb_to_linear
from autodir.synthesis.light import add_haze, haze, underexposure

QUIET = {"iso": 0.0, "cast": 0.0, "uneven": 0.0}
DEPTHS = ["ground", "planes", "fractal", "brightness", "constant"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", DEPTHS)
@pytest.mark.parametrize("linear_light", [0.0, 1.0])
def test_no_extinction_leaves_the_photo(kind: str, linear_light: float, photos: Tensor) -> None:
    fixed = {"beta": 0.0, "kind": kind, "linear_light": linear_light}
    hazy, _ = haze(photos, torch.full((len(photos),), 0.9), seeded(), fixed)
    assert torch.equal(hazy, photos)


@pytest.mark.parametrize("kind", DEPTHS)
def test_endless_extinction_shows_the_airlight(kind: str, photos: Tensor) -> None:
    fixed = {"beta": 1e6, "airlight": 0.8, "tint": 0.0, "near": 0.2, "kind": kind}
    hazy, _ = haze(photos, torch.full((len(photos),), 0.5), seeded(), fixed)
    assert torch.allclose(hazy, torch.full_like(hazy, 0.8), atol=1e-5)


@pytest.mark.parametrize("kind", DEPTHS)
def test_haze_moves_every_pixel_toward_the_airlight(kind: str, photos: Tensor) -> None:
    fixed = {"airlight": 1.0, "tint": 0.0, "linear_light": 0.0, "kind": kind}
    hazy, _ = haze(photos, torch.full((len(photos),), 1.0), seeded(), fixed)
    assert bool((hazy >= photos - 1e-6).all())
    share = ((1 - hazy) / (1 - photos).clamp_min(1e-3)).clamp(0, 1)
    assert float(share.max()) < 1, "no pixel is nearer than the nearest depth"


def test_true_transmission_and_airlight_recover_the_scene(photos: Tensor) -> None:
    transmission = 0.2 + 0.8 * torch.rand(len(photos), 1, 64, 64, generator=seeded())
    airlight = torch.full((len(photos), 3, 1, 1), 0.9)
    hazy = add_haze(photos, transmission, airlight)
    recovered = (hazy - airlight) / transmission + airlight
    assert torch.allclose(recovered, photos, atol=1e-5)


def test_tint_makes_the_airlight_bluer(photos: Tensor) -> None:
    fixed = {"beta": 1e6, "airlight": 0.8, "tint": 0.1, "near": 0.5, "linear_light": 0.0}
    hazy, _ = haze(photos[:1], torch.tensor([0.5]), seeded(), fixed)
    assert hazy[0, :, 0, 0].tolist() == pytest.approx([0.75, 0.8, 0.85], abs=1e-4)


def test_exposure_scales_linear_light(photos: Tensor) -> None:
    fixed = {"exposure": 0.25, **QUIET}
    dark, parameters = underexposure(photos, torch.full((len(photos),), 0.5), seeded(), fixed)
    assert parameters[0]["kind"] == "exposure"
    assert torch.allclose(srgb_to_linear(dark), srgb_to_linear(photos) / 4, atol=1e-4)


def test_gamma_curve_is_gain_times_power(photos: Tensor) -> None:
    fixed = {"gamma": 2.0, "gain": 0.5, **QUIET}
    dark, _ = underexposure(photos, torch.full((len(photos),), 0.5), seeded(), fixed)
    assert torch.allclose(dark, 0.5 * photos.square(), atol=1e-4)


def test_severe_darkness_is_as_dark_as_real_pairs() -> None:
    clean = torch.rand(64, 3, 16, 16, generator=seeded())
    dark, _ = underexposure(clean, torch.ones(64), seeded())
    value = dark.amax(1).mean((1, 2))
    assert 0.03 < float(value.mean()) < 0.13


def test_darkness_of_a_gray_photo_falls_with_severity() -> None:
    clean = linear_to_srgb(torch.full((3, 3, 8, 8), 0.2))
    dark, _ = underexposure(clean, torch.tensor([0.0, 0.5, 1.0]), seeded(), QUIET)
    means = dark.mean((1, 2, 3)).tolist()
    assert means[0] > means[1] > means[2] > 0
