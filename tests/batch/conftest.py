"""Processes that answer without a model: their code is written where a new process finds it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SERVING = """
import os
import signal
import time

from autodir.batch.child import requests


def serve(connection, *arguments):
    for request in requests(connection):
        if request == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif request == "exit":
            os._exit(3)
        elif request == "hang":
            time.sleep(600)
        elif request == "pid":
            connection.send(os.getpid())
        elif request == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
            connection.send("still here")
        else:
            connection.send((*arguments, request))


def serve_photos(connection):
    from autodir.batch import isolation

    read = isolation.read

    def read_or_fail(source, *limits):
        kind = source[:4] if isinstance(source, bytes) else b""
        if kind == b"segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        if kind == b"wait":
            time.sleep(600)
        return read(source, *limits)

    isolation.read = read_or_fail
    isolation.serve_photos(connection)
"""


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Functions for processes, in a module of their own."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "serving_of_tests.py").write_text(SERVING)
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module("serving_of_tests")


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Whether no process has this id any more."""

    def is_gone(pid: int) -> bool:
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"

    return is_gone
