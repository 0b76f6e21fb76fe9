"""Sidecars: named after the result, whole, checked when read, and honest about what has changed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from autodir.batch.sidecar import (
    decisions,
    differences,
    read_input,
    read_sidecar,
    sidecar_path,
    surroundings,
    write_sidecar,
)
from autodir.config import OutputOptions, RestoreOptions, RuntimeOptions
from autodir.errors import ConfigError, ImageError

STEP = {"degradation": "rain", "verdict": "kept"}


def write(folder: Path, **runtime: Any) -> Path:
    photo = folder / "photo.jpg"
    photo.write_bytes(b"before")
    document = {
        "model": "small",
        "model_sha256": "ab12",
        "options": RestoreOptions(seed=3, only=("rain",)).to_dict(),
        "clean": False,
        "steps": [STEP],
        "stopped": "no degradation left",
    }
    output = folder / "photo.restored.jpg"
    options = (RuntimeOptions(**runtime), OutputOptions(max_pixels=99))
    return write_sidecar(document, (photo, b"before"), (output, b"after"), options, surroundings())


@pytest.mark.parametrize(
    ("output", "sidecar"),
    [
        ("photo.restored.jpg", "photo.restored.json"),
        ("photo.restored-2.jpg", "photo.restored-2.json"),
        ("photo.jpg", "photo.restored.json"),
    ],
)
def test_a_sidecar_is_named_after_the_result(tmp_path: Path, output: str, sidecar: str) -> None:
    assert sidecar_path(tmp_path / output) == tmp_path / sidecar


def test_a_sidecar_replaces_its_own_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert sidecar_path(tmp_path / "photo.restored.jpg") == path
    assert sidecar_path(tmp_path / "photo.restored.png").name == "photo.restored.png.json"
    path.write_text("[1]")
    assert sidecar_path(tmp_path / "photo.restored.jpg").name == "photo.restored.jpg.json"


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    sidecar = read_sidecar(write(tmp_path, threads=2))
    assert sidecar["restore"] == RestoreOptions(seed=3, only=("rain",))
    assert sidecar["runtime"] == RuntimeOptions(threads=2)
    assert sidecar["limits"].max_pixels == 99
    assert sidecar["machine"]["threads"] == 2
    assert decisions(sidecar["steps"]) == [("rain", "kept")]


def test_threads_that_nobody_chose_are_written_down(tmp_path: Path) -> None:
    sidecar = read_sidecar(write(tmp_path))
    assert sidecar["runtime"].threads == surroundings()["machine"]["threads"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema": "autodir.plan/1"}', '{"schema": "autodir.sidecar/1"}', "\udcff"],
)
def test_what_is_no_sidecar_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError):
        read_sidecar(path)


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    sidecar = json.loads(path.read_text())
    sidecar["options"]["magic"] = True
    path.write_text(json.dumps(sidecar))
    with pytest.raises(ConfigError, match="magic"):
        read_sidecar(path)


def test_a_missing_sidecar_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        read_sidecar(tmp_path / "a.json")


def test_the_photo_is_found_beside_a_sidecar_that_was_moved(tmp_path: Path) -> None:
    path = write(tmp_path)
    folder = tmp_path / "new"
    folder.mkdir()
    moved = path.rename(folder / path.name)
    photo = (tmp_path / "photo.jpg").rename(folder / "photo.jpg")
    assert read_input(read_sidecar(moved), moved) == (photo, b"before")


def test_another_photo_or_none_is_an_image_error(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"changed")
    with pytest.raises(ImageError, match="changed since"):
        read_input(read_sidecar(path), path)
    (tmp_path / "photo.jpg").unlink()
    with pytest.raises(ImageError, match="not there"):
        read_input(read_sidecar(path), path)


def test_everything_that_has_changed_is_named(tmp_path: Path) -> None:
    sidecar = read_sidecar(write(tmp_path))
    now = surroundings()
    assert differences(sidecar, "ab12", now) == []
    other = copy.deepcopy(now)
    other["program"]["sha256"] = "0"
    other["program"]["versions"]["torch"] = "0.1"
    other["machine"]["cores"] = 7777
    found = differences(sidecar, "ffff", other)
    assert found[:2] == ["the weights of the model", "the program's code"]
    assert any(text.startswith("torch ") and text.endswith("→ 0.1") for text in found)
    assert any(text.endswith("→ 7777") for text in found)
