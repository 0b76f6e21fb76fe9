"""The account of a run: what is counted, how it ends, and what Ctrl-C does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from autodir.cli.console import Console
from autodir.cli.tally import FilesFailedError, Tally
from autodir.errors import ImageError
from autodir.report import RESTORATION_SCHEMA

Capture = pytest.CaptureFixture[str]


def tally(total: int, **console: bool) -> Tally:
    return Tally(total, Console(**console), RESTORATION_SCHEMA)


def test_a_run_is_summed_up(capsys: Capture) -> None:
    with pytest.raises(FilesFailedError) as caught, tally(5) as account:
        account.count("repaired")
        account.count("repaired")
        account.count("done in an earlier run", is_work=False)
        account.fail("bad.jpg", ImageError("no image", "take another"))
    assert not caught.value.is_alone
    out, err = capsys.readouterr()
    summary, failed = out.splitlines()
    assert summary.startswith(
        "5 photos: 2 repaired, 1 done in an earlier run, 1 failed, 1 not begun  "
    )
    assert summary.endswith("photos/s")
    assert failed == "failed  bad.jpg  no image"
    assert "take another" in err


def test_one_photo_alone_has_no_summary(capsys: Capture) -> None:
    with tally(1) as account:
        account.count("repaired")
    assert capsys.readouterr() == ("", "")
    with pytest.raises(FilesFailedError) as caught, tally(1) as account:
        account.fail("bad.jpg", ImageError("no image"))
    assert caught.value.is_alone
    assert capsys.readouterr().out == ""


def test_with_json_only_objects_are_on_stdout(capsys: Capture) -> None:
    with pytest.raises(FilesFailedError), tally(2, json=True) as account:
        account.fail("bad.jpg", ImageError("no image"))
    out, err = capsys.readouterr()
    assert [json.loads(line)["input"] for line in out.splitlines()] == ["bad.jpg"]
    assert "2 photos: 1 failed, 1 not begun" in err


def test_an_exception_passes_through_without_a_summary(capsys: Capture) -> None:
    with pytest.raises(ZeroDivisionError), tally(2) as account:
        account.fail("bad.jpg", ImageError("no image"))
        raise ZeroDivisionError
    assert capsys.readouterr().out == ""


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """Press Ctrl-C; a shell may have started the tests without ears for it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_the_first_interrupt_only_asks_to_stop(
    interrupt: Callable[[], None], capsys: Capture
) -> None:
    before = signal.getsignal(signal.SIGINT)
    finished = False
    with pytest.raises(KeyboardInterrupt), tally(2) as account:
        interrupt()
        finished = account.stop.is_set()
        account.count("repaired")
    assert finished
    assert signal.getsignal(signal.SIGINT) is before
    assert "1 repaired, 1 not begun" in capsys.readouterr().out


def test_the_second_interrupt_ends_at_once(interrupt: Callable[[], None], capsys: Capture) -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), tally(2):
        interrupt()
        interrupt()
        reached = True
    assert not reached
    assert "2 photos: 2 not begun" in capsys.readouterr().out


def test_a_single_photo_is_interrupted_at_once(interrupt: Callable[[], None]) -> None:
    with pytest.raises(KeyboardInterrupt), tally(1) as account:
        interrupt()
        account.count("never")
