"""The diffusion stage trains the U-Net and nothing else."""

import copy
from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model
from autodir.prompts import load_phrases
from autodir.training import diffusion as stage
from autodir.training.batches import Batches
from autodir.training.diffusion import draw_sigmas, train_diffusion
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions

TWO_STEPS = LoopOptions(budget=1e6, max_steps=2, precision="bf16", log_every=1, warmup=1)


@pytest.fixture(autouse=True)
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "CROP", 32)


def test_stage_changes_the_unet_alone(model: Model, batches: Batches, tmp_path: Path) -> None:
    model.eval()
    model.unet.train().requires_grad_(True)
    before = {name: copy.deepcopy(part.state_dict()) for name, part in model.modules.items()}
    told = Instructions(model.clip, model.taxonomy, load_phrases())
    train_diffusion(model.latent_diffusion(), batches, told, TWO_STEPS, tmp_path, batch=4)
    changed = {
        name
        for name, part in model.modules.items()
        if any(
            not torch.equal(before[name][key], value) for key, value in part.state_dict().items()
        )
    }
    assert changed == {"unet"}
    assert not model.unet.training
    assert (tmp_path / "samples.png").is_file()
    assert "of_input" in (tmp_path / "losses.csv").read_text()


def test_half_of_the_noise_levels_are_those_of_the_sampler(model: Model) -> None:
    diffusion = model.latent_diffusion()
    sigmas = draw_sigmas(diffusion, 2000, torch.Generator().manual_seed(0))
    visited = diffusion.schedule.sigmas(diffusion.config.steps)[:-1]
    share = float(torch.isin(sigmas, visited).float().mean())
    assert share == pytest.approx(stage.ON_SAMPLED_LEVELS, abs=0.05)
    assert float(sigmas.min()) > 0
    assert float(sigmas.max()) <= float(diffusion.schedule.sigmas(1000)[0]) * 1.001


def test_noise_levels_depend_on_the_generator_alone(model: Model) -> None:
    draws = [
        draw_sigmas(model.latent_diffusion(), 8, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
