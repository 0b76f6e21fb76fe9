"""The autoencoder's stage trains the autoencoder alone, and measures its latents."""

import dataclasses
from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model
from autodir.training import autoencoder as stage
from autodir.training.autoencoder import calibrate_latents, train_autoencoder
from autodir.training.batches import Batches
from autodir.training.loop import LoopOptions

TWO_STEPS = LoopOptions(budget=1e6, max_steps=2, precision="fp32", log_every=1, warmup=1)


@pytest.fixture(autouse=True)
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "CROP", 32)


def copies(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_stage_changes_encoder_and_decoder(model: Model, batches: Batches, tmp_path: Path) -> None:
    before = copies(model.autoencoder)
    train_autoencoder(model.autoencoder, batches, TWO_STEPS, tmp_path, batch=4, fresh=False)
    after = model.autoencoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name, _ in model.autoencoder.named_parameters()} <= changed
    assert (tmp_path / "samples.png").is_file()
    assert "psnr" in (tmp_path / "losses.csv").read_text()


def test_fresh_autoencoder_starts_from_principal_components(
    model: Model, batches: Batches, tmp_path: Path
) -> None:
    photos = batches.draw(16, 32, torch.Generator().manual_seed(9)).target
    for parameter in model.autoencoder.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    still = dataclasses.replace(TWO_STEPS, learning_rate=1e-8)
    train_autoencoder(model.autoencoder, batches, still, tmp_path, batch=2, fresh=True)
    with torch.no_grad():
        decoded = model.autoencoder.decode(model.autoencoder.encode(photos))
    assert float((decoded - photos).square().mean()) < 0.5 * float(photos.var())


def test_batch_of_one_is_enough(model: Model, batches: Batches, tmp_path: Path) -> None:
    train_autoencoder(model.autoencoder, batches, TWO_STEPS, tmp_path, batch=1, fresh=False)


def test_calibrated_latents_have_unit_deviation(model: Model, batches: Batches) -> None:
    model.autoencoder.latent_std.fill_(7.0)
    calibrate_latents(model.autoencoder, batches, rounds=2)
    photos = batches.draw(32, 32, torch.Generator().manual_seed(2)).target
    with torch.no_grad():
        latents = model.autoencoder.scale(model.autoencoder.encode(photos))
    deviations = latents.std((0, 2, 3))
    assert 0.6 < float(deviations.min()) <= float(deviations.max()) < 1.6
    assert float(latents.mean((0, 2, 3)).abs().max()) < 0.5
