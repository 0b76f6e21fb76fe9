"""The stage of feature wrapping trains the fusions, and nothing else."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model
from autodir.diffusion.wrapping import FeatureWrapping
from autodir.prompts import load_phrases
from autodir.training import cfw
from autodir.training.batches import Batches
from autodir.training.cfw import train_wrapping
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions


def test_only_the_fusions_learn(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cfw, "CROP", 32)
    model.eval()
    model.wrapping = FeatureWrapping.beside(model.autoencoder).train()
    before = copy.deepcopy(model.autoencoder.state_dict())
    fresh = copy.deepcopy(model.wrapping.state_dict())
    trained = train_wrapping(
        model.wrapping, model.latent_diffusion(), batches,
        Instructions(model.clip, model.taxonomy, load_phrases()),
        LoopOptions(budget=600, max_steps=2, warmup=1, log_every=1, precision="fp32"), tmp_path,
        batch=2,
    )  # fmt: skip
    after = model.autoencoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert any(not torch.equal(value, trained.state_dict()[name]) for name, value in fresh.items())
    assert "gain_db" in (tmp_path / "losses.csv").read_text()
    assert (tmp_path / "samples.png").is_file()
