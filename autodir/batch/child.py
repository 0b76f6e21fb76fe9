"""A function that answers requests in a process of its own: its crash is an error, its hang ends.

Apart because two things need it: decoders that damaged files may crash, models that share a CPU.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

Answer = TypeVar("Answer")
_SECONDS_TO_END = 5.0


class Child:
    """One process, started when it is first asked something, and again if it has ended since.

    It ends by itself when this process does, however that happens: its connection is closed then.

    Args:
        serve: a function at the top of a module; is given the connection and ``arguments``, and
            answers each of its `requests`.
        arguments: can be pickled.
        has_children: it starts processes itself, so that it has to be closed.
    """

    def __init__(
        self, serve: Callable[..., object], *arguments: object, has_children: bool = False
    ) -> None:
        self._serve, self._arguments, self._has_children = serve, arguments, has_children
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def ask(
        self,
        request: object,
        receive: Callable[[Connection], Answer],
        timeout: float | None = None,
    ) -> Answer:
        """Send a request and wait for the answer.

        Args:
            request: can be pickled.
            receive: takes the answer from the connection.
            timeout: seconds after which the process is ended; the time it takes to start does not
                count.

        Raises:
            TimeoutError: there was no answer in time.
            ChildProcessError: the process ended without an answer.
        """
        try:
            connection = self._connection or self._start()
            connection.send(request)
            if connection.poll(timeout):
                return receive(connection)
        except (EOFError, OSError) as error:
            raise ChildProcessError(_how_it_ended(self._end(_SECONDS_TO_END))) from error
        self._end(patience=0)
        raise TimeoutError(f"no answer in {timeout} s")

    def close(self) -> None:
        """Let the process end; it may be asked again."""
        self._end(_SECONDS_TO_END)

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads that hold locks
        ours, theirs = context.Pipe()
        level = logging.getLogger("autodir").getEffectiveLevel()
        self._process = context.Process(
            target=_run,
            args=(theirs, level, self._serve, *self._arguments),
            daemon=not self._has_children,
        )
        self._connection = ours
        with _interrupts_held_back():
            self._process.start()
        theirs.close()  # so that its end is seen here
        ours.recv_bytes()  # it is ready
        return ours

    def _end(self, patience: float) -> int | None:
        """Close the connection, wait, and use force; the exit code."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        if process is None or process.pid is None:
            return None
        process.join(patience)
        if process.is_alive():
            process.kill()
            process.join()
        code = process.exitcode
        process.close()
        return code


def requests(connection: Connection) -> Iterator[Any]:
    """What a process is asked, until nobody asks any more."""
    connection.send_bytes(b"")  # ready
    while True:
        yield connection.recv()


def _run(connection: Connection, level: int, serve: Callable[..., object], *arguments: Any) -> None:
    """The whole life of a child."""
    logging.getLogger("autodir").setLevel(level)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve(connection, *arguments)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C: their parent decides when to end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _how_it_ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"it ended with code {code}"
    try:
        return f"it ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it ended by signal {-code}"
