"""Severity: monotone readings with error bars, strict figures, and the shipped ones on photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.diagnosis.severity import (
    UNITS,
    Reading,
    SeverityModel,
    estimate,
    load,
    observe,
    shipped,
)
from autodir.errors import ConfigError
from autodir.synthesis.codec import jpeg


def figures(width: int = 3) -> dict[str, Any]:
    knots = {"raw": [0.0, 1.0], "value": [10.0, 20.0], "error": [1.0, 3.0]}
    return {
        "schema": 1,
        "center": [0.0] * width,
        "scale": [1.0] * width,
        "inner": [[0.5] * width + [0.0]] * 4,
        "outer": [[0.1] * 4 + [0.5]] * 2,
        "readings": {"noise": knots, "haze": knots},
    }


@pytest.fixture(scope="module")
def scene() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    coarse = F.interpolate(torch.rand(1, 3, 10, 10, generator=generator), (256, 256))
    fine = F.interpolate(torch.rand(1, 3, 128, 128, generator=generator), (256, 256))
    return 0.75 * coarse + 0.15 * fine


@pytest.mark.parametrize(
    ("raw", "expected"), [(-9.0, (10, 1)), (0.5, (15, 2)), (1.0, (20, 3)), (9.0, (20, 3))]
)
def test_a_reading_is_linear_between_its_knots_and_constant_outside(
    raw: float, expected: tuple[float, float]
) -> None:
    reading = Reading(
        raw=torch.tensor([0.0, 1.0]),
        value=torch.tensor([10.0, 20.0]),
        error=torch.tensor([1.0, 3.0]),
    )
    assert reading(raw) == pytest.approx(expected)


def test_figures_become_values_with_units() -> None:
    found = SeverityModel.from_dict(figures()).read(torch.zeros(3))
    assert found.keys() == {"noise", "haze"}
    assert (found["noise"].value, found["noise"].error) == pytest.approx((15, 2))
    assert found["noise"].unit == "levels"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"center": [0.0]},
        {"outer": [[0.0] * 5]},
        {"readings": {}},
        {"readings": {"smell": figures()["readings"]["noise"]} | figures()["readings"]},
        {"inner": "much"},
    ],
)
def test_figures_that_do_not_fit_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SeverityModel.from_dict(figures() | change)


@pytest.mark.parametrize("text", ["", "{}", "[]"])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "severity.json"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load(path)
    with pytest.raises(ConfigError):
        load(tmp_path / "missing.json")


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "severity.json"
    path.write_text(json.dumps(figures()))
    assert load(path).read(torch.ones(3)) == SeverityModel.from_dict(figures()).read(torch.ones(3))


def test_the_shipped_figures_read_every_unit_and_rise_with_the_raw_figure(scene: Tensor) -> None:
    model = shipped()
    assert model.readings.keys() == UNITS.keys()
    measures = observe(scene, len(model.center))
    assert len(model.center) == len(measures) <= len(observe(scene))
    for reading in model.readings.values():
        assert bool((reading.raw.diff() > 0).all())
        assert bool((reading.value.diff() >= 0).all())
        assert float(reading.error.min()) >= 0


def test_more_noise_blocks_and_darkness_read_as_more(scene: Tensor) -> None:
    noise = torch.randn(scene.shape, generator=torch.Generator().manual_seed(1)) / 255
    sigmas = [estimate((scene + s * noise).clamp(0, 1))["noise"].value for s in (2, 12, 45)]
    assert sigmas == sorted(sigmas)
    assert sigmas[2] > sigmas[0] + 10
    stops = [estimate(scene * gain)["underexposure"].value for gain in (1.0, 0.4, 0.1)]
    assert stops == sorted(stops, reverse=True)
    qualities = [estimate(jpeg(scene[0], q)[None])["compression"].value for q in (8, 40, 90)]
    assert qualities == sorted(qualities)


def test_the_tables_of_a_file_are_believed_unless_the_pixels_are_worse(scene: Tensor) -> None:
    worse = jpeg(scene[0], 8)[None]
    seen = estimate(worse)["compression"]
    assert estimate(worse, quality=99)["compression"] == seen
    told = estimate(worse, quality=8)["compression"]
    assert (told.value, told.error) == (8.0, 1.0)
