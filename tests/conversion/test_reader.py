"""Files of every kind are opened without running anything in them, or refused with a reason."""

from __future__ import annotations

import collections
import os
import pickle
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from autodir.conversion.reader import open_checkpoint
from autodir.errors import CheckpointError

STATE = {"NAFNet.intro.bias": torch.arange(3.0), "betas": torch.ones(2)}


class Code:
    """An object whose pickle runs a command when it is opened."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self.target}",))


def names_and_values(path: Path) -> dict[str, list[float]]:
    return {name: value.tolist() for name, value in open_checkpoint(path).tensors.items()}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older pickle"])
@pytest.mark.parametrize("wrapped", [True, False], ids=["trainer's file", "state dict"])
def test_pickled_tensors_are_read(tmp_path: Path, zipped: bool, wrapped: bool) -> None:
    path = tmp_path / "a.ckpt"
    content = {"state_dict": STATE, "global_step": 7} if wrapped else STATE
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert names_and_values(path) == {name: value.tolist() for name, value in STATE.items()}
    assert open_checkpoint(path).steps == (7 if wrapped else None)


def test_safetensors_are_read_whatever_their_name(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.ckpt")
    assert names_and_values(tmp_path / "a.ckpt") == {k: v.tolist() for k, v in STATE.items()}


def test_values_that_are_no_tensors_are_named(tmp_path: Path) -> None:
    torch.save({**STATE, "global_step": 9}, tmp_path / "a.pt")
    assert open_checkpoint(tmp_path / "a.pt").others == ("global_step",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older pickle"])
def test_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path, target = tmp_path / "a.ckpt", tmp_path / "touched"
    content = {"state_dict": STATE, "callbacks": Code(target)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError):
        open_checkpoint(path)
    assert not target.exists()


def test_refused_code_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "x": Code(tmp_path / "touched")}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="system"):
        open_checkpoint(tmp_path / "a.ckpt")


def test_what_a_trainer_leaves_beside_the_weights_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("pytorch_lightning.callbacks")
    kind = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    instance = kind()
    instance.best = 0.5
    torch.save({"state_dict": STATE, "callbacks": {kind: {"best": instance}}}, tmp_path / "a.ckpt")
    monkeypatch.undo()
    assert set(open_checkpoint(tmp_path / "a.ckpt").tensors) == set(STATE)


@pytest.mark.parametrize("kind", ["zip", "older pickle", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_truncated_file_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    path, state = tmp_path / "a.ckpt", dict[str, Tensor](STATE)
    state["large"] = torch.rand(1000)
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert "download it again" in caught.value.hint


@pytest.mark.parametrize("content", [[1, 2], 3.5, {1: torch.ones(1)}, {"state_dict": [1]}])
def test_other_content_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="no state dict"):
        open_checkpoint(tmp_path / "a.ckpt")


def test_plain_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(pickle.dumps(collections.Counter("abc")))
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "a.ckpt")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no file"):
        open_checkpoint(tmp_path / "a.ckpt")
