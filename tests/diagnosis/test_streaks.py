"""Fine lines that run one way everywhere, told from those of a scene."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from autodir.diagnosis.streaks import MEASURES, measure
from autodir.errors import ContractError
from autodir.synthesis.rain import rain

STRONGEST, ACROSS, LOWER, AGREEING, BRIGHTER, BRIGHTEST, LEAN, POWER = range(MEASURES // 2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grain(deviation: float = 0.02, side: int = 256) -> Tensor:
    noise = deviation * torch.randn(1, 1, side, side, generator=seeded()).expand(1, 3, -1, -1)
    return (0.4 + noise).clamp(0, 1)


def wet(angle: float, photo: Tensor) -> Tensor:
    fixed = {"style": "fine", "angle": angle, "veil": 0.0, "layers": 1.0}
    return rain(photo, torch.full((len(photo),), 0.6), seeded(2), fixed)[0]


def test_length_does_not_depend_on_the_photo() -> None:
    for height, width in ((8, 8), (40, 300), (64, 64), (700, 900)):
        figures = measure(torch.rand(1, 3, height, width, generator=seeded()))
        assert figures.shape == (MEASURES,)
        assert bool(figures.isfinite().all())


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_an_even_photo_has_no_direction(value: float) -> None:
    figures = measure(torch.full((1, 3, 96, 96), value))
    assert float(figures[[STRONGEST, ACROSS, BRIGHTER]].abs().max()) < 0.02


def test_rain_runs_one_way_everywhere_and_grain_does_not() -> None:
    dry, rainy = measure(grain()), measure(wet(0.0, grain()))
    assert float(rainy[STRONGEST]) > 0.3 > float(dry[STRONGEST]) + 0.1
    assert float(rainy[AGREEING]) > 0.7 > float(dry[AGREEING]) + 0.2
    assert float(rainy[BRIGHTER]) > float(dry[BRIGHTER]) + 0.05
    assert float(rainy[POWER]) > float(dry[POWER])


@pytest.mark.parametrize("angle", [-34.0, 0.0, 22.0])
def test_lean_is_that_of_the_streaks(angle: float) -> None:
    lean = math.degrees(float(measure(wet(angle, grain(0.005)))[LEAN]))
    assert abs(lean - abs(angle)) <= 180 / 16 + 1


def test_lines_across_are_not_taken_for_rain() -> None:
    upright = wet(0.0, grain())
    aslope = upright.transpose(-1, -2)
    assert float(measure(aslope)[ACROSS]) == pytest.approx(
        float(measure(upright)[STRONGEST]), abs=0.1
    )
    assert float(measure(aslope)[STRONGEST]) < 0.1


def test_a_gap_is_no_streak() -> None:
    rainy = wet(0.0, grain())
    assert float(measure(1 - rainy)[BRIGHTER]) == pytest.approx(
        -float(measure(rainy)[BRIGHTER]), abs=1e-3
    )


def test_brightness_of_the_scene_changes_nothing() -> None:
    rainy = wet(0.0, grain())
    assert torch.allclose(measure(rainy), measure(rainy - 0.05), atol=2e-2)


def test_a_photo_of_another_shape_is_refused() -> None:
    with pytest.raises(ContractError):
        measure(torch.rand(1, 1, 64, 64))
