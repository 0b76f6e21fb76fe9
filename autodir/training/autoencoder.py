"""The autoencoder's stage: reconstruct photos (its PSNR is what later stages inherit).

Apart because it alone needs no labels and no text.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from autodir.diffusion.autoencoder import Autoencoder
from autodir.training.batches import Batches
from autodir.training.loop import LoopOptions, fit
from autodir.training.losses import relative_error
from autodir.training.samples import save_sheet

CROP = 128
BATCH = 16
LEARNING_RATE = 1e-3
LATENT_NOISE = 0.05
"""Noise on the latents, in units of their deviation in the batch: neighbors must decode alike."""


class _Reconstruction(nn.Module):
    """Encoder, a little noise, decoder: one module, so that several processes can share it."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, image: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) → reconstruction and latents."""
        latents = self.autoencoder.encode(image)
        if noise is None:
            return self.autoencoder.decode(latents), latents
        deviation = latents.detach().std((0, 2, 3), keepdim=True)
        return self.autoencoder.decode(
            latents + LATENT_NOISE * deviation * noise, clamp=False
        ), latents


def train_autoencoder(
    autoencoder: Autoencoder,
    batches: Batches,
    options: LoopOptions,
    run_dir: Path,
    *,
    batch: int = BATCH,
    fresh: bool = True,
) -> Autoencoder:
    """Train in place, then measure the latents' mean and deviation by channel.

    Args:
        autoencoder: random or trained weights.
        batches: source of the crops.
        options: schedule and budget.
        run_dir: logs, samples and resumable state.
        batch: crops in a step.
        fresh: the weights are random: start the linear map from the principal components of the
            photos.

    Returns:
        The averaged autoencoder, calibrated.
    """
    model = _Reconstruction(autoencoder)
    if fresh and autoencoder.config.linear:
        autoencoder.fit_linear(batches.draw(256, CROP, torch.Generator().manual_seed(3)).target)

    def loss(
        network: nn.Module, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = batches.draw(max(1, batch // 2), CROP, generator)
        image = torch.cat([drawn.degraded, drawn.target])
        factor = autoencoder.factor
        shape = (len(image), autoencoder.channels, CROP // factor, CROP // factor)
        noise = torch.randn(shape, generator=generator).to(image.device)
        decoded, latents = network(image, noise)
        error = relative_error(decoded, image, floor=1e-5)
        squared = (decoded.detach() - image).square().mean((1, 2, 3))
        return error.mean(), {
            "psnr": -10 * squared.log10().mean(),
            "latent": latents.detach().std(),
        }

    show = torch.Generator().manual_seed(1)
    examples = batches.draw(8, CROP, show)

    def sample(network: nn.Module, path: Path) -> None:
        decoded, _ = network(examples.degraded)
        save_sheet([examples.degraded, decoded.clamp(0, 1)], path)

    fit(model, loss, options, run_dir, sample)
    calibrate_latents(autoencoder, batches)
    return autoencoder


@torch.inference_mode()
def calibrate_latents(autoencoder: Autoencoder, batches: Batches, rounds: int = 8) -> None:
    """Set the autoencoder's latent statistics from clean crops."""
    generator = torch.Generator().manual_seed(2)
    latents = [autoencoder.encode(batches.draw(16, CROP, generator).target) for _ in range(rounds)]
    autoencoder.calibrate(torch.cat(latents))
