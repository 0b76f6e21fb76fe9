"""Three stages that overlap: order, errors, stops, crashes, and little in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from autodir.batch.stream import AHEAD, stream
from autodir.errors import AutodirError, ImageError


def go(
    items: Any,
    prepare: Callable[[Any], Any] = lambda item: item,
    *workers: Callable[[Any, Any], Any],
    stop: threading.Event | None = None,
    fail_fast: bool = False,
    finish: Callable[[Any, Any], object] | None = None,
) -> list[tuple[Any, Any]]:
    done: list[tuple[Any, Any]] = []
    stream(
        items,
        prepare=prepare,
        workers=workers or [lambda item, ready: ready],
        finish=finish or (lambda item, outcome: done.append((item, outcome))),
        stop=stop or threading.Event(),
        fail_fast=fail_fast,
    )
    return done


def test_every_item_goes_through_the_stages_in_order() -> None:
    done = go(range(20), lambda item: item + 1, lambda item, ready: (item, ready * 2))
    assert done == [(item, (item, (item + 1) * 2)) for item in range(20)]


def test_nothing_is_nothing() -> None:
    assert go([]) == []


def test_the_stages_overlap() -> None:
    pause = 0.05

    def slow(*arguments: Any) -> None:
        time.sleep(pause)

    begun = time.monotonic()
    go(range(10), slow, slow, finish=slow)
    assert time.monotonic() - begun < 0.8 * 3 * 10 * pause


def test_the_model_does_not_wait_for_a_disk_that_is_a_little_faster() -> None:
    waits: list[float] = []
    ended = time.monotonic()

    def model(item: int, ready: object) -> None:
        nonlocal ended
        waits.append(time.monotonic() - ended)
        time.sleep(0.06)
        ended = time.monotonic()

    go(range(10), lambda item: time.sleep(0.02), model, finish=lambda *pair: time.sleep(0.02))
    assert sorted(waits[1:])[len(waits) // 2] < 0.01


def test_no_more_than_a_few_items_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    held, most = 0, 0
    lock = threading.Lock()

    def count(change: int) -> None:
        nonlocal held, most
        with lock:
            held += change
            most = max(most, held)

    def model(item: int, ready: object) -> None:
        time.sleep(0.002)

    go(range(100), lambda item: count(1), model, finish=lambda *pair: count(-1))
    assert held == 0
    assert most <= 2 * AHEAD + 3


def test_errors_are_passed_on_and_the_others_go_on() -> None:
    def prepare(item: int) -> int:
        if item == 1:
            raise ImageError("unreadable")
        return item

    def model(item: int, ready: int) -> int:
        if item == 2:
            raise ImageError("out of luck")
        return ready

    outcomes = [outcome for _, outcome in go(range(4), prepare, model)]
    assert [str(outcome) for outcome in outcomes] == ["0", "unreadable", "out of luck", "3"]


@pytest.mark.parametrize("stage", [0, 1])
def test_fail_fast_begins_nothing_after_an_error(stage: int) -> None:
    worked: list[int] = []

    def fail(item: int, at: int) -> int:
        if item == 1 and at == stage:
            raise ImageError("no")
        return item

    def model(item: int, ready: int) -> int:
        worked.append(item)
        return fail(item, 1)

    done = go(range(50), lambda item: fail(item, 0), model, fail_fast=True)
    assert [item for item, _ in done] == [0, 1]
    assert worked == [0, 1][: 1 + stage]


def test_a_stop_finishes_what_was_begun() -> None:
    stop = threading.Event()

    def model(item: int, ready: int) -> int:
        if item == 3:
            stop.set()
        return ready

    assert [item for item, _ in go(range(50), lambda item: item, model, stop=stop)] == [0, 1, 2, 3]


@pytest.mark.parametrize("stage", ["items", "prepare", "model", "finish"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_crash_of_any_stage_ends_all_and_is_raised(stage: str, workers: int) -> None:
    def crash(item: int, at: str) -> int:
        if at == stage and item == 5:
            raise ZeroDivisionError(at)
        return item

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError, match=stage):
        go(
            (crash(item, "items") for item in range(1000)),
            lambda item: crash(item, "prepare"),
            *[lambda item, ready: crash(item, "model")] * workers,
            finish=lambda item, outcome: crash(item, "finish"),
        )
    assert threading.active_count() == before


def test_an_interrupt_of_the_model_ends_all() -> None:
    def model(item: int, ready: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(range(1000), lambda item: item, model)


def test_several_workers_share_the_items() -> None:
    places: set[int] = set()
    together = threading.Barrier(3, timeout=30)

    def model(item: int, ready: int) -> int:
        places.add(threading.get_ident())
        if item < 3:
            together.wait()
        return ready

    done = go(range(30), lambda item: item, model, model, model)
    assert sorted(item for item, _ in done) == list(range(30))
    assert len(places) == 3


def test_errors_of_several_workers_are_passed_on() -> None:
    def model(item: int, ready: int) -> int:
        raise ImageError(str(item))

    done = go(range(5), lambda item: item, model, model)
    assert all(isinstance(outcome, AutodirError) for _, outcome in done)
    assert len(done) == 5
