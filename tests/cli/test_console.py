"""Which stream carries what, and to whom the program speaks."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

import pytest

from autodir.cli.console import Console
from autodir.errors import ConfigError


@dataclass(frozen=True)
class Step:
    index: int
    total: int


Capture = pytest.CaptureFixture[str]


def test_people_are_spoken_to_on_stdout(capsys: Capture) -> None:
    Console().say("1  rain 0.93  →  repaired")
    assert capsys.readouterr() == ("1  rain 0.93  →  repaired\n", "")


@pytest.mark.parametrize("console", [Console(json=True), Console(stdout_taken=True)])
def test_stdout_that_is_taken_is_left_alone(console: Console, capsys: Capture) -> None:
    console.say("hello")
    console.table("title", ("a",), [("b",)])
    out, err = capsys.readouterr()
    assert out == ""
    assert "hello" in err


def test_quiet_says_nothing_but_errors(capsys: Capture) -> None:
    console = Console(quiet=True)
    console.say("hello")
    console.table("title", ("a",), [("b",)])
    assert capsys.readouterr() == ("", "")
    console.error(ConfigError("wrong", "do this"))
    assert "wrong" in capsys.readouterr().err


def test_lines_are_neither_wrapped_nor_read_as_markup(capsys: Capture) -> None:
    text = "[bold]x[/bold] :smile: " + "word " * 60
    Console().say(text)
    assert capsys.readouterr().out == text + "\n"


def test_json_is_one_line_on_stdout(capsys: Capture) -> None:
    Console(json=True).emit({"a": 1})
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"a": 1}, "")


def test_there_is_no_progress_bar_without_a_terminal(capsys: Capture) -> None:
    with Console().progress("photo.jpg") as advance:
        assert advance is None
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_progress_bar_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with Console().progress("photo.jpg") as advance:
        assert advance is not None
        advance(Step(index=1, total=4))
    out, err = capsys.readouterr()
    assert out == ""
    assert "photo.jpg" in err


def test_a_dumb_terminal_gets_no_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    with Console().progress("photo.jpg") as advance:
        assert advance is None


def test_no_color_is_honored(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    Console().say("red", style="red")
    assert "\x1b[31m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    Console().say("red", style="red")
    assert "\x1b[31m" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("console", "shown"),
    [
        ({"quiet": True}, set()),
        ({}, {"warned"}),
        ({"verbose": 1}, {"warned", "informed"}),
        ({"verbose": 2}, {"warned", "informed", "debugged"}),
    ],
)
def test_verbosity_decides_which_log_records_are_shown(
    console: dict[str, int], shown: set[str], capsys: Capture
) -> None:
    Console(**console)  # type: ignore[arg-type]
    logger = logging.getLogger("autodir.somewhere")
    logger.warning("warned")
    logger.info("informed")
    logger.debug("debugged")
    out, err = capsys.readouterr()
    assert out == ""
    assert {word for word in ("warned", "informed", "debugged") if word in err} == shown
