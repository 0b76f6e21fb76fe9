"""``autodir train``: flags and file become the options of one run."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from autodir.config import TrainOptions

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[TrainOptions]:
    """The options of the runs that were started, instead of running them."""
    options: list[TrainOptions] = []
    module = types.ModuleType("autodir.training.run")
    module.run_part = lambda one, start: options.append(one)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "autodir.training.run", module)
    return options


def test_flags_become_the_options_of_a_run(
    run: Run, started: list[TrainOptions], capsys: Capture
) -> None:
    flags = ("--data", "photos", "--pairs", "pairs", "--out", "model", "--budget", "150m")
    more = ("--resume", "--seed", "5", "--batch", "8", "--learning-rate", "0.002", "--init", "old")
    assert run("train", "all", *flags, *more, "--threads", "2", "--precision", "bf16") == 0
    assert started == [
        TrainOptions(
            part="all",
            data=Path("photos"),
            pairs=Path("pairs"),
            out=Path("model"),
            budget=9000,
            resume=True,
            seed=5,
            batch=8,
            learning_rate=0.002,
            init=Path("old"),
            threads=2,
            precision="bf16",
        )
    ]
    assert "150.0 min" in capsys.readouterr().out


def test_options_are_read_from_a_file(
    run: Run, started: list[TrainOptions], tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text('data = "photos"\nout = "model"\nbudget = "90s"\n')
    assert run("train", "biqa", "--config", "mine.toml", "--budget", "2h", "--quiet") == 0
    assert (started[0].data, started[0].budget) == (Path("photos"), 7200)


@pytest.mark.parametrize(
    "arguments",
    [
        ("everything", "--data", "d", "--out", "o"),
        ("all", "--out", "o"),
        ("all", "--data", "d"),
        ("all", "--data", "d", "--out", "o", "--budget", "soon"),
        ("all", "--data", "d", "--out", "o", "--batch", "0"),
    ],
)
def test_a_run_that_cannot_be_is_refused(
    run: Run, started: list[TrainOptions], arguments: tuple[str, ...]
) -> None:
    assert run("train", *arguments) == 2
    assert started == []
