"""How the parts of the latent diffusion work together, for each scale.

Apart from the diffusion itself, so that a model folder's settings can be read without its networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from autodir.config import Options
from autodir.errors import ConfigError
from autodir.techniques import STARTS

DREAMCLEAN = "dreamclean"
"""The sampler that starts from the photo, and therefore is not in the table of the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionConfig(Options):
    """How the parts work together.

    Attributes:
        working_pixels: a larger photo is shrunk to this area, restored, and enlarged again.
        steps: sampling steps unless the caller says otherwise.
        scaled_condition: the image latents are scaled like the noisy ones; False feeds the raw
            posterior mean.
        autoencoder_tile: sides above this many pixels are encoded and decoded in tiles.
        mask_prompts: a user's own words and the null prompt hide their padding from the text tower,
            as in training; False lets it be seen, as the published code does.
        clamp: limit the result to [0, 1]; False hands on what the decoder says, as published.
        prompt: what the denoiser is told in place of the diagnosis, such as the empty text that
            StableSR was trained with; a user's own words are told all the same. None is the
            diagnosis.
        start: "noise", or "photo": the photo's latents under the noise of the last timestep.
    """

    working_pixels: int = 512 * 512
    steps: int = 4
    scaled_condition: bool = True
    autoencoder_tile: int = 1024
    mask_prompts: bool = True
    clamp: bool = True
    prompt: str | None = None
    start: str = "noise"

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("working_pixels", "steps", "autoencoder_tile"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.start not in STARTS:
            raise ConfigError(
                f"unknown start {self.start!r}", f"Choose one of {', '.join(STARTS)}."
            )


SMALL = DiffusionConfig()
SD15 = DiffusionConfig(
    working_pixels=768 * 768, steps=50, scaled_condition=False, mask_prompts=False
)
SD21 = DiffusionConfig(steps=50, mask_prompts=False, prompt="")
