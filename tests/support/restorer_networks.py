"""The published networks of StableSR and DiffBIR, restated plainly in their own names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from restorer_layouts import CONTROL, STRUCTURE, UNET
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Published:
    """The published networks, from a state dict in their own names."""

    state: Mapping[str, Tensor]
    head_width: int = 16

    def has(self, name: str) -> bool:
        return f"{name}.weight" in self.state

    def conv(self, name: str, x: Tensor, **how: int) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], **how)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
        return F.group_norm(x, 32, self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps)

    def time(self, name: str, timestep: float, width: int) -> Tensor:
        speeds = torch.exp(-math.log(10000) * torch.arange(width // 2) / (width // 2))
        angles = timestep * speeds
        waves = torch.cat([angles.cos(), angles.sin()])[None]
        return self.linear(f"{name}.2", F.silu(self.linear(f"{name}.0", waves)))

    def residual(self, name: str, x: Tensor, told: Tensor, image: Tensor | None = None) -> Tensor:
        h = self.conv(f"{name}.in_layers.2", F.silu(self.norm(f"{name}.in_layers.0", x)), padding=1)
        h = h + self.linear(f"{name}.emb_layers.1", F.silu(told))[:, :, None, None]
        h = F.silu(self.norm(f"{name}.out_layers.0", h))
        h = self.conv(f"{name}.out_layers.3", h, padding=1)
        if image is not None:
            seen = F.relu(self.conv(f"{name}.spade.mlp_shared.0", image, padding=1))
            gamma = self.conv(f"{name}.spade.mlp_gamma", seen, padding=1)
            beta = self.conv(f"{name}.spade.mlp_beta", seen, padding=1)
            h = self.norm(f"{name}.spade.param_free_norm", h) * (1 + gamma) + beta
        shortcut = f"{name}.skip_connection"
        return h + (self.conv(shortcut, x) if self.has(shortcut) else x)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """(B, N, C) each."""
        q, k, v = (one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in (q, k, v))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return (weights @ v).transpose(1, 2).flatten(2)

    def transformer(self, name: str, x: Tensor, context: Tensor) -> Tensor:
        height = x.shape[2]
        y = self.norm(f"{name}.norm", x, 1e-6).flatten(2).transpose(1, 2)
        y = self.linear(f"{name}.proj_in", y)
        block = f"{name}.transformer_blocks.0"

        def normed(number: int) -> Tensor:
            place = f"{block}.norm{number}"
            weight, bias = self.state[f"{place}.weight"], self.state[f"{place}.bias"]
            return F.layer_norm(y, y.shape[-1:], weight, bias)

        for number, kind in ((1, "attn1"), (2, "attn2")):
            asking = normed(number)
            source = asking if kind == "attn1" else context
            q = self.linear(f"{block}.{kind}.to_q", asking)
            k, v = (self.linear(f"{block}.{kind}.to_{one}", source) for one in "kv")
            seen = self.attend(q, k, v, q.shape[-1] // self.head_width)
            y = y + self.linear(f"{block}.{kind}.to_out.0", seen)
        values, gate = self.linear(f"{block}.ff.net.0.proj", normed(3)).chunk(2, -1)
        y = y + self.linear(f"{block}.ff.net.2", values * F.gelu(gate))
        y = self.linear(f"{name}.proj_out", y).transpose(1, 2).unflatten(2, (height, -1))
        return x + y

    def block(
        self, name: str, x: Tensor, told: Tensor, context: Tensor, maps: Mapping[int, Tensor]
    ) -> Tensor:
        """One entry of input_blocks, middle_block or output_blocks."""
        if self.has(f"{name}.0.in_layers.0"):
            x = self.residual(f"{name}.0", x, told, maps.get(x.shape[-1]))
        elif self.has(f"{name}.0.op"):
            return self.conv(f"{name}.0.op", x, stride=2, padding=1)
        else:
            return self.conv(f"{name}.0", x, padding=1)
        if self.has(f"{name}.1.norm"):
            x = self.transformer(f"{name}.1", x, context)
        for slot in (1, 2):
            if self.has(f"{name}.{slot}.conv"):
                larger = F.interpolate(x, scale_factor=2, mode="nearest")
                return self.conv(f"{name}.{slot}.conv", larger, padding=1)
        return x

    def encoder(
        self, prefix: str, x: Tensor, t: float, context: Tensor, maps: Mapping[int, Tensor]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Skips, the middle and the embedding of the time."""
        width = self.state[f"{prefix}input_blocks.0.0.weight"].shape[0]
        told, skips = self.time(f"{prefix}time_embed", t, width), list[Tensor]()
        for number in range(12):
            x = self.block(f"{prefix}input_blocks.{number}", x, told, context, maps)
            skips.append(x)
        x = self.residual(f"{prefix}middle_block.0", x, told, maps.get(x.shape[-1]))
        x = self.transformer(f"{prefix}middle_block.1", x, context)
        x = self.residual(f"{prefix}middle_block.2", x, told, maps.get(x.shape[-1]))
        return skips, x, told

    def unet(
        self, x: Tensor, t: float, context: Tensor, maps: Mapping[int, Tensor] | None = None,
        added: Sequence[Tensor] = (),
    ) -> Tensor:  # fmt: skip
        maps = maps or {}
        skips, h, told = self.encoder(UNET, x, t, context, maps)
        if added:
            h = h + added[-1]
            skips = [skip + one for skip, one in zip(skips, added[:-1], strict=True)]
        for number in range(12):
            h = torch.cat([h, skips.pop()], 1)
            h = self.block(f"{UNET}output_blocks.{number}", h, told, context, maps)
        return self.conv(f"{UNET}out.2", F.silu(self.norm(f"{UNET}out.0", h)), padding=1)

    def control(self, x: Tensor, photo: Tensor, t: float, context: Tensor) -> list[Tensor]:
        """What is added to the twelve skips, and to the middle."""
        skips, middle, _ = self.encoder(CONTROL, torch.cat([x, photo], 1), t, context, {})
        added = [self.conv(f"{CONTROL}zero_convs.{n}.0", skip) for n, skip in enumerate(skips)]
        return [*added, self.conv(f"{CONTROL}middle_block_out.0", middle)]

    def structure(self, photo: Tensor, t: float) -> dict[int, Tensor]:
        """Maps by their width in latents."""
        width = self.state[f"{STRUCTURE}input_blocks.0.0.weight"].shape[0]
        told, taps = self.time(f"{STRUCTURE}time_embed", t, width), list[Tensor]()
        x = self.conv(f"{STRUCTURE}input_blocks.0.0", photo, padding=1)
        for number in range(1, 12):
            name = f"{STRUCTURE}input_blocks.{number}"
            if self.has(f"{name}.0.op"):
                taps.append(x)
                x = self.conv(f"{name}.0.op", x, stride=2, padding=1)
                continue
            x = self.residual(f"{name}.0", x, told)
            if self.has(f"{name}.1.norm"):
                x = self.packed(f"{name}.1", x)
        x = self.residual(f"{STRUCTURE}middle_block.0", x, told)
        x = self.residual(
            f"{STRUCTURE}middle_block.2", self.packed(f"{STRUCTURE}middle_block.1", x), told
        )
        return {
            tap.shape[-1]: self.residual(f"{STRUCTURE}fea_tran.{number}", tap, told)
            for number, tap in enumerate([*taps, x])
        }

    def packed(self, name: str, x: Tensor) -> Tensor:
        """Attention of four heads, each of whose rows hold its queries, its keys, its values."""
        rows = self.norm(f"{name}.norm", x).flatten(2)
        qkv = F.conv1d(rows, self.state[f"{name}.qkv.weight"], self.state[f"{name}.qkv.bias"])
        heads = []
        for own in qkv.chunk(4, 1):
            q, k, v = (one.transpose(1, 2) for one in own.chunk(3, 1))
            heads.append(self.attend(q, k, v, 1).transpose(1, 2))
        out = torch.cat(heads, 1)
        weight, bias = self.state[f"{name}.proj_out.weight"], self.state[f"{name}.proj_out.bias"]
        return x + F.conv1d(out, weight, bias).view_as(x)

    def fused(self, level: int, encoded: Tensor, decoded: Tensor) -> Tensor:
        """C(F_e, F_d) of the decoder's file."""
        name = f"decoder.fusion_layer_{level}"

        def block(part: str, x: Tensor) -> Tensor:
            h = F.silu(self.norm(f"{part}.norm1", x, 1e-6))
            h = F.silu(self.norm(f"{part}.norm2", self.conv(f"{part}.conv1", h, padding=1), 1e-6))
            h = self.conv(f"{part}.conv2", h, padding=1)
            return h + (self.conv(f"{part}.conv_out", x) if self.has(f"{part}.conv_out") else x)

        x = block(f"{name}.encode_enc_1", torch.cat([encoded, decoded], 1))
        for number in (0, 1):
            outer = x
            for dense in (1, 2, 3):
                inner, place = [x], f"{name}.encode_enc_2.{number}.rdb{dense}"
                for conv in range(1, 6):
                    found = self.conv(f"{place}.conv{conv}", torch.cat(inner, 1), padding=1)
                    inner.append(F.leaky_relu(found, 0.2))
                x = x + 0.2 * found
            x = outer + 0.2 * x
        return block(f"{name}.encode_enc_3", x)
