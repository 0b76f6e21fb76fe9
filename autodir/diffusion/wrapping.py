"""Controllable feature wrapping: the photo's own features in the decoder, weighed by w.

Apart from the autoencoder, which it leaves as it is (StableSR, arXiv:2305.07015, Sec. 3.3):
F_m = F_d + w · C(F_e, F_d), with the encoder's features of the photo and the decoder's of the
result. w = 0 is the plain decoder (realism), w = 1 the most faithful.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodir.diffusion.autoencoder import Autoencoder, PlainNetwork, ResidualBlock
from autodir.errors import ContractError

Hook = Callable[[nn.Module, Any, Tensor], Tensor | None]


class Residual(nn.Module):
    """Normalize, SiLU, convolve, twice, beside the identity or a 1 × 1 convolution."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps=1e-6) if groups else nn.Identity()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs, eps=1e-6) if groups else nn.Identity()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_out = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) → (B, outputs, h, w)."""
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h)))
        result: Tensor = self.conv_out(x) + h
        return result


class Dense(nn.Module):
    """Five convolutions, each of which sees all before it (a dense block of ESRGAN)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        for index in range(5):
            outputs = channels if index == 4 else growth
            conv = nn.Conv2d(channels + index * growth, outputs, 3, padding=1)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            setattr(self, f"conv{index + 1}", conv)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → the same shape."""
        seen = [x]
        for index in range(4):
            seen.append(functional.leaky_relu(self._convolved(index, seen), 0.2))
        return x + 0.2 * self._convolved(4, seen)

    def _convolved(self, index: int, seen: list[Tensor]) -> Tensor:
        result: Tensor = getattr(self, f"conv{index + 1}")(torch.cat(seen, 1))
        return result


class DenseInDense(nn.Module):
    """Three dense blocks in a residual one (RRDB, arXiv:1809.00219)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = Dense(channels, growth)
        self.rdb2 = Dense(channels, growth)
        self.rdb3 = Dense(channels, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → the same shape."""
        change: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        return x + 0.2 * change


class Fusion(nn.Module):
    """C(F_e, F_d) of one level; before training it is 0, so that any w gives the plain decoder."""

    def __init__(self, channels: int, growth: int, blocks: int, groups: int) -> None:
        super().__init__()
        self.encode_enc_1 = Residual(2 * channels, channels, groups)
        self.encode_enc_2 = nn.Sequential(*(DenseInDense(channels, growth) for _ in range(blocks)))
        self.encode_enc_3 = Residual(channels, channels, groups)
        for conv in (
            self.encode_enc_1.conv2, self.encode_enc_1.conv_out, self.encode_enc_3.conv2,
        ):  # fmt: skip
            for parameter in conv.parameters():
                nn.init.zeros_(parameter)

    def forward(self, encoded: Tensor, decoded: Tensor) -> Tensor:
        """Two (B, C, h, w) → one."""
        first = self.encode_enc_1(torch.cat([encoded, decoded], 1))
        change: Tensor = self.encode_enc_3(self.encode_enc_2(first))
        return change


class FeatureWrapping(nn.Module):
    """The fusions of an autoencoder's levels.

    Args:
        widths: channels of every level of the autoencoder, the finest first.
        levels: those that are wrapped; published are the second and third of four.
        growth: channels that a dense convolution adds.
        blocks: residual dense blocks in a fusion.
        groups: of the group normalization; 0 for none, as in an autoencoder without it.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        levels: Sequence[int],
        growth: int = 32,
        blocks: int = 2,
        groups: int = 32,
    ) -> None:
        super().__init__()
        if not levels or not all(0 <= level < len(widths) for level in levels):
            raise ContractError(f"levels {tuple(levels)} are not among {len(widths)}")
        self.config: dict[str, Any] = {
            "widths": list(widths), "levels": list(levels), "growth": growth, "blocks": blocks,
            "groups": groups,
        }  # fmt: skip
        self.levels = tuple(levels)
        self.fusions = nn.ModuleDict(
            {f"level{level}": Fusion(widths[level], growth, blocks, groups) for level in levels}
        )

    @classmethod
    def beside(cls, autoencoder: Autoencoder) -> FeatureWrapping:
        """A fresh one for an autoencoder: its inner levels where it has four, else all."""
        widths = autoencoder.config.block_out_channels
        count = len(widths)
        is_plain = isinstance(autoencoder.net, PlainNetwork)
        return cls(
            widths=widths,
            levels=range(1, count - 1) if count > 3 else range(count),
            growth=16 if is_plain else 32,
            groups=0 if is_plain else autoencoder.config.norm_num_groups,
        )

    def forward(self, level: int, encoded: Tensor, decoded: Tensor) -> Tensor:
        """C(F_e, F_d) of a level, two (B, C, h, w) → one."""
        fusion = self.fusions[f"level{level}"]
        dtype = next(fusion.parameters()).dtype
        change: Tensor = fusion(encoded.to(dtype), decoded.to(dtype))
        return change.to(decoded)


def decode_wrapped(
    autoencoder: Autoencoder,
    wrapping: FeatureWrapping,
    latents: Tensor,
    image: Tensor,
    weight: float,
    clamp: bool = True,
) -> Tensor:
    """`Autoencoder.decode` with the features of ``image``.

    Args:
        autoencoder: stays as it is.
        wrapping: for an autoencoder of these widths.
        latents: unscaled (B, C, h, w).
        image: the degraded photo, or stage 1's, (B, 3, h · factor, w · factor) in [0, 1].
        weight: w in [0, 1]; 0 does not even encode.
        clamp: as for `Autoencoder.decode`.
    """
    if weight == 0:
        return autoencoder.decode(latents, clamp)
    encoder, decoder = taps(autoencoder)
    seen: dict[int, Tensor] = {}

    def keep(level: int) -> Hook:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            seen[level] = output.detach()

        return hook

    def fuse(level: int) -> Hook:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            fused: Tensor = output + weight * wrapping(level, seen[level], output)
            return fused

        return hook

    with torch.no_grad(), _hooked({encoder[level]: keep(level) for level in wrapping.levels}):
        autoencoder.encode(image)
    with _hooked({decoder[level]: fuse(level) for level in wrapping.levels}):
        return autoencoder.decode(latents, clamp)


def taps(autoencoder: Autoencoder) -> tuple[list[nn.Module], list[nn.Module]]:
    """The last block of each level of encoder and decoder, the finest level first."""
    net: Any = autoencoder.net
    count = len(autoencoder.config.block_out_channels)
    if isinstance(net, PlainNetwork):
        each = autoencoder.config.layers_per_block
        ends = [
            [part for part in side if isinstance(part, ResidualBlock)][each - 1 :: each]
            for side in (net.encoder, net.decoder)
        ]
        return list(ends[0]), list(reversed(ends[1]))
    down = [net.encoder.down_blocks[level].resnets[-1] for level in range(count)]
    return down, [net.decoder.up_blocks[count - 1 - level].resnets[-1] for level in range(count)]


@contextmanager
def _hooked(hooks: Mapping[nn.Module, Hook]) -> Iterator[None]:
    """Forward hooks for as long as the body runs."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
