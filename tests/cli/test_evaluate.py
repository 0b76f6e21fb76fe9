"""``autodir evaluate``: one call of the suite, shown as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autodir.evaluation import suite as suites

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]

FIGURES = {
    "cases": 3,
    "psnr": 24.844,
    "ssim": 0.61234,
    "gain": 2.5,
    "gain_interval": None,
    "harmed": 0.05,
    "untouched": None,
    "seconds": 0.5,
    "metrics": {},
}
HEAD = {
    "schema": suites.SCHEMA,
    "suite_sha256": "ab",
    "title": "Noise",
    "kind": "restoration",
    "seed": 0,
    "limit": None,
    "model": {},
    "circumstances": {},
    "seconds": 1.5,
    "peak_memory_bytes": None,
}
RECOGNITION = {"accuracy": 0.934, "pictures": 100, "false_alarms": None, "clean_pictures": 0}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of the suites that were run, instead of running them."""
    seen: list[dict[str, Any]] = []

    def run_suite(suite: str, data: Path | None, restorer: object, **options: Any) -> Any:
        seen.append({"suite": suite, "data": data, "restorer": restorer, **options})
        if "recognition" in suite:
            return {"suite": suite, "recognition": RECOGNITION}
        return HEAD | {"suite": suite, "sets": {"CBSD68": {"whole": FIGURES}}}

    monkeypatch.setattr(suites, "run_suite", run_suite)
    return seen


@pytest.mark.usefixtures("restorer")
def test_a_suite_is_run_as_asked_and_shown_as_a_table(
    run: Run, calls: list[dict[str, Any]], capsys: Capture
) -> None:
    flags = ("--data", "eval", "--out", "results", "--limit", "3", "--set", "CBSD", "--quiet")
    assert run("evaluate", "noise", *flags[:-1], "--system", "whole") == 0
    (call,) = calls
    assert type(call.pop("restorer")).__name__ == "FakeRestorer"
    assert call == {
        "suite": "noise",
        "data": Path("eval"),
        "out": Path("results"),
        "limit": 3,
        "sets": ["CBSD"],
        "systems": ["whole"],
    }
    out = capsys.readouterr().out
    for text in ("CBSD68", "whole", "24.84", "0.6123", "+2.50", "5.0%", "–"):
        assert text in out


def test_systems_without_a_model_need_none(run: Run, calls: list[dict[str, Any]]) -> None:
    assert run("evaluate", "noise", "--system", "input", "--model", "missing") == 0
    assert calls[0]["restorer"] is None


@pytest.mark.usefixtures("restorer", "calls")
def test_the_result_is_one_json_object(run: Run, capsys: Capture) -> None:
    assert run("evaluate", "noise", "--json") == 0
    assert json.loads(capsys.readouterr().out)["sets"]["CBSD68"]["whole"]["psnr"] == 24.844


@pytest.mark.usefixtures("restorer", "calls")
def test_recognition_is_shown_as_shares(run: Run, capsys: Capture) -> None:
    assert run("evaluate", "recognition") == 0
    out = capsys.readouterr().out
    assert "93.4%" in out
    assert "100" in out


def test_an_unknown_suite_is_a_config_error(run: Run, capsys: Capture) -> None:
    assert run("evaluate", "nosie") == 2
    assert "noise" in capsys.readouterr().err
