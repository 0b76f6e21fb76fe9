"""The stage of controllable feature wrapping: the decoder learns to look at the photo (StableSR).

Apart from the autoencoder's stage: encoder, decoder and diffusion are frozen here, and what is
decoded are latents that the diffusion has really sampled.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from autodir.diffusion.autoencoder import Autoencoder
from autodir.diffusion.model import LatentDiffusion
from autodir.diffusion.samplers import SamplingStep
from autodir.diffusion.wrapping import FeatureWrapping, decode_wrapped
from autodir.records import NoiseSource, TextEmbedding
from autodir.training.batches import Batches
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions, fit
from autodir.training.losses import relative_error
from autodir.training.samples import save_sheet

CROP = 128
BATCH = 8
LEARNING_RATE = 5e-4


class _Wrapped(nn.Module):
    """The decoder with its fusions at w = 1: one module, so that several processes can share it."""

    def __init__(self, autoencoder: Autoencoder, wrapping: FeatureWrapping) -> None:
        super().__init__()
        self.autoencoder, self.wrapping = autoencoder, wrapping

    def forward(self, latents: Tensor, image: Tensor) -> Tensor:
        """Unscaled latents and the photo (B, 3, H, W) → the picture, not clamped."""
        return decode_wrapped(self.autoencoder, self.wrapping, latents, image, 1.0, clamp=False)


def train_wrapping(
    wrapping: FeatureWrapping,
    diffusion: LatentDiffusion,
    batches: Batches,
    instructions: Instructions,
    options: LoopOptions,
    run_dir: Path,
    batch: int = BATCH,
) -> FeatureWrapping:
    """Train the fusions in place at w = 1.

    The loss is that of the other stages, in decibels of each image. The published one adds LPIPS
    and a discriminator, whose networks are trained on data that may not be used commercially.

    Args:
        wrapping: for the autoencoder of ``diffusion``.
        diffusion: frozen; sampled with its default steps.
        batches: source of degraded crops and targets.
        instructions: source of the text embeddings.
        options: schedule and budget.
        run_dir: logs, samples and resumable state.
        batch: crops in a step.

    Returns:
        The averaged fusions.
    """
    autoencoder = diffusion.autoencoder

    def latents_of(degraded: Tensor, text: TextEmbedding, seed: int) -> Tensor:
        steps: list[SamplingStep] = []
        diffusion.sample(
            diffusion.condition_on(degraded, text), NoiseSource(seed), callback=steps.append
        )
        return autoencoder.unscale(steps[-1].x0)  # the last step ends at its estimate

    def loss(
        network: nn.Module, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = batches.draw(batch, CROP, generator)
        text = instructions.draw(drawn.label, generator)
        latents = latents_of(
            drawn.degraded, text, int(torch.randint(2**31, (), generator=generator))
        )
        result = network(latents, drawn.degraded)
        with torch.no_grad():
            plain = autoencoder.decode(latents, clamp=False)
            gain = _decibels(plain, drawn.target) - _decibels(result, drawn.target)
        return relative_error(result, drawn.target).mean(), {"gain_db": gain.mean()}

    show = torch.Generator().manual_seed(1)
    examples = batches.draw(8, CROP, show)
    told = instructions.draw(examples.label, show)

    def sample(network: nn.Module, path: Path) -> None:
        latents = latents_of(examples.degraded, told, 1)
        plain, wrapped = autoencoder.decode(latents), network(latents, examples.degraded)
        save_sheet([examples.degraded, plain, wrapped, examples.target], path)

    fit(_Wrapped(autoencoder, wrapping), loss, options, run_dir, sample)
    return wrapping


def _decibels(result: Tensor, target: Tensor) -> Tensor:
    """Squared error of each image in decibels, (B,)."""
    return 10 * (result - target).square().mean((1, 2, 3)).clamp_min(1e-8).log10()
