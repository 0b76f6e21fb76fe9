"""Going through the inputs: one that fails does not stop the others."""

from __future__ import annotations

import json

import pytest

from autodir.cli.console import Console
from autodir.cli.inputs import go_through
from autodir.cli.tally import FilesFailedError
from autodir.errors import ImageError
from autodir.report import RESTORATION_SCHEMA


def go(sources: list[str], console: Console, *, fail_fast: bool = False) -> list[str]:
    done: list[str] = []

    def work(source: str) -> None:
        if source.startswith("bad"):
            raise ImageError(f"{source} is broken", "take another")
        done.append(source)

    try:
        go_through(sources, work, console=console, schema=RESTORATION_SCHEMA, fail_fast=fail_fast)
    finally:
        go.done = done  # type: ignore[attr-defined]
    return done


def test_all_are_done_when_none_fails() -> None:
    assert go(["a", "b"], Console()) == ["a", "b"]


def test_the_others_go_on_and_the_failures_are_counted() -> None:
    with pytest.raises(FilesFailedError) as caught:
        go(["a", "bad1", "b", "bad2"], Console(quiet=True))
    assert [error.message for error in caught.value.errors] == ["bad1 is broken", "bad2 is broken"]
    assert not caught.value.is_alone
    assert go.done == ["a", "b"]  # type: ignore[attr-defined]


def test_fail_fast_stops_at_the_first() -> None:
    with pytest.raises(FilesFailedError):
        go(["bad1", "a"], Console(quiet=True), fail_fast=True)
    assert go.done == []  # type: ignore[attr-defined]


def test_a_single_input_is_alone() -> None:
    with pytest.raises(FilesFailedError) as caught:
        go(["bad"], Console(quiet=True))
    assert caught.value.is_alone


def test_failures_are_panels_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FilesFailedError):
        go(["bad"], Console(quiet=True))
    out, err = capsys.readouterr()
    assert out == ""
    assert "bad is broken" in err
    assert "take another" in err


def test_failures_are_json_objects_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FilesFailedError):
        go(["bad"], Console(json=True))
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["input"]) == (RESTORATION_SCHEMA, "bad")
    assert document["error"]["kind"] == "ImageError"
