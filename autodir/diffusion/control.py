"""IRControlNet: a copy of the U-Net's encoder, fed with the photo's latents (DiffBIR).

Apart from the U-Net, which is frozen (arXiv:2308.15070, Sec. 3.2). There is no separate network for
the hint: the copy's first convolution sees the latents of the photo, already in its own space.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn


class ControlAdapter(nn.Module):
    """The copied encoder and middle, and 1 × 1 convolutions that start at zero.

    A fresh adapter adds exactly nothing: the convolutions behind the copy are zero, and so are the
    columns of its first convolution that see the photo.

    Args:
        unet: the network that is copied.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"kind": "control"}
        channels = int(unet.config["out_channels"])
        self.conv_in = expanded(unet.conv_in, channels)
        self.time_proj = copy.deepcopy(unet.time_proj)
        self.time_embedding = copy.deepcopy(unet.time_embedding)
        self.down_blocks = copy.deepcopy(unet.down_blocks)
        self.mid_block = copy.deepcopy(unet.mid_block)
        widths = tuple(unet.config["block_out_channels"])
        outputs = [widths[0]]
        for width, block in zip(widths, unet.down_blocks, strict=True):
            outputs += [width] * (len(block.resnets) + (block.downsamplers is not None))
        self.zero_convs = nn.ModuleList(_zero(width) for width in outputs)
        self.middle_block_out = _zero(widths[-1])

    def forward(
        self, sample: Tensor, photo: Tensor, timestep: Tensor, tokens: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """What to add to the U-Net's skip connections, and to its middle.

        Args:
            sample: the U-Net's own input (B, C_in, h, w).
            photo: latents of the photo (B, C, h, w).
            timestep: (B,).
            tokens: (B, L, D).
        """
        embedding = self.time_embedding(self.time_proj(timestep).to(sample.dtype))
        hidden = self.conv_in(torch.cat([sample, photo], 1))
        skips = [hidden]
        for block in self.down_blocks:
            attends = getattr(block, "has_cross_attention", False)
            told = {"encoder_hidden_states": tokens} if attends else {}
            hidden, outputs = block(hidden, embedding, **told)
            skips += outputs
        hidden = self.mid_block(hidden, embedding, encoder_hidden_states=tokens)
        added = [conv(skip) for conv, skip in zip(self.zero_convs, skips, strict=True)]
        return added, self.middle_block_out(hidden)

    def run(
        self,
        unet: UNet2DConditionModel,
        sample: Tensor,
        photo: Tensor,
        timestep: Tensor,
        tokens: Tensor,
        strength: float,
    ) -> Any:
        """The U-Net's answer with what this adapter adds, times ``strength``."""
        added, middle = self(sample, photo, timestep, tokens)
        return unet(
            sample,
            timestep,
            encoder_hidden_states=tokens,
            down_block_additional_residuals=tuple(strength * one for one in added),
            mid_block_additional_residual=strength * middle,
        )


def expanded(conv: nn.Conv2d, extra: int) -> nn.Conv2d:
    """A convolution with ``extra`` input channels more, which it does not hear yet."""
    side, padding = conv.kernel_size[0], int(conv.padding[0])
    wider = nn.Conv2d(conv.in_channels + extra, conv.out_channels, side, padding=padding)
    wider = wider.to(conv.weight)
    with torch.no_grad():
        wider.weight.zero_()
        wider.weight[:, : conv.in_channels] = conv.weight
        if wider.bias is not None and conv.bias is not None:
            wider.bias.copy_(conv.bias)
    return wider


def _zero(channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, channels, 1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv
