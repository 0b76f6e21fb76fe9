"""Time-aware encoder and spatial feature transform: the photo bends features (StableSR).

Apart from the U-Net, which is frozen (arXiv:2305.07015, Sec. 3.1): F' = (1 + α) · F + β after each
of its residual blocks, where α and β are read from the photo's latents at the same scale, and from
the timestep, since the noisier the sample is the more the photo has to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional

from autodir.diffusion.spade import AttendingEncoder, Spade
from autodir.errors import ConfigError

FORMS = ("paper", "published")


class TimeAwareEncoder(nn.Module):
    """Half a U-Net on the photo's latents: one map of features for each scale.

    Args:
        inputs: channels of the latents.
        widths: channels inside each level, the finest first.
        features: channels of each map.
        groups: of the group normalization; divides all of these.
    """

    def __init__(self, inputs: int, widths: Sequence[int], features: int, groups: int) -> None:
        super().__init__()
        inner = 4 * widths[0]
        self.time_proj = Timesteps(widths[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], inner)
        self.conv_in = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.blocks, self.taps, self.downs = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            before = widths[max(level - 1, 0)]
            self.blocks.append(_block(before, width, inner, groups))
            self.taps.append(_block(width, features, inner, groups))
            if level < len(widths) - 1:
                self.downs.append(Downsample2D(width, use_conv=True))

    def forward(self, latents: Tensor, timestep: Tensor) -> list[Tensor]:
        """Maps (B, features, h / 2ᵏ, w / 2ᵏ), one for each level k.

        Args:
            latents: of the photo, (B, C, h, w).
            timestep: (B,), of the training chain.
        """
        embedding = self.time_embedding(self.time_proj(timestep).to(latents.dtype))
        hidden = self.conv_in(latents)
        maps = []
        for level, (block, tap) in enumerate(zip(self.blocks, self.taps, strict=True)):
            hidden = block(hidden, embedding)
            maps.append(tap(hidden, embedding))
            if level < len(self.downs):
                hidden = self.downs[level](hidden)
        return maps


class Transform(nn.Module):
    """α and β of one residual block; both start at zero, which is the identity."""

    def __init__(self, features: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(features, hidden, 3, padding=1)
        self.both = nn.Conv2d(hidden, 2 * channels, 3, padding=1)
        for parameter in self.both.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor, told: Tensor, strength: float) -> Tensor:
        """(1 + s·α) · features + s·β, with α and β from the map ``told`` of the same size."""
        alpha, beta = self.both(functional.relu(self.shared(told))).chunk(2, 1)
        result: Tensor = features + strength * (alpha * features + beta)
        return result


class SftAdapter(nn.Module):
    """A time-aware encoder, and a transform for each residual block of a U-Net.

    Args:
        unet: the network to stand beside.
        widths: of the encoder; half of the U-Net's by default.
        features: channels of its maps; those of its finest level by default.
        hidden: channels inside a transform; half of the maps' by default.
        form: "paper", which starts as the identity, or "published", which the release of StableSR
            computes and its weights fit.

    Raises:
        ConfigError: the form is unknown.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        widths: Sequence[int] | None = None,
        features: int | None = None,
        hidden: int | None = None,
        form: str = "paper",
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ConfigError(f"unknown form {form!r}", f"Choose one of {', '.join(FORMS)}.")
        groups = int(unet.config["norm_num_groups"])
        outer = tuple(unet.config["block_out_channels"])
        inner = tuple(widths or (max(groups, width // 2 // groups * groups) for width in outer))
        maps = features or inner[0]
        middle = hidden or max(maps // 2, 1)
        self.config: dict[str, Any] = {
            "kind": "sft", "widths": list(inner), "features": maps, "hidden": middle,
            "form": form,
        }  # fmt: skip
        encoder = TimeAwareEncoder if form == "paper" else AttendingEncoder
        self.encoder = encoder(int(unet.config["out_channels"]), inner, maps, groups)
        self.transforms = nn.ModuleList(
            Transform(maps, middle, block.out_channels)
            if form == "paper"
            else Spade(maps, middle, block.out_channels, groups)
            for block, _ in residual_blocks(unet)
        )

    def run(
        self,
        unet: UNet2DConditionModel,
        sample: Tensor,
        photo: Tensor,
        timestep: Tensor,
        tokens: Tensor,
        strength: float,
    ) -> Any:
        """The U-Net's answer with its features transformed.

        Args:
            unet: the network this adapter was made for.
            sample: its own input (B, C_in, h, w).
            photo: latents of the photo (B, C, h, w).
            timestep: (B,).
            tokens: (B, L, D).
            strength: factor on α and β.
        """
        maps = self.encoder(photo, timestep)
        with self._transformed(unet, maps, strength):
            return unet(sample, timestep, encoder_hidden_states=tokens)

    @contextmanager
    def _transformed(
        self, unet: UNet2DConditionModel, maps: Sequence[Tensor], strength: float
    ) -> Iterator[None]:
        """Transform what the second convolution of each block gives, before its shortcut joins."""
        handles = []
        for transform, (block, level) in zip(self.transforms, residual_blocks(unet), strict=True):

            def hook(
                module: nn.Module,
                inputs: Any,
                output: Tensor,
                transform: nn.Module = transform,
                level: int = level,
            ) -> Tensor:
                changed: Tensor = transform(output, maps[level], strength)
                return changed

            handles.append(block.conv2.register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def residual_blocks(unet: UNet2DConditionModel) -> list[tuple[ResnetBlock2D, int]]:
    """The residual blocks in the order of the data, each with its level, 0 the finest."""
    last = len(unet.down_blocks) - 1
    found = [
        (block, level) for level, down in enumerate(unet.down_blocks) for block in down.resnets
    ]
    found += [(block, last) for block in unet.mid_block.resnets]
    for place, up in enumerate(unet.up_blocks):
        found += [(block, last - place) for block in up.resnets]
    return found


def _block(inputs: int, outputs: int, embedding: int, groups: int) -> ResnetBlock2D:
    return ResnetBlock2D(
        in_channels=inputs, out_channels=outputs, temb_channels=embedding, groups=groups
    )
