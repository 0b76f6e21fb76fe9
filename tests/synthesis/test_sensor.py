"""A simulated camera is measured back, at every ISO, from flat and from repeated frames."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autodir.errors import ConfigError, ContractError
from autodir.synthesis.sensor import (
    NoiseLevel,
    NoiseProfile,
    decibels_to_gain,
    fit_frames,
    fit_noise,
    gain_to_decibels,
    iso_to_gain,
    k_sigma,
    measure_flat,
    measure_repeated,
    undo_k_sigma,
)
from autodir.synthesis.specification import parse_degradation

SHOT, READ = 2e-3, 4e-4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exposed(light: Tensor, shot: float = SHOT, read: float = READ, seed: int = 0) -> Tensor:
    """z = K · Poisson(light / K) + N(0, s²)."""
    generator = seeded(seed)
    electrons = torch.poisson(light.double() / shot, generator=generator)
    dark = torch.randn(light.shape, generator=generator, dtype=torch.float64)
    return shot * electrons + read**0.5 * dark


def flat_frames() -> Tensor:
    """64 patches of 64 × 64 in 16 brightnesses, the light falling off across each frame."""
    fall = torch.linspace(1, 0.9, 128)
    brightness = torch.linspace(0.12, 0.8, 16).view(-1, 1, 1, 1)
    return exposed(brightness * fall.expand(16, 1, 128, 128))


def scene(frames: int = 24) -> Tensor:
    return torch.linspace(0.12, 0.8, 64 * 64).view(1, 1, 64, 64).expand(frames, 1, 64, 64)


def test_flat_patches_give_back_the_camera() -> None:
    samples = measure_flat(flat_frames(), 64)
    assert len(samples.mean) == 64
    level = fit_noise(samples, 800)
    assert level.shot == pytest.approx(SHOT, rel=0.03)
    assert level.read == pytest.approx(READ, rel=0.10)


def test_repeated_frames_of_any_scene_do_so_too() -> None:
    level = fit_frames(list(exposed(scene())), 800, repeated=True)
    assert level.shot == pytest.approx(SHOT, rel=0.03)
    assert level.read == pytest.approx(READ, rel=0.10)


def test_after_k_sigma_the_variance_is_the_mean() -> None:
    level = NoiseLevel(iso=800, shot=SHOT, read=READ)
    for shot, read in ((SHOT, READ), (4 * SHOT, 9 * READ)):
        level = NoiseLevel(iso=800, shot=shot, read=read)
        frames = k_sigma(exposed(scene(128), shot, read), level)
        variance, mean = frames.var(0).flatten(), frames.mean(0).flatten()
        centered = mean - mean.mean()
        slope = float((centered * variance).sum() / centered.square().sum())
        assert slope == pytest.approx(1, abs=0.03)
        assert float(variance.mean()) == pytest.approx(float(mean.mean()), rel=0.03)
    light = torch.rand(5, generator=seeded()).double()
    torch.testing.assert_close(undo_k_sigma(k_sigma(light, level), level), light)


@pytest.mark.parametrize(
    ("iso", "decibels"),
    [(100, 0), (200, 6.02), (400, 12.04), (800, 18.06), (1600, 24.08), (3200, 30.10),
     (6400, 36.12), (12800, 42.14), (25600, 48.16)],
)  # fmt: skip
def test_iso_gain_and_decibels(iso: float, decibels: float) -> None:
    assert gain_to_decibels(iso_to_gain(iso)) == pytest.approx(decibels, abs=0.01)
    assert decibels_to_gain(decibels) == pytest.approx(iso / 100, rel=1e-3)


def test_clipped_and_uniform_frames_determine_nothing() -> None:
    with pytest.raises(ConfigError, match="one brightness"):
        fit_noise(measure_flat(exposed(torch.full((2, 1, 64, 64), 0.4))), 100)
    clipped = exposed(torch.full((3, 1, 64, 64), 0.999)).clamp(0, 1)
    assert len(measure_flat(clipped).mean) == 0
    assert len(measure_repeated(clipped).mean) == 0


def test_frames_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ContractError):
        measure_repeated(torch.rand(1, 1, 8, 8))
    with pytest.raises(ConfigError, match="patches"):
        fit_frames([torch.rand(3, 8, 8)], 100)
    with pytest.raises(ConfigError, match="one size"):
        fit_frames([torch.rand(3, 40, 40), torch.rand(3, 40, 41)], 100, repeated=True)


def test_speeds_between_follow_the_gain() -> None:
    before, after = 1e-8, 5e-6
    measured = tuple(
        NoiseLevel(iso=iso, shot=1e-5 * iso, read=before * (iso / 100) ** 2 + after)
        for iso in (100.0, 400.0, 1600.0)
    )
    profile = NoiseProfile(levels=measured)
    level = profile.at(6400)
    assert level.shot == pytest.approx(6.4e-2)
    assert level.read == pytest.approx(before * 64**2 + after, rel=1e-6)
    assert profile.at(400) is measured[1]
    alone = NoiseProfile(levels=measured[:1]).at(400)
    assert alone.read == pytest.approx(16 * measured[0].read)


def test_a_profile_survives_its_file_and_grows(tmp_path: Path) -> None:
    profile = NoiseProfile(levels=(NoiseLevel(iso=800, shot=SHOT, read=READ, samples=64),))
    profile.save(tmp_path / "camera.json")
    assert NoiseProfile.load(tmp_path / "camera.json") == profile
    rows = json.loads((tmp_path / "camera.json").read_text())["levels"]
    assert (rows[0]["gain"], rows[0]["decibels"]) == (8.0, 18.06)
    grown = profile.with_level(NoiseLevel(iso=100, shot=1e-4, read=1e-6))
    assert [level.iso for level in grown.levels] == [100, 800]
    assert len(grown.with_level(profile.levels[0]).levels) == 2


@pytest.mark.parametrize("text", ["", "{}", '{"levels": []}', '{"levels": [{"iso": 1}]}'])
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(ConfigError):
        NoiseProfile.load(tmp_path / "odd.json")


def test_only_noise_at_an_iso_speed_is_that_of_the_camera() -> None:
    profile = NoiseProfile(levels=(NoiseLevel(iso=6400, shot=SHOT, read=READ),))
    applied = profile.applied(parse_degradation("noise:iso=6400"))
    assert applied.fixed == {"shot": SHOT, "read": READ, "iso": 6400}
    for text in ("noise:sigma=25", "blur"):
        wanted = parse_degradation(text)
        assert profile.applied(wanted) is wanted
