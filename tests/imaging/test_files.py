"""Atomic writing."""

from pathlib import Path

import pytest

from autodir.errors import ImageError
from autodir.imaging.files import check_writable, copy_atomic, write_atomic


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


def test_a_copy_has_the_same_bytes(tmp_path):
    (tmp_path / "a.jpg").write_bytes(bytes(range(256)) * 5000)
    copy_atomic(tmp_path / "a.jpg", tmp_path / "out" / "b.jpg")
    assert (tmp_path / "out" / "b.jpg").read_bytes() == bytes(range(256)) * 5000
    assert names(tmp_path / "out") == ["b.jpg"]


def test_a_copy_of_nothing_is_refused(tmp_path):
    with pytest.raises(ImageError, match="cannot read"):
        copy_atomic(tmp_path / "none.jpg", tmp_path / "b.jpg")
    assert names(tmp_path) == []


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []
