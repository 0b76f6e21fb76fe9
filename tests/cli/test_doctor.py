"""``autodir doctor``: what is installed, on one screen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from autodir import checkpoint
from autodir.checkpoint import ModelInfo
from autodir.errors import CheckpointError

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A whole model and a damaged one."""
    names = ("whole", "torn")
    infos = [
        ModelInfo(
            name=name, folder=tmp_path / name, scale="small", parameters={}, bytes=1, sha256="ab12"
        )
        for name in names
    ]

    def verify(folder: Path) -> list[str]:
        if folder.name == "torn":
            raise CheckpointError("unet/model.safetensors is missing", "fetch it again")
        return []

    monkeypatch.setattr(checkpoint, "list_models", lambda: infos)
    monkeypatch.setattr(checkpoint, "verify", verify)


def test_json_names_versions_threads_devices_and_models(run: Run, capsys: Capture) -> None:
    assert run("doctor", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "autodir.doctor/1"
    assert document["versions"]["torch"]
    assert document["cpu"]["threads"] == torch.get_num_threads()
    assert isinstance(document["devices"], list)
    states = {model["name"]: model["error"] for model in document["models"]}
    assert states["whole"] is None
    assert states["torn"]["kind"] == "CheckpointError"


def test_a_person_gets_one_screen(run: Run, capsys: Capture) -> None:
    assert run("doctor") == 0
    out = capsys.readouterr().out
    for text in ("autodir", "torch", "threads in use", "whole", "is missing", "ab12"):
        assert text in out
    assert len(out.splitlines()) <= 40
