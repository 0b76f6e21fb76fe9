"""The whole command line: exit codes, help without torch, errors as panels or JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

import autodir
from autodir import errors
from autodir.cli import app as application
from autodir.errors import AutodirError, ConfigError

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]

COMMANDS = ("fix", "diagnose", "degrade", "evaluate", "train", "models", "doctor")
HEAVY = ("torch", "numpy", "PIL", "diffusers", "open_clip", "cv2")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize("arguments", [("--help",), ("fix", "--help"), ("models", "--help")])
def test_help_imports_neither_torch_nor_any_image_library(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys; from autodir.cli.app import run; "
        f"code = run({list(arguments)!r}); "
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    assert python("-c", code).stdout.splitlines()[-1] == "loaded: [] 0"


def test_help_answers_quickly() -> None:
    code = (
        "import time; start = time.process_time(); from autodir.cli.app import run; "
        "run(['--help']); print(time.process_time() - start)"
    )
    best = min(float(python("-c", code).stdout.splitlines()[-1]) for _ in range(2))
    assert best < 0.5  # seconds of processor time, so that a busy machine does not fail it


def test_the_package_runs_as_a_module() -> None:
    finished = python("-m", "autodir", "--version")
    assert (finished.returncode, finished.stdout) == (0, f"autodir {autodir.__version__}\n")


def test_help_names_every_command(run: Run, capsys: Capture) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert [command for command in COMMANDS if command not in out] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, run: Run, capsys: Capture) -> None:
    assert run(command, "--help") == 0
    assert "Usage: autodir" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("fix",),
        ("fix", "a.png", "--no-such-flag"),
        ("fix", "a.png", "--max-steps", "many"),
        ("fix", "a.png", "--sampler", "eulr"),
        ("fix", "a.png", "--strength", "2"),
        ("fix", "a.png", "--overwrite", "--rename"),
        ("fix", "a.png", "--preset", "nigth"),
        ("fix", "a.png", "--config", "nowhere.toml"),
    ],
)
def test_a_malformed_command_line_ends_with_2(
    arguments: tuple[str, ...], run: Run, capsys: Capture
) -> None:
    assert run(*arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*, args: list[str], prog_name: str) -> None:
        raise error

    monkeypatch.setattr(application, "app", fail)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ConfigError", 2),
        ("PromptError", 2),
        ("ImageError", 3),
        ("CheckpointError", 4),
        ("DeviceError", 5),
        ("MissingExtraError", 6),
        ("ContractError", 70),
        ("AutodirError", 70),
    ],
)
def test_each_error_has_its_exit_code(
    name: str, code: int, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    raising(monkeypatch, getattr(errors, name)("what happened", "what to do"))
    assert run("fix") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "what happened" in err
    assert "what to do" in err


def test_a_kind_of_error_made_later_has_its_ancestor_s_code() -> None:
    class LaterError(ConfigError):
        pass

    assert application.exit_code(LaterError("x")) == 2
    assert application.exit_code(AutodirError("x")) == 70


def test_an_error_is_one_json_object_where_json_is_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    raising(monkeypatch, ConfigError("what happened", "what to do"))
    assert run("fix", "--json") == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"] == {
        "kind": "ConfigError",
        "message": "what happened",
        "hint": "what to do",
    }
    assert err == ""


def test_an_interrupt_ends_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert run("fix") == 130


def test_a_bug_is_a_sentence_and_its_trace_is_shown_on_request(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    raising(monkeypatch, ZeroDivisionError("by zero"))
    assert run("fix") == 70
    err = capsys.readouterr().err
    assert "ZeroDivisionError: by zero" in err
    assert "Traceback" not in err
    assert run("fix", "-v") == 70
    assert "Traceback" in capsys.readouterr().err


def test_main_leaves_with_the_exit_code() -> None:
    with pytest.raises(SystemExit) as caught:
        application.main(["--version"])
    assert caught.value.code == 0
