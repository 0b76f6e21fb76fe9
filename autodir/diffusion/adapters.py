"""Adapters: a U-Net that stays as it is, and a small network beside it that conditions it.

Apart from the two adapters themselves, which do not know each other. An adapted U-Net is called
like a plain one, so that samplers, guidance, tiles and training need not know of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from autodir.diffusion.control import ControlAdapter
from autodir.diffusion.sft import SftAdapter
from autodir.errors import ConfigError

Adapter = ControlAdapter | SftAdapter
KINDS: dict[str, type[ControlAdapter] | type[SftAdapter]] = {
    "sft": SftAdapter,
    "control": ControlAdapter,
}


def build_adapter(config: Mapping[str, Any], unet: UNet2DConditionModel) -> Adapter:
    """A fresh adapter, which changes nothing yet.

    Args:
        config: ``kind``, one of `KINDS`, and the arguments of that class.
        unet: the network it will stand beside.

    Raises:
        ConfigError: an unknown kind, or arguments it does not have.
    """
    values = dict(config)
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise ConfigError(f"unknown adapter {kind!r}", f"Choose one of {', '.join(KINDS)}.")
    try:
        return KINDS[kind](unet, **values)
    except TypeError as error:
        raise ConfigError(f"the adapter cannot be built: {error}") from error


class AdaptedUnet(nn.Module):
    """A U-Net and an adapter, called as the U-Net alone.

    Its input is (B, 2C, h, w), noisy latents first. A U-Net with C channels in sees the noisy
    latents alone, one with 2C sees both; the adapter is told the latents of the photo.

    Args:
        unet: used as it is.
        adapter: trained for that U-Net.
        strength: factor on what the adapter adds; 0 is the U-Net alone.
    """

    def __init__(self, unet: UNet2DConditionModel, adapter: Adapter, strength: float = 1.0) -> None:
        super().__init__()
        self.unet, self.adapter, self.strength = unet, adapter, strength

    @property
    def config(self) -> Any:
        """The U-Net's."""
        return self.unet.config

    @property
    def dtype(self) -> torch.dtype:
        """The U-Net's."""
        own: torch.dtype = self.unet.dtype
        return own

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Any:
        """As the U-Net's own: an object with ``sample`` (B, C, h, w)."""
        channels = int(self.unet.config["out_channels"])
        own = sample[:, : int(self.unet.config["in_channels"])]
        photo = sample[:, channels : 2 * channels]
        if self.strength == 0:
            return self.unet(own, timestep, encoder_hidden_states=encoder_hidden_states)
        return self.adapter.run(
            self.unet, own, photo, timestep, encoder_hidden_states, self.strength
        )
