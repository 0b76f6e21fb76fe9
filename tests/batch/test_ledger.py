"""What is done, and what is found of it after a run was killed at any moment."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autodir.batch.ledger import LEDGER_NAME, Entry, Fingerprint, Ledger, options_digest
from autodir.errors import ConfigError, ImageError

SUFFIXES = ".jpg>.jpg"
DOCUMENT: dict[str, Any] = {"schema": "autodir.restoration/1", "steps": [], "clean": True}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"a photo")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def ledger(out: Path) -> Iterator[Ledger]:
    ledger = Ledger(out, "options")
    yield ledger
    ledger.close()


def add(ledger: Ledger, photo: Path, name: str = "photo.jpg", content: bytes = b"better") -> Path:
    output = ledger.path.parent / name
    output.parent.mkdir(exist_ok=True)
    output.write_bytes(content)
    entry = Entry(output=output, result=Fingerprint.of(output), document=DOCUMENT)
    ledger.add(photo, Fingerprint.of(photo), SUFFIXES, entry)
    return output


def lines(ledger: Ledger) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.path.read_text().splitlines()]


def test_a_file_that_is_done_is_found_with_its_document(ledger: Ledger, photo: Path) -> None:
    assert ledger.find(photo) is None
    output = add(ledger, photo, "deep/photo.jpg")
    entry = ledger.find(photo)
    assert entry is not None
    assert entry.output.samefile(output)
    assert entry.document == DOCUMENT


def test_it_is_one_line_of_json_that_says_everything(ledger: Ledger, photo: Path) -> None:
    add(ledger, photo, "deep/photo.jpg")
    (line,) = lines(ledger)
    assert line["schema"] == "autodir.ledger/1"
    assert (line["status"], line["input"], line["output"]) == ("done", str(photo), "deep/photo.jpg")
    assert line["file"]["size"] == 7
    assert line["document"] == DOCUMENT


def test_the_next_run_finds_it_from_anywhere(
    ledger: Ledger, photo: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(ledger, photo)
    ledger.close()
    monkeypatch.chdir(photo.parent)
    again = Ledger(Path("out"), "options")
    assert again.find(Path("photo.jpg")) is not None
    again.close()
    ledger._file = os.open(out / LEDGER_NAME, os.O_RDONLY)  # the fixture closes it


@pytest.mark.parametrize("change", ["input", "output", "no input", "no output"])
def test_what_has_changed_or_gone_since_is_not_done(
    ledger: Ledger, photo: Path, change: str
) -> None:
    output = add(ledger, photo)
    path = photo if "input" in change else output
    if change.startswith("no"):
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(1, 1))
    assert ledger.find(photo) is None


def test_an_older_file_of_the_same_size_and_time_is_not_the_result(
    ledger: Ledger, photo: Path, tmp_path: Path
) -> None:
    output = add(ledger, photo)
    about, older = output.stat(), tmp_path / "older"
    older.write_bytes(output.read_bytes()[::-1])
    os.utime(older, ns=(about.st_atime_ns, about.st_mtime_ns))
    older.replace(output)
    assert ledger.find(photo) is None


def test_a_new_time_alone_is_no_change(ledger: Ledger, photo: Path) -> None:
    output = add(ledger, photo)
    for path in (photo, output):
        os.utime(path, ns=(1, 1))
    assert ledger.find(photo) is not None


def test_other_options_find_nothing_and_take_nothing_away(ledger: Ledger, photo: Path) -> None:
    add(ledger, photo)
    ledger.close()
    other = Ledger(ledger.path.parent, "others")
    assert other.find(photo) is None
    assert other.find_content(Fingerprint.of(photo), SUFFIXES) is None
    other.close()
    ledger.__init__(ledger.path.parent, "options")  # type: ignore[misc]
    assert ledger.find(photo) is not None


def test_equal_content_is_found_under_equal_suffixes(ledger: Ledger, photo: Path) -> None:
    output = add(ledger, photo)
    entry = ledger.find_content(Fingerprint.of(photo), SUFFIXES)
    assert entry is not None
    assert entry.output == output
    assert ledger.find_content(Fingerprint.of(photo), ".jpg>.png") is None


def test_a_failure_is_noted_and_tried_again(ledger: Ledger, photo: Path) -> None:
    ledger.add_failure(photo, ImageError("no image", "is it whole?"))
    assert lines(ledger)[0]["error"]["kind"] == "ImageError"
    assert ledger.find(photo) is None


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_half_a_line_of_a_killed_run_is_cut_off(ledger: Ledger, photo: Path, cut: int) -> None:
    add(ledger, photo)
    whole = ledger.path.read_bytes()
    ledger.close()
    ledger.path.write_bytes(whole + whole[:cut])
    ledger.__init__(ledger.path.parent, "options")  # type: ignore[misc]
    assert ledger.path.read_bytes() == whole
    assert ledger.find(photo) is not None


def test_foreign_lines_are_left_alone(ledger: Ledger, photo: Path) -> None:
    add(ledger, photo)
    whole = ledger.path.read_bytes()
    ledger.close()
    foreign = b'no json\n[1]\n{"schema": "other/1", "status": "done"}\n\xff\xfe\n'
    ledger.path.write_bytes(foreign + whole)
    ledger.__init__(ledger.path.parent, "options")  # type: ignore[misc]
    assert ledger.find(photo) is not None
    assert ledger.path.read_bytes() == foreign + whole


def test_a_name_that_is_no_text_is_kept(ledger: Ledger, tmp_path: Path) -> None:
    photo = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg"))
    photo.write_bytes(b"a photo")
    add(ledger, photo)
    assert ledger.find(photo) is not None


def test_two_runs_never_write_at_once(ledger: Ledger, out: Path) -> None:
    with pytest.raises(ConfigError, match="another run"):
        Ledger(out, "options")


def test_a_line_that_does_not_fit_on_the_disk_leaves_no_half(ledger: Ledger, photo: Path) -> None:
    add(ledger, photo)
    whole = ledger.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 100, hard))
    try:
        with pytest.raises(ImageError, match="cannot write"):
            add(ledger, photo)
        ledger.add_failure(photo, ImageError("x" * 1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ledger.path.read_bytes() == whole
    assert ledger.find(photo) is not None


def test_a_folder_that_cannot_be_written_is_an_image_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageError, match="cannot write"):
        Ledger(tmp_path / "file" / "out", "options")


def test_options_are_equal_whatever_their_order() -> None:
    assert options_digest({"a": 1, "b": (2,)}) == options_digest({"b": [2], "a": 1})
    assert options_digest({"a": 1}) != options_digest({"a": 1.00001})
