"""``--fail-on``: rules are read strictly, and the refused photos are listed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autodir.cli.gate import DegradationFoundError, Gate, Rule, parse_rule
from autodir.errors import ConfigError, PromptError

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def document(main: str | None = None, **presence: float) -> dict[str, Any]:
    probabilities = {main: 0.9} if main else {}
    return {"input": "a.jpg", "main": main, "probabilities": probabilities, "presence": presence}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("noise", Rule(key="noise", limit=None)),
        ("noise>0.8", Rule(key="noise", limit=0.8)),
        (" low resolution > 1", Rule(key="low_resolution", limit=1.0)),
        ("any>0", Rule(key="any", limit=0.0)),
    ],
)
def test_a_rule_is_a_key_and_a_limit(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize("text", ["", "noise>", ">0.8", "noise>=0.8", "noise<1", "noise>nan"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_rule(text)


@pytest.mark.parametrize("text", ["noise>1.5", "noise>-0.1", "noise>loud"])
def test_a_limit_is_a_presence(text: str) -> None:
    with pytest.raises(ConfigError, match="fail-on"):
        parse_rule(text)


def test_an_unknown_degradation_is_a_prompt_error() -> None:
    with pytest.raises(PromptError):
        Gate(["noise,smell>0.5"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("noise>0.5", "noise 0.60 > 0.5"),
        ("noise>0.6", None),
        ("any>0.7", "blur 0.80 > 0.7"),
        ("any", "blur 0.90"),
        ("noise", None),
    ],
)
def test_a_photo_is_refused_above_the_limit_only(text: str, why: str | None) -> None:
    assert parse_rule(text).refuse(document("blur", noise=0.6, blur=0.8)) == why


def test_a_bare_key_lets_a_clean_photo_pass_whatever_its_presence() -> None:
    gate = Gate(["noise", "any"])
    gate.look(document(None, noise=0.99))
    gate.close()


def test_the_gate_closes_where_one_photo_is_refused() -> None:
    gate = Gate(["noise>0.5", "blur>0.5"])
    gate.look(document(None, noise=0.9, blur=0.7))
    assert gate.refused == {"a.jpg": "noise 0.90 > 0.5, blur 0.70 > 0.5"}
    with pytest.raises(DegradationFoundError):
        gate.close()


@pytest.mark.usefixtures("restorer")
def test_refused_photos_are_listed_after_the_diagnoses(
    run: Run, dark: Path, good: Path, capsys: Capture
) -> None:
    assert run("diagnose", "dark.png", "good.jpg", "--fail-on", "underexposure>0.8") == 10
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["refused: 1 of 2", "dark.png  underexposure 0.95 > 0.8"]


@pytest.mark.usefixtures("restorer")
def test_the_list_stays_out_of_the_json_lines(run: Run, dark: Path, capsys: Capture) -> None:
    assert run("diagnose", "dark.png", "--fail-on", "any>0.8", "--json") == 10
    streams = capsys.readouterr()
    assert [json.loads(line)["input"] for line in streams.out.splitlines()] == ["dark.png"]
    assert "refused: 1 of 1" in streams.err


@pytest.mark.usefixtures("restorer")
def test_an_unreadable_photo_fails_the_command_and_the_list_is_still_shown(
    run: Run, dark: Path, capsys: Capture
) -> None:
    dark.with_name("bad.png").write_bytes(b"")
    assert run("diagnose", ".", "--fail-on", "any") == 1
    assert "refused: 1 of 1" in capsys.readouterr().out
