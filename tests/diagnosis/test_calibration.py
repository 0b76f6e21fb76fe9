"""The figures between raw scores and decisions: defaults, Platt scaling, malformed tables."""

import dataclasses
import math

import pytest

from autodir.diagnosis.calibration import Calibration
from autodir.errors import CheckpointError


def test_without_figures_presence_is_the_sigmoid() -> None:
    assert Calibration().presence("rain", 0.0) == 0.5
    assert Calibration().presence("rain", 2.0) == pytest.approx(1 / (1 + math.exp(-2)))


def test_scale_and_shift_are_those_of_the_degradation() -> None:
    figures = Calibration(presence_scale={"rain": 3.0}, presence_shift={"rain": -1.0})
    assert figures.presence("rain", 2.0) == pytest.approx(1 / (1 + math.exp(-5)))
    assert figures.presence("haze", 2.0) == pytest.approx(1 / (1 + math.exp(-2)))


@pytest.mark.parametrize(("logit", "expected"), [(1e6, 1.0), (-1e6, 0.0)])
def test_extreme_logits_do_not_overflow(logit: float, expected: float) -> None:
    assert Calibration().presence("rain", logit) == pytest.approx(expected)


def test_figures_come_back_from_their_table() -> None:
    figures = Calibration(temperature=2.0, clean_threshold=0.3, presence_scale={"rain": 3.0})
    table = {**dataclasses.asdict(figures), "chosen_on": {"photos": 12}}
    assert Calibration.from_dict(table) == figures


def test_own_threshold_goes_before_the_common_one() -> None:
    figures = Calibration(clean_threshold=0.3, thresholds={"haze": 0.1})
    assert (figures.threshold("haze"), figures.threshold("rain")) == (0.1, 0.3)
    assert Calibration.from_dict(dataclasses.asdict(figures)) == figures


def test_empty_table_means_the_defaults() -> None:
    assert Calibration.from_dict({}) == Calibration()


@pytest.mark.parametrize(
    "table",
    [
        {"temperature": "hot"},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"clean_threshold": None},
        {"clean_threshold": float("nan")},
        {"thresholds": {"rain": float("nan")}},
        {"presence_scale": [1.0]},
        {"presence_shift": {"rain": "much"}},
    ],
)
def test_malformed_table_is_a_checkpoint_error(table: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="calibration"):
        Calibration.from_dict(table)
