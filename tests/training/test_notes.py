"""Notes on photos: collected until the time is over, saved, added to."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from autodir.correction.experts import Ensemble
from autodir.errors import CheckpointError
from autodir.training import notes
from autodir.training.notes import Fit, Notes, collect, learn, of_width, seconds_of


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


def test_the_time_of_notes_is_kept_with_them(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    assert seconds_of(path) == 0
    collect(note, 0.2, path, seed=1)
    first = seconds_of(path)
    assert 0.2 <= first < 2
    collect(note, 0.2, path, seed=1, resume=True)
    assert seconds_of(path) >= first + 0.2
    collect(note, 1e-9, path, seed=1)
    assert seconds_of(path) < first


class Slopes(Ensemble):
    """Three statistics, one figure."""

    def __init__(self) -> None:
        super().__init__(3, inputs=3, outputs=1, hidden=16, members=2, dropout=0.0)

    def told_by(self, member: torch.nn.Module, standard: torch.Tensor) -> torch.Tensor:
        told: torch.Tensor = member(standard)
        return told


def test_an_ensemble_learns_what_the_notes_say() -> None:
    torch.manual_seed(0)
    seen = 5 + 2 * torch.randn(256, 3)
    wanted = seen[:, :1] - seen[:, 1:2]
    taken = {"statistics": seen, "wanted": wanted}

    def error(told: torch.Tensor, some: Notes) -> torch.Tensor:
        return (told - some["wanted"]).square().mean(1)

    slopes = Slopes()
    assert not slopes(slopes.standard(seen)).any()
    state = torch.random.get_rng_state()
    slopes.standardize(seen)
    learn(slopes, taken, error, Fit(rate=1e-2, decay=0.0, epochs=60, step=32), 1e-3, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not slopes.training
    torch.testing.assert_close(slopes.center, seen.mean(0))
    after = error(slopes(slopes.standard(seen)), taken)
    assert float(after.mean()) < 0.05 * float(wanted.square().mean())


def test_last_layers_learn_alone_where_that_is_asked_for() -> None:
    torch.manual_seed(0)
    taken = {"statistics": torch.randn(64, 3), "wanted": torch.rand(64, 1)}
    slopes = Slopes()
    before = {name: value.clone() for name, value in slopes.state_dict().items()}
    how = Fit(rate=1e-2, decay=0.0, epochs=2, step=16, last=True)
    learn(slopes, taken, lambda told, some: (told - some["wanted"])[:, 0] ** 2, how, 1e-3, seed=1)
    changed = {name for name, value in slopes.state_dict().items() if (value != before[name]).any()}
    assert changed == {
        f"members.{index}.6.{what}" for index in (0, 1) for what in ("weight", "bias")
    }


def test_notes_of_another_width_are_refused(tmp_path: Path) -> None:
    check = of_width(tmp_path / "notes", 3)
    check({"statistics": torch.zeros(2, 3)})
    with pytest.raises(CheckpointError, match="other statistics"):
        check({"statistics": torch.zeros(2, 4)})
