"""The autoencoder: pixels in [0, 1] to latents of about unit deviation, and back.

Apart because the value range [-1, 1], the pixel patches and the latent statistics belong to this
network alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from autodir.config import Options
from autodir.errors import ConfigError, ContractError
from autodir.records import check_image


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderConfig(Options):
    """The shape of an autoencoder.

    Attributes:
        kind: "kl" is Stable Diffusion's variational network; "plain" a residual one without
            normalization.
        linear: a linear map beside the network, from whole squares of `Autoencoder.factor` pixels
            to latents and back. Started as principal components it reconstructs before the network
            has learnt anything.
        patch: side of the pixel squares folded into channels before the first convolution; 1 for
            none.
        latent_channels: channels of the latents.
        block_out_channels: width of each level; every level after the first halves the resolution.
        layers_per_block: residual blocks of a level ("kl": one more in the decoder).
        norm_num_groups: "kl": groups of the group normalization; divides every width.
        mid_attention: self-attention at the lowest resolution.
        scaling_factor: one over the latents' deviation, until `Autoencoder.calibrate` measures it
            by channel.
    """

    kind: str = "kl"
    linear: bool = False
    patch: int = 4
    latent_channels: int = 16
    block_out_channels: tuple[int, ...] = (64, 128)
    layers_per_block: int = 1
    norm_num_groups: int = 16
    mid_attention: bool = False
    scaling_factor: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        widths = tuple(self.block_out_channels)
        object.__setattr__(self, "block_out_channels", widths)
        sizes = (self.patch, self.latent_channels, self.layers_per_block, self.norm_num_groups)
        if min((*sizes, *widths)) < 1:
            raise ConfigError(f"autoencoder sizes must be at least 1: {self}")
        grouped = self.kind == "kl"
        if not widths or (grouped and any(width % self.norm_num_groups for width in widths)):
            raise ConfigError(
                f"autoencoder widths {widths} are not divisible into {self.norm_num_groups} groups",
                "Choose norm_num_groups that divides every entry of block_out_channels.",
            )
        if self.kind not in ("kl", "plain"):
            raise ConfigError(f"autoencoder kind must be kl or plain, got {self.kind!r}")
        if not self.scaling_factor > 0:
            raise ConfigError(f"scaling_factor must be positive, got {self.scaling_factor}")


SMALL = AutoencoderConfig(kind="plain", linear=True, layers_per_block=2)
SD15 = AutoencoderConfig(
    patch=1,
    latent_channels=4,
    block_out_channels=(128, 256, 512, 512),
    layers_per_block=2,
    norm_num_groups=32,
    mid_attention=True,
    scaling_factor=0.18215,
)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside the identity; no normalization, for amplitudes matter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → the same shape."""
        change: Tensor = self.second(functional.relu(self.first(x)))
        return x + change


class PlainNetwork(nn.Module):
    """Encoder and decoder of residual blocks; every level after the first halves the resolution."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, pixels = config.block_out_channels, 3 * config.patch**2
        down: list[nn.Module] = [nn.Conv2d(pixels, widths[0], 3, padding=1)]
        up: list[nn.Module] = [nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)]
        for level, width in enumerate(widths):
            if level:
                down.append(nn.Conv2d(widths[level - 1], width, 3, stride=2, padding=1))
            down += [ResidualBlock(width) for _ in range(config.layers_per_block)]
        for level in reversed(range(len(widths))):
            up += [ResidualBlock(widths[level]) for _ in range(config.layers_per_block)]
            if level:
                up.append(nn.Conv2d(widths[level], 4 * widths[level - 1], 3, padding=1))
                up.append(nn.PixelShuffle(2))
        down.append(nn.Conv2d(widths[-1], config.latent_channels, 3, padding=1))
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up, nn.Conv2d(widths[0], pixels, 3, padding=1))


class Autoencoder(nn.Module):
    """A variational autoencoder behind the house's image contract.

    Latents come *unscaled* out of `encode` and go unscaled into `decode`; `scale` brings them to
    zero mean and unit deviation by channel, the space in which diffusion works, and `unscale`
    undoes it.

    Args:
        config: an `AutoencoderConfig` or its plain values.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: AutoencoderConfig | Mapping[str, Any] = SMALL) -> None:
        super().__init__()
        self.config = (
            config
            if isinstance(config, AutoencoderConfig)
            else AutoencoderConfig.from_mapping(config)
        )
        self.net = (
            PlainNetwork(self.config) if self.config.kind == "plain" else _build_kl(self.config)
        )
        self.fold: nn.Conv2d | None = None
        self.unfold: nn.Conv2d | None = None
        if self.config.linear:
            self.fold = nn.Conv2d(3 * self.factor**2, self.config.latent_channels, 1)
            self.unfold = nn.Conv2d(self.config.latent_channels, 3 * self.factor**2, 1)
        channels = self.config.latent_channels
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_std", torch.full((channels,), 1 / self.config.scaling_factor))

    @property
    def factor(self) -> int:
        """Pixels per latent along a side: the input's height and width must be multiples of it."""
        return int(self.config.patch * 2 ** (len(self.config.block_out_channels) - 1))

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return self.config.latent_channels

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, in which the convolutions run."""
        parameter: Tensor = next(self.net.parameters())
        return parameter.dtype

    def encode(self, image: Tensor) -> Tensor:
        """The posterior mean of the latents, unscaled, float32 (B, C, H / factor, W / factor).

        Args:
            image: (B, 3, H, W) in [0, 1], sides multiples of `factor`.

        Raises:
            ContractError: the shape does not fit.
        """
        check_image(image)
        if image.shape[-2] % self.factor or image.shape[-1] % self.factor:
            raise ContractError(
                f"image sides must be multiples of {self.factor}, got {tuple(image.shape[-2:])}"
            )
        values = image * 2 - 1
        x = functional.pixel_unshuffle(values, self.config.patch).to(self.dtype)
        latents: Tensor
        if isinstance(self.net, PlainNetwork):
            latents = self.net.encoder(x).float()
        else:
            moments = self.net.encoder(x)
            if self.net.quant_conv is not None:
                moments = self.net.quant_conv(moments)
            latents = moments.float().chunk(2, dim=1)[0]
        if self.fold is not None:
            latents = (
                latents
                + self.fold(functional.pixel_unshuffle(values, self.factor).to(self.dtype)).float()
            )
        return latents

    def decode(self, latents: Tensor, clamp: bool = True) -> Tensor:
        """Latents back to pixels.

        Args:
            latents: unscaled (B, C, h, w).
            clamp: limit the result to [0, 1]; False in training, where the gradient outside
                matters.

        Returns:
            float32 (B, 3, h · factor, w · factor).
        """
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            raise ContractError(
                f"latents must be (B, {self.channels}, h, w), got {tuple(latents.shape)}"
            )
        z = latents.to(self.dtype)
        if isinstance(self.net, PlainNetwork):
            # Outliers beyond about three deviations are for the linear map; the network sees them
            # limited.
            folded = self.net.decoder(torch.tanh(z / 3) * 3)
        else:
            folded = self.net.decoder(
                z if self.net.post_quant_conv is None else self.net.post_quant_conv(z)
            )
        x = functional.pixel_shuffle(folded.float(), self.config.patch)
        if self.unfold is not None:
            x = x + functional.pixel_shuffle(self.unfold(z).float(), self.factor)
        image = (x + 1) / 2
        return image.clamp(0, 1) if clamp else image

    def scale(self, latents: Tensor) -> Tensor:
        """(latents − mean) / deviation by channel: the space of diffusion."""
        mean, deviation = self._statistics(latents)
        return (latents - mean) / deviation

    def unscale(self, latents: Tensor) -> Tensor:
        """The inverse of `scale`."""
        mean, deviation = self._statistics(latents)
        return latents * deviation + mean

    @torch.no_grad()
    def fit_linear(self, images: Tensor) -> None:
        """Start the linear map as whitened principal components, and the network beside it at zero.

        Args:
            images: (N, 3, H, W) in [0, 1], photos or crops; sides multiples of `factor`.

        Raises:
            ContractError: this autoencoder has no linear map.
        """
        if self.fold is None or self.unfold is None or not isinstance(self.net, PlainNetwork):
            raise ContractError(
                "this autoencoder has no linear map", "set linear = true and kind = plain"
            )
        squares = (
            functional.pixel_unshuffle(images * 2 - 1, self.factor)
            .permute(0, 2, 3, 1)
            .flatten(0, 2)
            .double()
        )
        mean = squares.mean(0)
        _, deviations, directions = torch.linalg.svd(
            (squares - mean).T @ (squares - mean) / len(squares)
        )
        deviation = deviations[: self.channels].sqrt().clamp_min(1e-4)
        basis = directions[: self.channels]
        into, back = basis / deviation[:, None], basis.T * deviation
        self.fold.weight.copy_(into[:, :, None, None])
        self.fold.bias.copy_(-(into @ mean))  # type: ignore[union-attr]
        self.unfold.weight.copy_(back[:, :, None, None])
        self.unfold.bias.copy_(mean)  # type: ignore[union-attr]
        for network in (self.net.encoder, self.net.decoder):
            for value in network[-1].parameters():
                value.zero_()

    @torch.no_grad()
    def calibrate(self, latents: Tensor) -> None:
        """Take `latent_mean` and `latent_std` from unscaled latents (N, C, h, w) of many photos."""
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            raise ContractError(
                f"latents must be (N, {self.channels}, h, w), got {tuple(latents.shape)}"
            )
        values = latents.double().transpose(0, 1).flatten(1)
        self.latent_mean.copy_(values.mean(1))
        self.latent_std.copy_(values.std(1).clamp_min(1e-4))

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation by channel, beside the latents."""
        shape = (1, -1, 1, 1)
        mean, deviation = (
            v.float().to(latents.device) for v in (self.latent_mean, self.latent_std)
        )
        return mean.view(shape), deviation.view(shape)


def _build_kl(config: AutoencoderConfig) -> AutoencoderKL:
    levels = len(config.block_out_channels)
    return AutoencoderKL(
        in_channels=3 * config.patch**2,
        out_channels=3 * config.patch**2,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_num_groups,
        mid_block_add_attention=config.mid_attention,
        scaling_factor=config.scaling_factor,
    )
