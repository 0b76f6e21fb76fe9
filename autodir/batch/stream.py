"""Read ahead, work, write behind: three stages that overlap, with little between them.

Apart so that nobody who decodes, repairs or writes needs to know about threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, Queue
from typing import TypeVar

from autodir.errors import AutodirError

Item = TypeVar("Item")
Ready = TypeVar("Ready")
Done = TypeVar("Done")

AHEAD = 1
"""Items that wait before and behind the work, at most; each may hold a decoded photo.

One more is in the hands of each stage, so that none of them waits for another as long as it is the
slowest, and memory holds five photos, however many there are.
"""

_POLL = 0.05


def stream(
    items: Iterable[Item],
    *,
    prepare: Callable[[Item], Ready],
    workers: Sequence[Callable[[Item, Ready], Done]],
    finish: Callable[[Item, Done | AutodirError], object],
    stop: threading.Event,
    fail_fast: bool = False,
    ahead: int = AHEAD,
) -> None:
    """Prepare, work on and finish every item, the three of them at the same time.

    Args:
        items: in the order in which they are prepared.
        prepare: runs in a thread of its own, at most ``ahead`` items before the work.
        workers: one runs in the calling thread and keeps the order; of several each has a thread.
        finish: runs in one more thread, for one item at a time; is given the error where `prepare`
            or the worker raised an `AutodirError`.
        stop: when it is set, nothing new is begun, and what was begun is finished.
        fail_fast: set it at the first error.
        ahead: the length of the queues.

    Raises:
        Exception: whatever a stage raised besides; no stage begins anything after it.
    """
    waiting: Queue[tuple[Item, Ready | AutodirError] | None] = Queue(ahead)
    done: Queue[tuple[Item, Done | AutodirError] | None] = Queue(ahead)
    crashes: list[BaseException] = []
    over = threading.Event()

    def crash(error: BaseException) -> None:
        crashes.append(error)
        stop.set()

    def read() -> None:
        try:
            for item in items:
                if stop.is_set() or over.is_set():
                    break
                waiting.put((item, _attempt(prepare, item)))
        except BaseException as error:  # passed on to the caller
            crash(error)
        finally:
            for _ in workers:
                waiting.put(None)

    def work(worker: Callable[[Item, Ready], Done]) -> None:
        while (pair := waiting.get()) is not None:
            if stop.is_set():
                continue  # what was read in vain is dropped
            item, ready = pair
            outcome = ready if isinstance(ready, AutodirError) else _attempt(worker, item, ready)
            if fail_fast and isinstance(outcome, AutodirError):
                stop.set()
            done.put((item, outcome))

    def work_apart(worker: Callable[[Item, Ready], Done]) -> None:
        try:
            work(worker)
        except BaseException as error:  # passed on to the caller
            crash(error)

    def write() -> None:
        while (pair := done.get()) is not None:
            if crashes:
                continue
            try:
                finish(*pair)
            except BaseException as error:  # passed on to the caller
                crash(error)

    reader, writer = _thread(read), _thread(write)
    try:
        if len(workers) == 1:
            work(workers[0])
        else:
            for thread in [_thread(work_apart, worker) for worker in workers]:
                thread.join()
    finally:
        over.set()
        while reader.is_alive():
            try:
                waiting.get(timeout=_POLL)
            except Empty:
                continue
        done.put(None)
        writer.join()
    if crashes:
        raise crashes[0]


def _attempt(function: Callable[..., Ready], *arguments: object) -> Ready | AutodirError:
    try:
        return function(*arguments)
    except AutodirError as error:
        return error


def _thread(target: Callable[..., object], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread
