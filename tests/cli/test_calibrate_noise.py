"""``autodir calibrate-noise``: frames in, a profile out, and degradations with that noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

Run = Callable[..., int]
SHOT, READ = 2e-3, 2e-4


def save_frame(path: Path, level: float, seed: int) -> None:
    """A flat frame in linear light, with the noise of a known camera."""
    generator = np.random.default_rng(seed)
    light = SHOT * generator.poisson(level / SHOT, (128, 128, 3))
    light = light + READ**0.5 * generator.standard_normal(light.shape)
    PIL.Image.fromarray((light.clip(0, 1) * 255).round().astype(np.uint8)).save(path)


def test_frames_become_a_profile_that_degrade_uses(
    run: Run, tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, level in enumerate((0.2, 0.4, 0.6, 0.8)):
        save_frame(tmp_path / f"flat{index}.png", level, index)
    flats = [f"flat{index}.png" for index in range(4)]
    assert run("calibrate-noise", *flats, "--iso", 6400, "--linear", "--out", "camera.json") == 0
    assert "36.12 dB" in capsys.readouterr().out
    assert (
        run("calibrate-noise", *flats, "--iso", 100, "--linear", "-o", "camera.json", "--json") == 0
    )
    levels = json.loads(capsys.readouterr().out)["levels"]
    assert [level["iso"] for level in levels] == [100, 6400]
    assert levels[1]["shot"] == pytest.approx(SHOT, rel=0.1)
    chain = ("--with", "noise:iso=6400", "--noise-profile", "camera.json", "--json")
    assert run("degrade", "good.jpg", *chain) == 0
    drawn = json.loads(capsys.readouterr().out)["degradations"][0]["parameters"]
    assert drawn["shot"] == pytest.approx(levels[1]["shot"], rel=1e-4)
    assert drawn["read"] == pytest.approx(levels[1]["read"], rel=1e-4)


def test_one_repeated_frame_is_refused(run: Run, tmp_path: Path) -> None:
    save_frame(tmp_path / "one.png", 0.5, 0)
    assert run("calibrate-noise", "one.png", "--iso", 800, "--repeated", "--out", "c.json") == 2
    assert not (tmp_path / "c.json").exists()
