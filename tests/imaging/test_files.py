"""Atomic writing."""

import os
import threading
from pathlib import Path

import pytest

from autodir.errors import ImageError
from autodir.imaging.files import (
    check_writable,
    keep_attributes,
    read_limited,
    sweep,
    write_atomic,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_bytes_arrive_and_nothing_else_is_left(tmp_path):
    write_atomic(b"photo", tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == b"photo"
    assert names(tmp_path) == ["a.jpg"]


def test_missing_folders_are_made(tmp_path):
    write_atomic(b"x", tmp_path / "b" / "c" / "a.jpg")
    assert (tmp_path / "b" / "c" / "a.jpg").read_bytes() == b"x"


def test_an_existing_file_is_replaced(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"a long old content")
    write_atomic(b"new", path)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch, failure):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"old")

    def fail(descriptor):
        raise failure

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises((ImageError, KeyboardInterrupt)) as caught:
        write_atomic(b"new", path)
    monkeypatch.undo()
    if isinstance(failure, OSError):
        assert isinstance(caught.value, ImageError)
        assert "No space left" in caught.value.message
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.jpg"]


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageError, match="cannot write"):
        write_atomic(b"x", tmp_path / "file" / "a.jpg")
    with pytest.raises(ImageError, match="cannot write"):
        check_writable(tmp_path / "file")
    assert names(tmp_path) == ["file"]


def test_a_folder_is_not_replaced(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(ImageError, match="not a regular file"):
        write_atomic(b"x", tmp_path / "a.jpg")


def test_a_device_is_not_replaced():
    with pytest.raises(ImageError, match="not a regular file"):
        write_atomic(b"x", Path("/dev/null"))
    assert not Path("/dev/null").is_file()


def test_a_link_is_replaced_and_what_it_means_is_kept(tmp_path):
    original, link = tmp_path / "photo.jpg", tmp_path / "link.jpg"
    original.write_bytes(b"photo")
    link.symlink_to(original)
    write_atomic(b"new", link)
    assert original.read_bytes() == b"photo"
    assert link.read_bytes() == b"new"


def test_a_whole_file_is_shown_before_it_gets_its_name(tmp_path):
    path, seen = tmp_path / "a.jpg", []
    write_atomic(b"photo", path, lambda whole: seen.append((whole.read_bytes(), path.exists())))
    assert seen == [(b"photo", False)]
    assert names(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize("failure", [OSError(13, "Permission denied"), ImageError("no ledger")])
def test_a_file_that_is_refused_before_it_gets_its_name_is_not_there(tmp_path, failure):
    def refuse(whole):
        raise failure

    (tmp_path / "a.jpg").write_bytes(b"old")
    with pytest.raises(ImageError, match=r"Permission denied|no ledger"):
        write_atomic(b"new", tmp_path / "a.jpg", refuse)
    assert (tmp_path / "a.jpg").read_bytes() == b"old"
    assert names(tmp_path) == ["a.jpg"]


def test_a_name_that_is_too_long_is_an_image_error(tmp_path):
    with pytest.raises(ImageError, match="cannot write"):
        write_atomic(b"x", tmp_path / ("a" * 300))


def test_times_and_permissions_are_taken_over_where_wanted(tmp_path):
    source, target = tmp_path / "a.jpg", tmp_path / "b.jpg"
    source.write_bytes(b"photo")
    source.chmod(0o640)
    os.utime(source, ns=(10**18, 10**18 + 7))
    target.write_bytes(b"result")
    target.chmod(0o600)
    keep_attributes(source, target)
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.stat().st_mtime_ns != source.stat().st_mtime_ns
    keep_attributes(source, target, times=True, permissions=True)
    assert target.stat().st_mode & 0o777 == 0o640
    assert target.stat().st_mtime_ns == 10**18 + 7


def test_what_killed_runs_left_is_swept_and_nothing_else(tmp_path):
    (tmp_path / "b").mkdir()
    kept = ["a.jpg", ".autodir.jsonl", ".hidden", "autodir-1.tmp", ".autodir-1.jpg"]
    for name in [*kept, ".autodir-0a.tmp", "b/.autodir-0b.tmp"]:
        (tmp_path / name).write_bytes(b"x")
    assert sweep([tmp_path, tmp_path / "b", tmp_path / "none"]) == 2
    assert names(tmp_path) == sorted([*kept, "b"])
    assert names(tmp_path / "b") == []


# --- reading --------------------------------------------------------------------------------------


def test_a_file_is_read_up_to_the_limit(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"12345")
    assert read_limited(path, 5) == b"12345"
    with pytest.raises(ImageError, match="more than the limit") as caught:
        read_limited(path, 4)
    assert "--max-bytes" in caught.value.hint


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no endless device here")
def test_an_endless_device_and_a_folder_are_refused(tmp_path):
    for path in (Path("/dev/zero"), tmp_path):
        with pytest.raises(ImageError, match="a folder or a device"):
            read_limited(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_read_if_somebody_writes_and_does_not_hang_if_not(tmp_path):
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    assert read_limited(path) == b""
    writer = threading.Thread(target=path.write_bytes, args=(b"photo",))
    descriptor = os.open(path, os.O_RDWR)  # so that the writer is there before the reader
    writer.start()
    writer.join()
    assert os.read(descriptor, 5) == b"photo"
    os.write(descriptor, b"again")
    with pytest.raises(ImageError, match="more than the limit"):
        read_limited(path, 4)
    os.close(descriptor)


@pytest.mark.parametrize("name", ["none.jpg", "null\0.jpg"])
def test_a_file_that_cannot_be_read_is_an_image_error(tmp_path, name):
    with pytest.raises(ImageError, match="cannot read"):
        read_limited(tmp_path / name)


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []
