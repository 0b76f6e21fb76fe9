"""A process that answers: after a crash, a hang or an interrupt the next question is answered."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import pytest

from autodir.batch.child import Child

ask = Connection.recv


@pytest.fixture
def child(serving: ModuleType) -> Iterator[Child]:
    child = Child(serving.serve, "given")
    yield child
    child.close()


def test_questions_are_answered_by_one_process_that_is_another(child: Child) -> None:
    assert child.ask("a", ask) == ("given", "a")
    first = child.ask("pid", ask)
    assert child.ask("b", ask) == ("given", "b")
    assert first == child.ask("pid", ask) != os.getpid()


@pytest.mark.parametrize(("request_", "how"), [("crash", "SIGSEGV"), ("exit", "code 3")])
def test_a_crash_is_an_error_and_the_next_question_is_answered(
    child: Child, request_: str, how: str
) -> None:
    with pytest.raises(ChildProcessError, match=how):
        child.ask(request_, ask)
    assert child.ask("again", ask) == ("given", "again")


def test_a_hang_ends_in_time_and_the_process_with_it(
    child: Child, gone: Callable[[int], bool]
) -> None:
    pid = child.ask("pid", ask, timeout=60)
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.2 s"):
        child.ask("hang", ask, timeout=0.2)
    assert time.monotonic() - begun < 30
    assert gone(pid)
    assert child.ask("again", ask) == ("given", "again")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of Unix")
def test_an_interrupt_does_not_reach_it(child: Child) -> None:
    assert child.ask("interrupt", ask) == "still here"


def test_a_process_that_is_closed_is_gone(child: Child, gone: Callable[[int], bool]) -> None:
    pid = child.ask("pid", ask)
    child.close()
    assert gone(pid)
    child.close()  # twice is once


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed as on Unix")
def test_it_does_not_outlive_a_parent_that_is_killed(
    serving: ModuleType, gone: Callable[[int], bool]
) -> None:
    folder = Path(str(serving.__file__)).parent
    code = (
        f"import sys, os, signal; sys.path.insert(0, {str(folder)!r})\n"
        "import serving_of_tests\n"
        "from multiprocessing.connection import Connection\n"
        "from autodir.batch.child import Child\n"
        "if __name__ == '__main__':\n"
        "    child = Child(serving_of_tests.serve, has_children=True)\n"
        "    print(child.ask('pid', Connection.recv), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    script = folder / "parent.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode < 0, done.stderr
    pid, deadline = int(done.stdout), time.monotonic() + 30
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(pid)
