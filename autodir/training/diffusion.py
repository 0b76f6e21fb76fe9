"""The diffusion stage: the U-Net denoises clean latents beside those of the degraded photo.

Apart from the other stages; it trains nothing but the U-Net.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from autodir.diffusion.autoencoder import Autoencoder
from autodir.diffusion.conditioning import NULL_PHRASE, drop
from autodir.diffusion.denoiser import precondition, to_x0, training_target
from autodir.diffusion.model import LatentDiffusion
from autodir.records import Conditioning, NoiseSource
from autodir.training.batches import Batches
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions, fit
from autodir.training.samples import save_sheet

CROP = 160
BATCH = 16
LEARNING_RATE = 1.5e-3
SHARE = (0.7, 0.2, 0.1)
"""Of one degradation, several, and clean photos."""
EMPHASIS = {"haze": 2.0, "underexposure": 1.5}
"""Light that differs from place to place is what nothing after the U-Net sees better."""
DROP_TEXT, DROP_IMAGE = 0.1, 0.1
"""Shares of samples without instruction and without photo, for classifier-free guidance."""
ON_SAMPLED_LEVELS = 0.5
"""Share of samples at the very noise levels that the default sampler visits; others anywhere."""


EVEN = 0.03
"""Squared distance of degraded and clean latents below which a sample's weight no longer grows.

A sample weighs the less the further apart they are: darkness must not drown rain.
"""
IN_PIXELS = 0.5
"""Share of the loss in which a channel weighs as much as it changes pixels; evenly in the rest.

Latents are scaled to unit deviation each, so that evenly alone the lightness of a square weighs no
more than its faintest texture.
"""
NUDGE = 0.5
"""Deviations by which a channel is moved to see what it changes."""


@torch.no_grad()
def channel_weights(autoencoder: Autoencoder, photos: Tensor, generator: torch.Generator) -> Tensor:
    """What an error in each latent channel weighs, in the mean 1.

    Args:
        autoencoder: its decoder is asked what a small change of either sign at every place does.
        photos: (B, 3, H, W) in [0, 1], around whose latents that is measured.
        generator: of the signs.

    Returns:
        (1, C, 1, 1), `IN_PIXELS` of it in proportion to the squared change of the pixels.
    """
    latents = autoencoder.scale(autoencoder.encode(photos))
    image = autoencoder.decode(autoencoder.unscale(latents), clamp=False)
    signs = torch.randint(2, latents[:, 0].shape, generator=generator).to(latents) * 2 - 1
    energies = []
    for channel in range(autoencoder.channels):
        moved = latents.clone()
        moved[:, channel] += NUDGE * signs
        changed = autoencoder.decode(autoencoder.unscale(moved), clamp=False)
        energies.append((changed - image).square().mean())
    energy = torch.stack(energies)
    weights = 1 - IN_PIXELS + IN_PIXELS * energy / energy.mean()
    return weights.view(1, -1, 1, 1)


def draw_sigmas(diffusion: LatentDiffusion, count: int, generator: torch.Generator) -> Tensor:
    """(count,) noise levels: half at the sampler's own levels, half at timesteps drawn evenly."""
    schedule = diffusion.schedule
    visited = schedule.sigmas(diffusion.config.steps)[:-1]
    picked = visited[torch.randint(len(visited), (count,), generator=generator)]
    anywhere = schedule.t_to_sigma(torch.rand(count, generator=generator) * (len(schedule) - 1))
    return torch.where(torch.rand(count, generator=generator) < ON_SAMPLED_LEVELS, picked, anywhere)


def train_diffusion(
    diffusion: LatentDiffusion,
    batches: Batches,
    instructions: Instructions,
    options: LoopOptions,
    run_dir: Path,
    batch: int = BATCH,
    crop: int | None = None,
) -> LatentDiffusion:
    """Train the U-Net in place (arXiv:2112.10752, Eq. 2, for the schedule's prediction).

    Unlike there a channel weighs by what it changes in the picture, `channel_weights`.

    Args:
        diffusion: autoencoder and text tower are used as they are; the U-Net is trained,
            or its adapter, whichever asks for gradients.
        batches: source of degraded crops and targets.
        instructions: source of the text embeddings.
        options: schedule and budget.
        run_dir: logs, samples and resumable state.
        batch: crops in a step.
        crop: their side in pixels; `CROP` by default.

    Returns:
        ``diffusion`` with the averaged U-Net.
    """
    autoencoder, kind = diffusion.autoencoder.eval(), diffusion.schedule.config.prediction
    null = diffusion.phrases.encode([NULL_PHRASE])
    side = crop or CROP
    show = torch.Generator().manual_seed(1)
    examples = batches.draw(8, side, show)
    told = instructions.draw(examples.label, show)
    channels = channel_weights(autoencoder, examples.target, show)

    def loss(
        network: nn.Module, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = batches.draw(batch, side, generator)
        text = instructions.draw(drawn.label, generator)
        with torch.no_grad():
            raw = autoencoder.encode(torch.cat([drawn.degraded, drawn.target]))
        image, x0 = autoencoder.scale(raw).chunk(2)
        seen = image if diffusion.config.scaled_condition else raw[:batch]
        cond = drop(
            Conditioning(text=text, null_text=null, image_latents=seen),
            text=torch.rand(batch, generator=generator) < DROP_TEXT,
            image=torch.rand(batch, generator=generator) < DROP_IMAGE,
        )
        sigma = draw_sigmas(diffusion, batch, generator).to(x0.device)
        noise = torch.randn(x0.shape, generator=generator).to(x0.device)
        level = sigma.view(-1, 1, 1, 1)
        x = x0 + level * noise
        output = network(
            torch.cat([x / (level.square() + 1).sqrt(), cond.image_latents], dim=1),
            diffusion.schedule.sigma_to_t(sigma),
            encoder_hidden_states=cond.text.tokens,
        ).sample.float()
        if kind == "residual":
            deviation = diffusion.schedule.config.condition_deviation
            base, scale = precondition(x, level, cond.image_latents, deviation)
            error = (channels * (output - (x0 - base) / scale).square()).mean((1, 2, 3))
            estimate = base + scale * output.detach()
        else:
            wanted = training_target(x0, noise, sigma, kind)
            error = (channels * (output - wanted).square()).mean((1, 2, 3))
            estimate = to_x0(output.detach(), x, level, kind)
        apart = (image - x0).square().mean((1, 2, 3))
        weight = (apart.mean() + EVEN) / (apart + EVEN)
        with torch.no_grad():
            start = sigma > 1000
            off = (estimate - x0).square().mean((1, 2, 3))[start] / apart[start].clamp_min(1e-3)
        figure = off.median() if bool(start.any()) else off.new_ones(())
        return (weight * error).mean(), {"of_input": figure}

    def sample(network: nn.Module, path: Path) -> None:
        cond = diffusion.condition_on(examples.degraded, told)
        restored = diffusion.sample(cond, NoiseSource(0))
        save_sheet([examples.degraded, restored, examples.target], path)

    fit(diffusion.network, loss, options, run_dir, sample)
    return diffusion
