"""Latent diffusion as a whole: a photo and a mixture of phrases in, a restored photo out.

The one file that knows all its siblings. What the structural correction does afterwards is not its
concern.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from autodir.diffusion.adapters import AdaptedUnet, Adapter
from autodir.diffusion.aggregation import aggregated
from autodir.diffusion.autoencoder import Autoencoder
from autodir.diffusion.conditioning import (
    NULL_PHRASE,
    PhotoConditioning,
    PhraseEncoder,
    TextEncoder,
)
from autodir.diffusion.denoiser import Denoise, predict_x0
from autodir.diffusion.dreamclean import DreamClean, levels, sample_dreamclean, unconditional
from autodir.diffusion.guidance import classifier_free
from autodir.diffusion.region import (
    RegionGuidance,
    latent_target,
    pixel_target,
    region_adaptive,
)
from autodir.diffusion.samplers import SAMPLERS, Callback
from autodir.diffusion.schedule import Schedule
from autodir.diffusion.settings import DREAMCLEAN, SMALL, DiffusionConfig
from autodir.diffusion.tiled import decode_tiled, encode_tiled
from autodir.diffusion.unet import latent_multiple
from autodir.diffusion.wrapping import FeatureWrapping, decode_wrapped
from autodir.errors import ConfigError, ContractError, DeviceError
from autodir.imaging.resize import pad_to_multiple, resize
from autodir.imaging.tiles import map_tiles
from autodir.records import Mixture, NoiseSource, TextEmbedding, check_image
from autodir.techniques import TechniqueOptions


class LatentDiffusion:
    """Autoencoder, U-Net, schedule and text tower, composed.

    Not a module: it owns no weights, and the text tower is shared with the diagnosis. The parts
    keep their device and dtype; images and latents between them are float32.

    Args:
        clip: whatever encodes phrases, for the structural correction too.
        autoencoder: pixels ↔ latents.
        unet: called with (input, timesteps, tokens).
        schedule: the noise levels the U-Net was trained on.
        config: how the parts work together.
        adapter: what conditions the U-Net besides; nothing by default.
        wrapping: the photo's features in the decoder, for `TechniqueOptions.fidelity`.
        text: what encodes phrases for the U-Net, where it has a text tower of its own.

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
        adapter: Adapter | None = None,
        wrapping: FeatureWrapping | None = None,
        text: TextEncoder | None = None,
    ) -> None:
        channels = (unet.config["in_channels"], unet.config["out_channels"])
        own = autoencoder.channels
        # Only an adapter can tell a U-Net of the photo that has no room for it in its input.
        if channels not in ([(2 * own, own)] if adapter is None else [(own, own), (2 * own, own)]):
            raise ContractError(
                f"a U-Net with {channels[0]} channels in and {channels[1]} out does not fit "
                f"{autoencoder.channels} latent channels"
            )
        self.autoencoder = autoencoder
        self.unet = unet
        self.schedule = schedule
        self.config = config
        self.phrases = PhraseEncoder(clip)
        self.told = self.phrases if text is None else PhraseEncoder(text)
        self.wrapping = wrapping
        self.network = unet if adapter is None else AdaptedUnet(unet, adapter)
        self.denoise = predict_x0(self.network, schedule)
        self._device: torch.device | None = None

    def configured(self, config: DiffusionConfig) -> LatentDiffusion:
        """The same networks and remembered phrases, working together in another way."""
        other = copy.copy(self)
        other.config = config
        return other

    def place(self, device: torch.device) -> None:
        """Take photos and instructions to ``device``, wherever the networks are meanwhile."""
        self._device = device

    @property
    def device(self) -> torch.device:
        """Where the networks are computed: where the U-Net is, unless `place` has said it."""
        if self._device is not None:
            return self._device
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
        masked = self.config.mask_prompts or not mixture.free
        if self.config.prompt is not None and not mixture.free:
            text = self.told.encode([self.config.prompt], self.config.mask_prompts)
        else:
            text = self.told.mixture(mixture, masked)
        return self.condition_on(pixels, text, max_pixels)

    def instruction(self, mixture: Mixture) -> TextEmbedding:
        """What the structural correction is told: `condition`'s text, by the shared tower."""
        masked = self.config.mask_prompts or not mixture.free
        return _moved(self.phrases.mixture(mixture, masked), self.device)

    @torch.no_grad()
    def condition_on(
        self, pixels: Tensor, text: TextEmbedding, max_pixels: int | None = None
    ) -> PhotoConditioning:
        """`condition` with a text embedding of one row or of B rows."""
        check_image(pixels, "pixels")
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        working_size = fit(size, max_pixels or self.config.working_pixels, self.multiple)
        padded, _ = pad_to_multiple(resize(pixels.float(), working_size), self.multiple)
        null_text = self.told.encode([NULL_PHRASE], self.config.mask_prompts)
        with _memory_errors():
            latents = self._encode(padded.to(self.device))
        if self.config.scaled_condition:
            latents = self.autoencoder.scale(latents)
        return PhotoConditioning(
            text=_moved(text, self.device),
            null_text=_moved(null_text, self.device),
            image_latents=latents,
            size=size,
            working_size=working_size,
            pixels=padded.to(self.device),
        )

    @torch.no_grad()
    def sample(  # noqa: PLR0913 (one name for each published setting)
        self,
        conditioning: PhotoConditioning,
        noise: NoiseSource,
        *,
        sampler: str = "euler",
        steps: int | None = None,
        guidance_text: float = 1.0,
        guidance_image: float = 1.0,
        tile: int | None = None,
        tile_overlap: int | None = None,
        techniques: TechniqueOptions | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Restored pixels (B, 3, H, W) in [0, 1], of the size of the photo given to `condition`.

        A configuration without ``clamp`` may leave that range.

        Args:
            conditioning: from `condition`.
            noise: the only source of chance.
            sampler: a key of `SAMPLERS`, or "dreamclean", which hears neither text nor guidance.
            steps: evaluations along the trajectory; None takes `DiffusionConfig.steps`.
            guidance_text, guidance_image: scales of `classifier_free`.
            tile: side in latents of the windows the U-Net sees at once, rounded down to what it
                needs; None is no limit.
            tile_overlap: latents that neighboring windows share; half a window by default.
            techniques: what else the round is composed of; nothing by default.
            callback: sees each sampling step; returning False ends sampling early with the estimate
                so far.

        Raises:
            ContractError: the sampler is unknown, or a number is out of range.
            DeviceError: out of memory.
        """
        if sampler not in (*SAMPLERS, DREAMCLEAN):
            raise ContractError(
                f"unknown sampler {sampler!r}",
                f"Choose one of {', '.join((*SAMPLERS, DREAMCLEAN))}.",
            )
        chosen = techniques or TechniqueOptions()
        # 1 Noise levels, and the start: nothing but noise, the photo, or the photo under noise.
        latents = conditioning.image_latents
        photo = latents if self.config.scaled_condition else self.autoencoder.scale(latents)
        if sampler == DREAMCLEAN:
            sigmas = levels(self.schedule, chosen.inversion_depth, steps)
            start = photo
        else:
            sigmas = self.schedule.sigmas(self.config.steps if steps is None else steps)
            start = noise.normal(latents.shape, like=latents) * sigmas[0].item()
            if (chosen.start or self.config.start) == "photo":
                start = photo + start
        # 2 The denoiser, tile by tile where asked, then guided.
        denoise = self.denoise
        if tile is not None:
            denoise = aggregated(denoise, *self._tile(tile, tile_overlap))
        with _memory_errors():
            # 3 From noise, or from the photo and back, to clean latents.
            if sampler == DREAMCLEAN:
                prior = unconditional(denoise)
                x0 = sample_dreamclean(
                    prior, start, sigmas, conditioning, noise, callback,
                    settings=_dreamclean(chosen),
                    guided=self._drawn(prior, conditioning, chosen, sigmas),
                )  # fmt: skip
            else:
                denoise = classifier_free(denoise, guidance_text, guidance_image)
                denoise = self._drawn(denoise, conditioning, chosen, sigmas)
                x0 = SAMPLERS[sampler](denoise, start, sigmas, conditioning, noise, callback)
            # 4 To pixels, and to the size of the photo.
            latents = self.autoencoder.unscale(x0)
            if chosen.fidelity > 0:
                decoded = self._decode_wrapped(latents, conditioning.pixels, chosen.fidelity)
            else:
                decoded = self._decode(latents)
        height, width = conditioning.working_size
        return resize(decoded[..., :height, :width], conditioning.size)

    def _drawn(
        self,
        denoise: Denoise,
        conditioning: PhotoConditioning,
        chosen: TechniqueOptions,
        sigmas: Tensor,
    ) -> Denoise:
        """The denoiser drawn towards the photo that the conditioning was made from."""
        settings = RegionGuidance(
            strength=chosen.guidance_region, space=chosen.guidance_space,
            repeat=chosen.guidance_repeat, start=chosen.guidance_from, until=chosen.guidance_until,
        )  # fmt: skip
        if settings.strength == 0:
            return denoise
        photo, latents = conditioning.pixels, conditioning.image_latents
        if settings.space == "latent":
            if not self.config.scaled_condition:
                latents = self.autoencoder.scale(latents)
            target = latent_target(photo, latents)
        else:
            target = pixel_target(
                photo,
                lambda x0: self.autoencoder.decode(self.autoencoder.unscale(x0), clamp=False),
            )
        return region_adaptive(denoise, target, settings, self.schedule, sigmas)

    def _tile(self, tile: int, overlap: int | None) -> tuple[int, int]:
        """Side and overlap of the windows in latents; the U-Net needs whole multiples."""
        multiple = latent_multiple(self.unet)
        if tile < multiple:
            raise ContractError(f"tile must be at least {multiple} latents, got {tile}")
        side = tile // multiple * multiple
        return side, side // 2 if overlap is None else min(overlap, side - 1)

    def _encode(self, pixels: Tensor) -> Tensor:
        return encode_tiled(self.autoencoder, pixels, self.config.autoencoder_tile)

    def _decode_wrapped(self, latents: Tensor, photo: Tensor, weight: float) -> Tensor:
        """Pixels of latents with the features of ``photo``, in tiles where it is large."""
        if self.wrapping is None:
            raise ConfigError(
                "this model has no feature wrapping, so --fidelity has nothing to weigh",
                "train one with autodir train cfw, or leave --fidelity at 0",
            )
        wrapping, factor, channels = self.wrapping, self.autoencoder.factor, latents.shape[1]

        def decode(both: Tensor) -> Tensor:
            image = functional.pixel_shuffle(both[:, channels:], factor)
            return decode_wrapped(
                self.autoencoder, wrapping, both[:, :channels], image, weight, self.config.clamp
            )

        both = torch.cat([latents, functional.pixel_unshuffle(photo, factor)], 1)
        tile = max(self.config.autoencoder_tile // factor, 1)
        return map_tiles(both, decode, tile, tile // 8)

    def _decode(self, latents: Tensor) -> Tensor:
        tile = self.config.autoencoder_tile // self.autoencoder.factor
        return decode_tiled(self.autoencoder, latents, tile, self.config.clamp)


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


def _dreamclean(chosen: TechniqueOptions) -> DreamClean:
    """The settings of that sampler among all techniques."""
    return DreamClean(
        gamma=chosen.gamma, corrections=chosen.corrections, depth=chosen.inversion_depth,
        fixed_point=chosen.inversion_iterations,
    )  # fmt: skip


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
            "Set a tile, for example --tile 64, or use --offload or --device cpu.",
        ) from error
