"""A folder from end to end: ledger, resume, twins, interrupts, full disks, other processes."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from autodir.batch.ledger import LEDGER_NAME

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]
KILLING = Path(__file__).with_name("killing.py")


def names(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found)


def documents(capture: Capture) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in capture.readouterr().out.splitlines()]
    return {line["input"]: line for line in lines}


def ledger_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LEDGER_NAME).read_text().splitlines()]


def save(path: Path, level: int, size: int = 16) -> Path:
    noise = np.random.default_rng(level).integers(0, 20, (size, size, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray((noise + level).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Dark photos, which the stand-in repairs, one good one, and a twin in another folder."""
    for number, name in enumerate(["a.png", "b.png", "deep/c.png"]):
        save(tmp_path / "album" / name, 30 + 10 * number)
    save(tmp_path / "album/good.png", 180)
    (tmp_path / "album/deep/twin.png").write_bytes((tmp_path / "album/b.png").read_bytes())
    return tmp_path / "album"


@pytest.fixture
def restored(restorer: Any, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The photos that the stand-in was given, in order."""
    restore, given = restorer.restore, list[Path]()

    def remember(self: Any, source: Any, *arguments: Any, **named: Any) -> Any:
        given.append(source.metadata.path)
        return restore(self, source, *arguments, **named)

    monkeypatch.setattr(restorer, "restore", remember)
    return given


FIX = ("fix", "album", "--recursive", "-o", "out", "--json")


def test_equal_files_are_repaired_once_and_get_equal_results(
    run: Run, album: Path, restored: list[Path], capsys: Capture
) -> None:
    assert run(*FIX) == 0
    out = album.parent / "out"
    assert names(out) == [LEDGER_NAME, "a.png", "b.png", "deep/c.png", "deep/twin.png", "good.png"]
    assert (out / "deep/twin.png").read_bytes() == (out / "b.png").read_bytes()
    assert [path.name for path in restored] == ["a.png", "b.png", "c.png", "good.png"]
    said = documents(capsys)
    assert said["album/deep/twin.png"]["output"] == "out/deep/twin.png"
    assert said["album/deep/twin.png"]["steps"] == said["album/b.png"]["steps"]


def test_the_ledger_has_one_line_for_each_file(run: Run, album: Path, restored: list[Path]) -> None:
    (album / "bad.png").write_bytes(b"no image")
    assert run(*FIX) == 1
    lines = ledger_lines(album.parent / "out")
    done = {Path(line["input"]).name: line["status"] for line in lines}
    assert len(lines) == len(done) == 6
    assert done.pop("bad.png") == "failed"
    assert set(done.values()) == {"done"}


def test_a_resumed_run_redoes_nothing_and_says_what_was_done(
    run: Run, album: Path, restored: list[Path], capsys: Capture
) -> None:
    assert run(*FIX) == 0
    first = documents(capsys)
    out = album.parent / "out"
    inodes = {name: (out / name).stat().st_ino for name in names(out)}
    (out / "a.png").unlink()
    save(album / "new.png", 45)
    restored.clear()
    assert run(*FIX, "--resume") == 0
    assert [path.name for path in restored] == ["a.png", "new.png"]
    second = documents(capsys)
    assert {name: second[name]["steps"] for name in first} == {
        name: document["steps"] for name, document in first.items()
    }
    kept = inodes.keys() - {"a.png"}
    assert {name: (out / name).stat().st_ino for name in kept} == {
        name: inodes[name] for name in kept
    }


def test_a_resumed_run_does_not_touch_what_it_did_not_make(
    run: Run, album: Path, restored: list[Path], capsys: Capture
) -> None:
    assert run(*FIX) == 0
    mine = album.parent / "out/a.png"
    mine.write_bytes(b"painted over by hand")
    assert run(*FIX, "--resume") == 1
    assert mine.read_bytes() == b"painted over by hand"
    capsys.readouterr()
    assert run(*FIX, "--resume", "--seed", "5", "--skip-existing") == 0  # other options
    assert mine.read_bytes() == b"painted over by hand"


def test_a_resumed_run_takes_over_the_result_of_an_equal_file(
    run: Run, album: Path, restored: list[Path]
) -> None:
    assert run(*FIX) == 0
    (album / "another.png").write_bytes((album / "a.png").read_bytes())
    restored.clear()
    assert run(*FIX, "--resume") == 0
    assert restored == []
    out = album.parent / "out"
    assert (out / "another.png").read_bytes() == (out / "a.png").read_bytes()


def test_unfinished_files_of_a_killed_run_are_swept(
    run: Run, album: Path, restored: list[Path]
) -> None:
    left = album.parent / "out/deep/.autodir-12ab.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    assert run(*FIX, "--resume") == 0
    assert not left.exists()


@pytest.mark.parametrize("extra", [(), ("--resume",)])
def test_equal_files_that_cannot_be_read_fail_each(
    run: Run, album: Path, restored: list[Path], extra: tuple[str, ...], capsys: Capture
) -> None:
    for name in ("bad1.png", "bad2.png"):
        (album / name).write_bytes(b"no image")
    assert run(*FIX, *extra) == 1
    failed = [name for name, document in documents(capsys).items() if document["error"]]
    assert failed == ["album/bad1.png", "album/bad2.png"]
    assert len(restored) == 4


def test_names_that_are_numbered_never_meet(run: Run, album: Path, restored: list[Path]) -> None:
    save(album / "a-2.png", 60)
    assert run(*FIX) == 0
    assert run(*FIX, "--rename") == 0
    out = album.parent / "out"
    assert {"a.png", "a-2.png", "a-3.png", "a-2-2.png"} <= set(names(out))
    assert len(names(out)) == 2 * 6 + 1


def test_times_and_permissions_are_kept_on_request(
    run: Run, album: Path, restored: list[Path]
) -> None:
    for path in (album / "a.png", album / "good.png"):
        path.chmod(0o640)
        os.utime(path, ns=(10**18, 10**18))
    assert run(*FIX, "--keep-times", "--keep-permissions") == 0
    for name in ("a.png", "good.png"):
        about = (album.parent / "out" / name).stat()
        assert (about.st_mtime_ns, about.st_mode & 0o777) == (10**18, 0o640)
    restored.clear()
    assert run(*FIX, "--resume") == 0
    assert restored == []


def test_links_in_a_circle_and_links_to_nothing(
    run: Run, album: Path, restored: list[Path], capsys: Capture
) -> None:
    (album / "deep/up").symlink_to(album)
    (album / "gone.png").symlink_to(album / "nothing.png")
    assert run(*FIX) == 1
    failed = {name for name, document in documents(capsys).items() if document["error"]}
    assert failed == {"album/gone.png"}
    assert len(names(album.parent / "out")) == 5 + 1


def test_a_photo_that_changes_during_its_repair_is_not_written(
    run: Run, album: Path, restorer: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    restore = restorer.restore

    def change(self: Any, source: Any, *arguments: Any, **named: Any) -> Any:
        if source.metadata.path.name == "a.png":
            save(source.metadata.path, 99, size=8)
        return restore(self, source, *arguments, **named)

    monkeypatch.setattr(restorer, "restore", change)
    assert run(*FIX) == 1
    assert "has changed" in documents(capsys)["album/a.png"]["error"]["message"]
    assert not (album.parent / "out/a.png").exists()


def test_two_runs_into_one_folder_are_refused(
    run: Run, album: Path, restored: list[Path], capsys: Capture
) -> None:
    import fcntl

    assert run(*FIX) == 0
    with (album.parent / "out" / LEDGER_NAME).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert run(*FIX, "--resume") == 2
    assert "another run" in capsys.readouterr().out


def test_ctrl_c_ends_after_the_photo_with_a_summary(
    run: Run, album: Path, restorer: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    restore, count = restorer.restore, [0]

    def interrupted(self: Any, *arguments: Any, **named: Any) -> Any:
        count[0] += 1
        if count[0] == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        return restore(self, *arguments, **named)

    monkeypatch.setattr(restorer, "restore", interrupted)
    assert run("fix", "album", "--recursive", "-o", "out") == 130
    assert names(album.parent / "out") == [LEDGER_NAME, "a.png", "b.png"]
    assert "5 photos: 2 repaired, 3 not begun" in capsys.readouterr().out
    assert run(*FIX, "--resume") == 0
    assert count[0] == 4


# --- disks that are full or cannot be written to --------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small file system in the memory, or change its options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        how = "remount," if place.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", how + options, "tmpfs", str(place)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=30)
        except (OSError, subprocess.SubprocessError):
            pytest.skip("a tmpfs cannot be mounted here")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", str(place)], check=True, timeout=30)


def assert_whole(folder: Path, reference: Path) -> None:
    """Whatever is there is whole, and nothing unfinished is."""
    for name in names(folder):
        if name != LEDGER_NAME:
            assert (folder / name).read_bytes() == (reference / name).read_bytes()


@pytest.fixture
def large(tmp_path: Path, restorer: Any) -> Path:
    """Eight photos of 48 kB each."""
    for number in range(8):
        save(tmp_path / f"album/{number}.png", 30 + number, size=200)
    return tmp_path / "album"


def test_a_full_disk_leaves_whole_files_only_and_the_run_goes_on_later(
    run: Run, large: Path, disk: Callable[[str], Path], capsys: Capture
) -> None:
    assert run("fix", "album", "-o", "reference") == 0
    place = disk("size=200k")
    command = ("fix", "album", "-o", str(place), "--resume", "--json")
    capsys.readouterr()
    assert run(*command) == 1
    said = documents(capsys)
    failed = [name for name, document in said.items() if document["error"]]
    assert 0 < len(failed) < 8
    assert "No space left" in said[failed[0]]["error"]["message"]
    assert len(names(place)) == 8 - len(failed) + 1
    assert_whole(place, large.parent / "reference")
    disk("size=4m")
    assert run(*command) == 0
    assert len(names(place)) == 8 + 1
    assert_whole(place, large.parent / "reference")


def test_files_over_a_limit_of_the_system_are_failures_and_not_halves(
    run: Run, large: Path, capsys: Capture
) -> None:
    save(large / "small.png", 30, size=8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        assert run("fix", "album", "-o", "out", "--json") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in documents(capsys)["album/0.png"]["error"]["message"]
    assert names(large.parent / "out") == [LEDGER_NAME, "small.png"]


def test_a_target_that_is_read_only_is_refused_before_any_work(
    run: Run, album: Path, restorer: Any, disk: Callable[[str], Path], capsys: Capture
) -> None:
    place = disk("size=1m")
    disk("ro")
    assert run("fix", "album", "-o", str(place), "--json") == 3
    assert "Read-only" in capsys.readouterr().out
    assert restorer.opened == []


# --- kills and processes, with a real model -------------------------------------------------------


def kill_often(tmp_path: Path, model: Path, kills: int, photos: int) -> dict[str, Any]:
    command = [sys.executable, str(KILLING), str(model), str(tmp_path), str(kills), str(photos)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def assert_nothing_lost(found: dict[str, Any], kills: int) -> None:
    assert found["kills"] == kills
    assert found["wrong"] == []
    assert found["redone"] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
def test_a_run_that_is_killed_goes_on_and_ends_like_one_that_was_not(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    assert_nothing_lost(kill_often(tmp_path, tiny_model_folder, 5, 8), 5)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
def test_fifty_kills_lose_nothing_and_redo_nothing(tmp_path: Path, tiny_model_folder: Path) -> None:
    assert_nothing_lost(kill_often(tmp_path, tiny_model_folder, 50, 30), 50)


@pytest.mark.slow
def test_several_processes_write_what_one_writes(
    run: Run, album: Path, tiny_model_folder: Path, capsys: Capture
) -> None:
    (album / "bad.png").write_bytes(b"no image")
    common = ("fix", "album", "--recursive", "--model", tiny_model_folder, "--threads", "1")
    assert run(*common, "-o", "one") == 1
    capsys.readouterr()  # what the first run said on the terminal
    assert run(*common, "-o", "two", "--jobs", "2", "--json", "--isolate") == 1
    said = documents(capsys)
    one, two = album.parent / "one", album.parent / "two"
    assert names(two) == names(one)
    assert_whole(two, one)
    assert [name for name, document in said.items() if document["error"]] == ["album/bad.png"]
    assert len(ledger_lines(two)) == 6
