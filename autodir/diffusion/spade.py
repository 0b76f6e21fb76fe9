"""The published form of StableSR's adapter: an encoder with attention, and SPADE instead of α, β.

Apart from our own form, from which it differs in two ways (arXiv:2305.07015 and its release): the
encoder has two residual blocks and a self-attention at each scale, and features are normalized
before they are bent, F' = (1 + γ) · GN(F) + β. Even γ = β = 0 is therefore no identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-5
LAYERS = 2
"""Residual blocks of each scale."""


class Attention(nn.Module):
    """Self-attention over places; each head's queries, keys and values stand together."""

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels, eps=EPS)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → the same shape."""
        batch, channels = x.shape[:2]
        packed = self.qkv(self.norm(x).flatten(2))
        # (B, heads, 3, C / heads, places) → three of (B, heads, places, C / heads)
        by_head = packed.reshape(batch, self.heads, 3, channels // self.heads, -1).transpose(-1, -2)
        seen = functional.scaled_dot_product_attention(*by_head.unbind(2))
        change: Tensor = self.proj_out(seen.transpose(-1, -2).flatten(1, 2))
        return x + change.reshape(x.shape)


class AttendingEncoder(nn.Module):
    """Half a U-Net on the photo's latents: one map of features for each scale.

    Args:
        inputs: channels of the latents.
        widths: channels inside each level, the finest first.
        features: channels of each map.
        groups: of the group normalization; divides all of these.
        heads: of each attention; the coarsest level has one in its middle only.
    """

    def __init__(
        self, inputs: int, widths: Sequence[int], features: int, groups: int, heads: int = 4
    ) -> None:
        super().__init__()
        inner = 4 * widths[0]
        self.time_proj = Timesteps(widths[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], inner)
        self.conv_in = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.blocks, self.attentions = nn.ModuleList(), nn.ModuleList()
        self.downs, self.taps = nn.ModuleList(), nn.ModuleList()

        def block(before: int, after: int) -> ResnetBlock2D:
            return ResnetBlock2D(
                in_channels=before, out_channels=after, temb_channels=inner, groups=groups, eps=EPS
            )

        before = widths[0]
        for level, width in enumerate(widths):
            is_last = level == len(widths) - 1
            own = nn.ModuleList()
            for _ in range(LAYERS):
                own.append(block(before, width))
                before = width
            self.blocks.append(own)
            self.taps.append(block(width, features))
            if not is_last:
                self.attentions.append(
                    nn.ModuleList(Attention(width, heads, groups) for _ in range(LAYERS))
                )
                self.downs.append(Downsample2D(width, use_conv=True, name="op"))
        self.middle = nn.ModuleList(
            [block(before, before), Attention(before, heads, groups), block(before, before)]
        )

    def forward(self, latents: Tensor, timestep: Tensor) -> list[Tensor]:
        """Maps (B, features, h / 2ᵏ, w / 2ᵏ), one for each level k.

        Args:
            latents: of the photo, (B, C, h, w).
            timestep: (B,), of the training chain.
        """
        embedding = self.time_embedding(self.time_proj(timestep).to(latents.dtype))
        hidden = self.conv_in(latents)
        maps = []
        attentions: list[Any] = [*self.attentions, None]
        for level, attends in enumerate(attentions):
            blocks: Any = self.blocks[level]
            for layer, block in enumerate(blocks):
                hidden = block(hidden, embedding)
                if attends is not None:
                    hidden = attends[layer](hidden)
            if attends is None:
                first, attention, second = self.middle
                hidden = second(attention(first(hidden, embedding)), embedding)
            maps.append(self.taps[level](hidden, embedding))
            if level < len(self.downs):
                hidden = self.downs[level](hidden)
        return maps


class Spade(nn.Module):
    """(1 + γ) · GN(F) + β of one residual block, with γ and β read from the photo."""

    def __init__(self, features: int, hidden: int, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=EPS)
        self.shared = nn.Conv2d(features, hidden, 3, padding=1)
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, features: Tensor, told: Tensor, strength: float) -> Tensor:
        """From ``features`` (strength 0) to their transform (1), with the map ``told``."""
        seen = functional.relu(self.shared(told))
        changed: Tensor = self.norm(features) * (1 + self.gamma(seen)) + self.beta(seen)
        return changed if strength == 1 else torch.lerp(features, changed, strength)
