"""Notes on photos: collected until the time is over, saved, added to."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from autodir.training import notes
from autodir.training.notes import Notes, collect


def note(generator: torch.Generator, index: int) -> Notes:
    return {
        "index": torch.full((3,), index),
        "figure": torch.rand(3, 2, generator=generator),
    }


def test_some_are_taken_whatever_the_budget(tmp_path: Path) -> None:
    taken = collect(note, 1e-9, tmp_path / "deep" / "notes.safetensors", seed=1)
    assert taken["index"].tolist() == [0, 0, 0, 1, 1, 1]
    stored = load_file(tmp_path / "deep" / "notes.safetensors")
    assert all(torch.equal(stored[name], taken[name]) for name in taken)
    again = collect(note, 1e-9, tmp_path / "other", seed=1)
    assert torch.equal(again["figure"], taken["figure"])


def test_resuming_adds_photos_that_are_new(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    first = collect(note, 1e-9, path, seed=1)
    both = collect(note, 1e-9, path, seed=1, resume=True)
    assert torch.equal(both["figure"][:6], first["figure"])
    assert len(both["figure"]) == 12
    assert not torch.equal(both["figure"][6:], first["figure"])
    assert len(collect(note, 1e-9, path, seed=1)["figure"]) == 6


def test_a_check_sees_what_is_added_to(tmp_path: Path) -> None:
    seen: list[int] = []
    path = tmp_path / "notes"
    collect(note, 1e-9, path, seed=1, check=lambda stored: seen.append(len(stored["index"])))
    collect(
        note, 1e-9, path, seed=1, resume=True,
        check=lambda stored: seen.append(len(stored["index"])),
    )  # fmt: skip
    assert seen == [6]


def test_they_are_saved_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "SAVE_EVERY", 0.0)
    path, sizes = tmp_path / "notes", list[int]()

    def watched(generator: torch.Generator, index: int) -> Notes:
        sizes.append(len(load_file(path)["index"]) if path.exists() else 0)
        return note(generator, index)

    collect(watched, 1e-9, path, seed=1)
    assert sizes == [0, 3]
