"""What became of the inputs so far: counted, shown as progress, and summed up at the end.

Apart so that every command on many photos ends in the same way, Ctrl-C included.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType, TracebackType
from typing import Self

from autodir.cli.console import Console
from autodir.errors import AutodirError
from autodir.report import error_to_dict


class FilesFailedError(Exception):
    """Inputs failed and have been shown; what is left is the exit code.

    Args:
        errors: one error for each input that failed.
        is_alone: there was only one input, so that its error decides the exit code.
    """

    def __init__(self, errors: Sequence[AutodirError], *, is_alone: bool) -> None:
        super().__init__(f"{len(errors)} inputs failed")
        self.errors, self.is_alone = tuple(errors), is_alone


class Tally:
    """Counts inputs while its ``with`` block runs, and closes the account when it ends.

    With several inputs the first Ctrl-C only sets `stop`; the second one interrupts. The block then
    ends with a summary, and with the exception that decides the exit code.

    Args:
        total: the number of inputs.
        console: where it is shown.
        schema: the schema of the JSON objects that stand for failures.

    Raises:
        FilesFailedError: at least one input failed.
        KeyboardInterrupt: Ctrl-C was pressed.
    """

    def __init__(self, total: int, console: Console, schema: str) -> None:
        self.stop = threading.Event()
        self._total, self._console, self._schema = total, console, schema
        self._counts: Counter[str] = Counter()
        self._failed: list[tuple[str, AutodirError]] = []
        self._is_interrupted = False
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        is_main = threading.current_thread() is threading.main_thread()
        if self._total > 1 and is_main:
            before = signal.signal(signal.SIGINT, self._interrupt)
            self._resources.callback(signal.signal, signal.SIGINT, before)
        self._advance = self._resources.enter_context(self._console.overall(self._total))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()
        if self._total > 1 and (error is None or isinstance(error, KeyboardInterrupt)):
            self._sum_up()
        if error is not None:
            return
        if self._is_interrupted:
            raise KeyboardInterrupt
        if self._failed:
            errors = [failure for _, failure in self._failed]
            raise FilesFailedError(errors, is_alone=self._total == 1)

    def count(self, what: str, *, is_work: bool = True) -> None:
        """One more input is done.

        Args:
            what: a word for the summary, such as "repaired".
            is_work: it took its time, which the rate and the remaining time are made of.
        """
        self._counts[what] += 1
        self._advance(is_work)

    def fail(self, source: str, error: AutodirError) -> None:
        """One more input has failed; says why."""
        self._failed.append((source, error))
        if self._console.json:
            self._console.emit(error_to_dict(error, schema=self._schema, source=source))
        else:
            self._console.error(error, source)
        self._advance(True)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._is_interrupted:
            raise KeyboardInterrupt
        self._is_interrupted = True
        self.stop.set()
        self._console.say("Ending after this photo; Ctrl-C again ends at once.", style="dim")

    def _sum_up(self) -> None:
        seconds = time.monotonic() - self._started
        done = sum(self._counts.values()) + len(self._failed)
        parts = [f"{number} {what}" for what, number in self._counts.items()]
        parts += [f"{len(self._failed)} failed"] if self._failed else []
        parts += [f"{self._total - done} not begun"] if done < self._total else []
        rate = f"{done / seconds:.2g} photos/s" if seconds > 0 else ""
        self._console.say(f"{self._total} photos: {', '.join(parts)}  {seconds:.1f} s  {rate}")
        for source, error in self._failed:
            self._console.say(f"failed  {source}  {error.message}", style="red")
