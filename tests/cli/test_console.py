"""Which stream carries what, and to whom the program speaks."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

import pytest
from rich.progress import Progress

from autodir.cli.console import Console, _Rate
from autodir.errors import ConfigError
from autodir.report import error_to_dict


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
    document = error_to_dict(ConfigError("wrong", "do this"))
    Console(json=True).emit(document)
    out, err = capsys.readouterr()
    assert (json.loads(out), err, out.count("\n")) == (document, "", 1)


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


def test_all_photos_have_a_bar_around_that_of_each(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    console = Console()
    with console.overall(3) as advance:
        with console.progress("photo.jpg") as steps:
            assert steps is not None
            steps(Step(index=0, total=2))
        advance(True)
        advance(False)
        shown = console._shown
        assert shown is not None
        (task,) = shown.tasks
        assert (task.completed, task.total) == (1, 2)
        console.say("a line between")
    out, err = capsys.readouterr()
    assert out == "a line between\n"
    assert "photos" in err
    assert console._shown is None


def test_one_photo_has_no_bar_of_all(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with Console().overall(1) as advance:
        advance(True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "4 photos/s"), (10.0, "6 photos/min"), (None, "")]
)
def test_a_rate_is_told_in_seconds_or_minutes(seconds: float | None, text: str) -> None:
    now = [0.0]
    progress = Progress(get_time=lambda: now[0])
    task = progress.add_task("photos", total=10, unit="photos")
    for _ in range(4 if seconds else 0):
        now[0] += seconds or 0
        progress.advance(task)
    assert _Rate().render(progress.tasks[0]).plain == text


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
