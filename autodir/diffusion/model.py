"""Latent diffusion as a whole: a photo and a mixture of phrases in, a restored photo out.

The one file that knows all its siblings. What the structural correction does afterwards is not its
concern.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from autodir.config import Options
from autodir.diffusion.aggregation import aggregated
from autodir.diffusion.autoencoder import Autoencoder
from autodir.diffusion.conditioning import (
    NULL_PHRASE,
    PhotoConditioning,
    PhraseEncoder,
    TextEncoder,
)
from autodir.diffusion.denoiser import predict_x0
from autodir.diffusion.guidance import classifier_free
from autodir.diffusion.samplers import SAMPLERS, Callback
from autodir.diffusion.schedule import Schedule
from autodir.diffusion.unet import latent_multiple
from autodir.errors import ConfigError, ContractError, DeviceError
from autodir.imaging.resize import pad_to_multiple, resize
from autodir.imaging.tiles import map_tiles
from autodir.records import Mixture, NoiseSource, TextEmbedding, check_image


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionConfig(Options):
    """How the parts work together.

    Attributes:
        working_pixels: a larger photo is shrunk to this area, restored, and enlarged again.
        steps: sampling steps unless the caller says otherwise.
        scaled_condition: the image latents are scaled like the noisy ones; False feeds the raw
            posterior mean.
        autoencoder_tile: sides above this many pixels are encoded and decoded in tiles.
    """

    working_pixels: int = 512 * 512
    steps: int = 4
    scaled_condition: bool = True
    autoencoder_tile: int = 1024

    def __post_init__(self) -> None:
        """Check the ranges."""
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1 and field.name != "scaled_condition":
                raise ConfigError(
                    f"{field.name} must be at least 1, got {getattr(self, field.name)}"
                )


SMALL = DiffusionConfig()
SD15 = DiffusionConfig(working_pixels=768 * 768, steps=50, scaled_condition=False)


class LatentDiffusion:
    """Autoencoder, U-Net, schedule and text tower, composed.

    Not a module: it owns no weights, and the text tower is shared with the diagnosis. The parts
    keep their device and dtype; images and latents between them are float32.

    Args:
        clip: whatever encodes phrases.
        autoencoder: pixels ↔ latents.
        unet: called with (input, timesteps, tokens).
        schedule: the noise levels the U-Net was trained on.
        config: how the parts work together.

    Raises:
        ContractError: autoencoder and U-Net do not fit each other.
    """

    def __init__(
        self,
        clip: TextEncoder,
        autoencoder: Autoencoder,
        unet: UNet2DConditionModel,
        schedule: Schedule,
        config: DiffusionConfig = SMALL,
    ) -> None:
        channels = (unet.config["in_channels"], unet.config["out_channels"])
        if channels != (2 * autoencoder.channels, autoencoder.channels):
            raise ContractError(
                f"a U-Net with {channels[0]} channels in and {channels[1]} out does not fit "
                f"{autoencoder.channels} latent channels"
            )
        self.autoencoder = autoencoder
        self.unet = unet
        self.schedule = schedule
        self.config = config
        self.phrases = PhraseEncoder(clip)
        self.denoise = predict_x0(unet, schedule)

    @property
    def device(self) -> torch.device:
        """Where the U-Net is."""
        parameter: Tensor = next(self.unet.parameters())
        return parameter.device

    @property
    def multiple(self) -> int:
        """Pixels of which the networks need whole multiples along each side."""
        return self.autoencoder.factor * latent_multiple(self.unet)

    def condition(
        self, pixels: Tensor, mixture: Mixture, max_pixels: int | None = None
    ) -> PhotoConditioning:
        """What the denoiser is told about a photo.

        Args:
            pixels: (B, 3, H, W) in [0, 1], of any size from 1 × 1.
            mixture: the phrases that say what to repair, the same for all B.
            max_pixels: the area to work on instead of `DiffusionConfig.working_pixels`.
        """
        return self.condition_on(pixels, self.phrases.mixture(mixture), max_pixels)

    @torch.no_grad()
    def condition_on(
        self, pixels: Tensor, text: TextEmbedding, max_pixels: int | None = None
    ) -> PhotoConditioning:
        """`condition` with a text embedding of one row or of B rows."""
        check_image(pixels, "pixels")
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        working_size = fit(size, max_pixels or self.config.working_pixels, self.multiple)
        padded, _ = pad_to_multiple(resize(pixels.float(), working_size), self.multiple)
        with _memory_errors():
            latents = self._encode(padded.to(self.device))
        if self.config.scaled_condition:
            latents = self.autoencoder.scale(latents)
        return PhotoConditioning(
            text=_moved(text, self.device),
            null_text=_moved(self.phrases.encode([NULL_PHRASE]), self.device),
            image_latents=latents,
            size=size,
            working_size=working_size,
        )

    @torch.no_grad()
    def sample(
        self,
        conditioning: PhotoConditioning,
        noise: NoiseSource,
        *,
        sampler: str = "euler",
        steps: int | None = None,
        guidance_text: float = 1.0,
        guidance_image: float = 1.0,
        tile: int | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Restored pixels (B, 3, H, W) in [0, 1], of the size of the photo given to `condition`.

        Args:
            conditioning: from `condition`.
            noise: the only source of chance.
            sampler: a key of `SAMPLERS`.
            steps: evaluations along the trajectory; None takes `DiffusionConfig.steps`.
            guidance_text, guidance_image: scales of `classifier_free`.
            tile: side in pixels of the windows the U-Net sees at once, rounded to what it needs;
                None is no limit.
            callback: sees each sampling step; returning False ends sampling early with the estimate
                so far.

        Raises:
            ContractError: the sampler is unknown, or a number is out of range.
            DeviceError: out of memory.
        """
        if sampler not in SAMPLERS:
            raise ContractError(
                f"unknown sampler {sampler!r}", f"Choose one of {', '.join(SAMPLERS)}."
            )
        # 1 Noise levels, and the start: nothing but noise.
        sigmas = self.schedule.sigmas(self.config.steps if steps is None else steps)
        latents = conditioning.image_latents
        start = noise.normal(latents.shape, like=latents) * sigmas[0].item()
        # 2 The denoiser, tile by tile where asked, then guided.
        denoise = self.denoise
        if tile is not None:
            denoise = aggregated(denoise, *self._tile(tile))
        denoise = classifier_free(denoise, guidance_text, guidance_image)
        with _memory_errors():
            # 3 From noise to clean latents.
            x0 = SAMPLERS[sampler](denoise, start, sigmas, conditioning, noise, callback)
            # 4 To pixels, and to the size of the photo.
            decoded = self._decode(self.autoencoder.unscale(x0))
        height, width = conditioning.working_size
        return resize(decoded[..., :height, :width], conditioning.size)

    def _tile(self, pixels: int) -> tuple[int, int]:
        """Side and overlap in latents of tiles of about ``pixels`` pixels."""
        if pixels < self.multiple:
            raise ContractError(f"tile must be at least {self.multiple} pixels, got {pixels}")
        side = pixels // self.multiple * latent_multiple(self.unet)
        return side, side // 2

    def _encode(self, pixels: Tensor) -> Tensor:
        tile, factor = self._autoencoder_tile(), self.autoencoder.factor
        return map_tiles(
            pixels, self.autoencoder.encode, tile, tile // 8 // factor * factor, align=factor
        )

    def _decode(self, latents: Tensor) -> Tensor:
        tile = self._autoencoder_tile() // self.autoencoder.factor
        return map_tiles(latents, self.autoencoder.decode, tile, tile // 8)

    def _autoencoder_tile(self) -> int:
        factor = self.autoencoder.factor
        return max(self.config.autoencoder_tile // factor, 1) * factor


def fit(size: tuple[int, int], max_pixels: int, multiple: int) -> tuple[int, int]:
    """The size of the copy to work on: same proportions, about ``max_pixels``, never enlarged.

    A side below ``multiple`` counts as ``multiple``, because it will be padded to that: a strip of
    one pixel by a million must not become 32 million pixels.
    """
    height, width = size
    ratio = 1.0
    if max(height, multiple) * max(width, multiple) > max_pixels:
        # The area falls with the square of the ratio until the short side reaches the multiple,
        # then linearly.
        ratio = min(1.0, math.sqrt(max_pixels / (height * width)))
        if min(size) * ratio < multiple:
            ratio = min(ratio, max_pixels / (multiple * max(size)))
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def _moved(embedding: TextEmbedding, device: torch.device) -> TextEmbedding:
    """The embedding on ``device``."""
    return TextEmbedding(tokens=embedding.tokens.to(device), pooled=embedding.pooled.to(device))


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn torch's out-of-memory errors into ours."""
    try:
        yield
    except RuntimeError as error:
        # An accelerator raises a class of its own; the CPU's allocator says it in words only.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate" not in str(error):
            raise
        raise DeviceError(
            f"out of memory during diffusion: {str(error).splitlines()[0]}",
            "Set a tile, for example --tile 512, or use --device cpu.",
        ) from error
