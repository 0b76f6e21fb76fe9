"""The diffusion stage trains the U-Net and nothing else."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model
from autodir.prompts import load_phrases
from autodir.training import diffusion as stage
from autodir.training.batches import Batches
from autodir.training.diffusion import IN_PIXELS, channel_weights, draw_sigmas, train_diffusion
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


def test_the_photo_is_seen_in_the_scale_that_the_model_wants(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "DROP_IMAGE", 0.0)
    model.autoencoder.latent_mean.fill_(0.5)
    model.autoencoder.latent_std.fill_(3.0)
    one_step = dataclasses.replace(TWO_STEPS, max_steps=1, precision="fp32")
    seen: list[torch.Tensor] = []
    for scaled in (True, False):
        model.diffusion = dataclasses.replace(model.diffusion, scaled_condition=scaled)
        trained = copy.deepcopy(model)
        trained.eval()
        trained.unet.train().requires_grad_(True)
        first: list[torch.Tensor] = []
        trained.unet.conv_in.register_forward_pre_hook(lambda _, x, first=first: first.append(x[0]))
        told = Instructions(trained.clip, trained.taxonomy, load_phrases())
        run_dir = tmp_path / str(scaled)
        train_diffusion(
            trained.latent_diffusion(), batches, told, one_step, run_dir, batch=4, crop=48
        )
        seen.append(first[0].detach())
    with_scale, raw = (x[:, 4:] for x in seen)
    assert raw.shape[-2:] == (6, 6)
    torch.testing.assert_close(with_scale * 3 + 0.5, raw, rtol=1e-4, atol=1e-4)
    assert torch.equal(seen[0][:, :4], seen[1][:, :4])


def test_channels_weigh_by_what_they_change_in_the_picture(model: Model) -> None:
    """Principal components: the first ones hold most of a photo, and the last ones hardly any."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 3, 8, 8, generator=generator)
    photos = torch.nn.functional.interpolate(coarse, scale_factor=4.0, mode="bilinear")
    autoencoder = model.autoencoder.eval()
    autoencoder.fit_linear(photos)
    autoencoder.calibrate(autoencoder.encode(photos))
    weights = channel_weights(autoencoder, photos, generator)
    assert weights.shape == (1, autoencoder.channels, 1, 1)
    assert float(weights.mean()) == pytest.approx(1, abs=1e-5)
    assert float(weights.min()) >= 1 - IN_PIXELS
    assert int(weights.argmax()) == 0
    assert float(weights[0, -1]) < 1
