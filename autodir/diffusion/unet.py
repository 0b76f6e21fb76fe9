"""The U-Net that predicts noise or velocity, in the shapes of each scale.

Apart because it is the door to diffusers' network: everybody else sees a module called with (input,
time, tokens).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from autodir.config import check_keys
from autodir.errors import ConfigError

# In diffusers `attention_head_dim` holds the NUMBER of heads of each level, whatever its name says.
SMALL: Mapping[str, Any] = {
    "in_channels": 32,
    "out_channels": 16,
    "block_out_channels": (64, 128, 160),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 256,
    "attention_head_dim": (2, 4, 5),
    "norm_num_groups": 32,
    "use_linear_projection": True,
}
SD15: Mapping[str, Any] = {
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
}
SD21: Mapping[str, Any] = {
    **SD15,
    "in_channels": 4,  # the photo comes by way of an adapter
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),  # heads of 64 channels
    "use_linear_projection": True,
}


def build_unet(config: Mapping[str, Any]) -> UNet2DConditionModel:
    """A conditional U-Net with random weights.

    Its input is (B, in_channels, h, w): the noisy latents FIRST, then the latents of the degraded
    photo.

    Args:
        config: arguments of diffusers' `UNet2DConditionModel`, as in its ``config.json``; keys that
            start with an underscore (diffusers' own marks) are passed over.

    Raises:
        ConfigError: a key is unknown, or the values do not make a network.
    """
    known = set(inspect.signature(UNet2DConditionModel.__init__).parameters) - {"self"}
    values = {key: _tuples(value) for key, value in config.items() if not key.startswith("_")}
    check_keys(values, sorted(known), "the U-Net's configuration")
    try:
        return UNet2DConditionModel(**values)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the U-Net cannot be built: {error}") from error


def latent_multiple(unet: UNet2DConditionModel) -> int:
    """The number that must divide latent heights and widths: 2 for each level but the last."""
    return int(2 ** (len(unet.config["block_out_channels"]) - 1))


def _tuples(value: Any) -> Any:
    """JSON lists as the tuples diffusers expects."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
