"""StableSR's and DiffBIR's layouts become model folders that compute what their networks compute.

The reference is a plain restatement of the published networks in their own names. The miniature
runs always; the full size is checked by its names and shapes, which needs no memory.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.loaders import single_file_utils
from open_clip.model import CLIP
from torch import Tensor
from torch.nn import functional as F

from autodir.builders import PARTS_SD21, build_sd21
from autodir.checkpoint import Model, info, load_model, verify
from autodir.config import RestoreOptions
from autodir.conversion.layouts import LAYOUTS
from autodir.conversion.official import Conversion, convert
from autodir.conversion.restorers import reason_to_pass, restorer_origin
from autodir.diffusion.adapters import AdaptedUnet
from autodir.diffusion.wrapping import decode_wrapped
from autodir.errors import CheckpointError
from autodir.pipeline import Restorer
from autodir.weights import without_values

CLOSE = 1e-4
Shapes = dict[str, tuple[int, ...]]
UNET, CONTROL, STRUCTURE = "model.diffusion_model.", "control_model.", "structcond_stage_model."
VAE, TEXT = "first_stage_model.", "cond_stage_model.model."


def layer(shapes: Shapes, name: str, *weight: int, bias: bool = True) -> None:
    shapes[f"{name}.weight"] = weight
    if bias:
        shapes[f"{name}.bias"] = weight[:1]


def residual(shapes: Shapes, name: str, before: int, after: int, wide: int) -> None:
    layer(shapes, f"{name}.in_layers.0", before)
    layer(shapes, f"{name}.in_layers.2", after, before, 3, 3)
    layer(shapes, f"{name}.emb_layers.1", after, wide)
    layer(shapes, f"{name}.out_layers.0", after)
    layer(shapes, f"{name}.out_layers.3", after, after, 3, 3)
    if before != after:
        layer(shapes, f"{name}.skip_connection", after, before, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Widths of the networks; the number of their blocks is always the published one."""

    unet: int
    heads: tuple[int, ...]
    autoencoder: int
    text: int
    structure: int
    hidden: int
    growth: int = 32
    parts: dict[str, Any] = field(default_factory=dict)

    @property
    def widths(self) -> list[int]:
        return [self.unet * factor for factor in (1, 2, 4, 4)]

    def encoder_layout(self, inputs: int) -> tuple[Shapes, list[int]]:
        """The first half of the U-Net and its middle, and the widths of the skips."""
        shapes: Shapes = {}
        base, wide = self.unet, 4 * self.unet
        layer(shapes, "time_embed.0", wide, base)
        layer(shapes, "time_embed.2", wide, wide)
        layer(shapes, "input_blocks.0.0", base, inputs, 3, 3)
        skips, width, number = [base], base, 1
        for level, after in enumerate(self.widths):
            for _ in range(2):
                residual(shapes, f"input_blocks.{number}.0", width, after, wide)
                if level < 3:
                    self.attention(shapes, f"input_blocks.{number}.1", after)
                skips.append(width := after)
                number += 1
            if level < 3:
                layer(shapes, f"input_blocks.{number}.0.op", width, width, 3, 3)
                skips.append(width)
                number += 1
        residual(shapes, "middle_block.0", width, width, wide)
        self.attention(shapes, "middle_block.1", width)
        residual(shapes, "middle_block.2", width, width, wide)
        return shapes, skips

    def attention(self, shapes: Shapes, name: str, width: int) -> None:
        layer(shapes, f"{name}.norm", width)
        for end in ("proj_in", "proj_out"):
            layer(shapes, f"{name}.{end}", width, width)  # linear
        block = f"{name}.transformer_blocks.0"
        for kind, source in (("attn1", width), ("attn2", self.text)):
            layer(shapes, f"{block}.{kind}.to_q", width, width, bias=False)
            layer(shapes, f"{block}.{kind}.to_k", width, source, bias=False)
            layer(shapes, f"{block}.{kind}.to_v", width, source, bias=False)
            layer(shapes, f"{block}.{kind}.to_out.0", width, width)
        layer(shapes, f"{block}.ff.net.0.proj", 8 * width, width)
        layer(shapes, f"{block}.ff.net.2", width, 4 * width)
        for number in (1, 2, 3):
            layer(shapes, f"{block}.norm{number}", width)

    def unet_layout(self) -> Shapes:
        shapes, skips = self.encoder_layout(4)
        width = self.widths[-1]
        for number in range(12):
            level = 3 - number // 3
            after = self.widths[level]
            residual(shapes, f"output_blocks.{number}.0", width + skips.pop(), after, 4 * self.unet)
            width, slot = after, 1
            if level < 3:
                self.attention(shapes, f"output_blocks.{number}.1", width)
                slot = 2
            if level and number % 3 == 2:
                layer(shapes, f"output_blocks.{number}.{slot}.conv", width, width, 3, 3)
        layer(shapes, "out.0", self.unet)
        layer(shapes, "out.2", 4, self.unet, 3, 3)
        return shapes

    def control_layout(self) -> Shapes:
        shapes, skips = self.encoder_layout(8)
        for number, width in enumerate(skips):
            layer(shapes, f"zero_convs.{number}.0", width, width, 1, 1)
        layer(shapes, "middle_block_out.0", self.widths[-1], self.widths[-1], 1, 1)
        return shapes

    def spade_layout(self) -> Shapes:
        shapes: Shapes = {}
        narrow, wide, widest = (self.unet * factor for factor in (1, 2, 4))
        places = {
            **{f"input_blocks.{n}.0": narrow for n in (1, 2)},
            **{f"input_blocks.{n}.0": wide for n in (4, 5)},
            **{f"input_blocks.{n}.0": widest for n in (7, 8, 10, 11)},
            **{f"middle_block.{n}": widest for n in (0, 2)},
            **{f"output_blocks.{n}.0": widest for n in range(6)},
            **{f"output_blocks.{n}.0": wide for n in (6, 7, 8)},
            **{f"output_blocks.{n}.0": narrow for n in (9, 10, 11)},
        }
        for place, width in places.items():
            layer(shapes, f"{place}.spade.param_free_norm", width)
            layer(shapes, f"{place}.spade.mlp_shared.0", self.hidden, self.structure, 3, 3)
            for kind in ("gamma", "beta"):
                layer(shapes, f"{place}.spade.mlp_{kind}", width, self.hidden, 3, 3)
        return shapes

    def structure_layout(self) -> Shapes:
        shapes: Shapes = {}
        base, wide = self.structure, 4 * self.structure
        layer(shapes, "time_embed.0", wide, base)
        layer(shapes, "time_embed.2", wide, wide)
        layer(shapes, "input_blocks.0.0", base, 4, 3, 3)

        def attention(name: str, width: int) -> None:
            layer(shapes, f"{name}.norm", width)
            layer(shapes, f"{name}.qkv", 3 * width, width, 1)
            layer(shapes, f"{name}.proj_out", width, width, 1)

        width, number = base, 1
        for level, factor in enumerate((1, 1, 2, 2)):
            for _ in range(2):
                residual(shapes, f"input_blocks.{number}.0", width, factor * base, wide)
                width = factor * base
                if level < 3:
                    attention(f"input_blocks.{number}.1", width)
                number += 1
            residual(shapes, f"fea_tran.{level}", width, base, wide)
            if level < 3:
                layer(shapes, f"input_blocks.{number}.0.op", width, width, 3, 3)
                number += 1
        residual(shapes, "middle_block.0", width, width, wide)
        attention("middle_block.1", width)
        residual(shapes, "middle_block.2", width, width, wide)
        return shapes

    def text_layout(self) -> Shapes:
        width = self.text
        shapes: Shapes = {
            "positional_embedding": (77, width),
            "text_projection": (width, width),
            "logit_scale": (),
            "token_embedding.weight": (49408, width),
        }
        layer(shapes, "ln_final", width)
        for number in range(24):
            block = f"transformer.resblocks.{number}"
            shapes[f"{block}.attn.in_proj_weight"] = (3 * width, width)
            shapes[f"{block}.attn.in_proj_bias"] = (3 * width,)
            layer(shapes, f"{block}.attn.out_proj", width, width)
            layer(shapes, f"{block}.ln_1", width)
            layer(shapes, f"{block}.ln_2", width)
            layer(shapes, f"{block}.mlp.c_fc", 4 * width, width)
            layer(shapes, f"{block}.mlp.c_proj", width, 4 * width)
        return shapes

    def fusion_layout(self) -> Shapes:
        shapes: Shapes = {}

        def block(name: str, before: int, after: int) -> None:
            layer(shapes, f"{name}.norm1", before)
            layer(shapes, f"{name}.conv1", after, before, 3, 3)
            layer(shapes, f"{name}.norm2", after)
            layer(shapes, f"{name}.conv2", after, after, 3, 3)
            if before != after:
                layer(shapes, f"{name}.conv_out", after, before, 1, 1)

        for level, factor in ((1, 2), (2, 4)):
            name, width = f"decoder.fusion_layer_{level}", factor * self.autoencoder
            block(f"{name}.encode_enc_1", 2 * width, width)
            block(f"{name}.encode_enc_3", width, width)
            for number in (0, 1):
                for dense in (1, 2, 3):
                    for conv in range(5):
                        after = width if conv == 4 else self.growth
                        before = width + conv * self.growth
                        place = f"{name}.encode_enc_2.{number}.rdb{dense}.conv{conv + 1}"
                        layer(shapes, place, after, before, 3, 3)
        return shapes

    def base_layout(self, autoencoder: Shapes) -> Shapes:
        """Stable Diffusion 2.1's checkpoint."""
        shapes: Shapes = dict.fromkeys(("betas", "alphas_cumprod"), (1000,))
        shapes |= {UNET + name: shape for name, shape in self.unet_layout().items()}
        shapes |= {VAE + name: shape for name, shape in autoencoder.items()}
        return shapes | {TEXT + name: shape for name, shape in self.text_layout().items()}

    def stablesr_layout(self, autoencoder: Shapes) -> Shapes:
        shapes = self.base_layout(autoencoder)
        shapes |= {UNET + name: shape for name, shape in self.spade_layout().items()}
        return shapes | {STRUCTURE + name: shape for name, shape in self.structure_layout().items()}


def values(shapes: Shapes, seed: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Random values of about the sizes that trained networks have."""
    generator = torch.Generator().manual_seed(seed)
    for name, shape in shapes.items():
        value = torch.empty(shape).normal_(generator=generator)
        if len(shape) < 2:
            yield name, 0.05 * value + ("norm" in name or ".ln_" in name) * name.endswith("weight")
        else:
            fan_in = 9 if "embedding" in name else math.prod(shape[1:])
            yield name, value / math.sqrt(fan_in)


MINIATURE = Sizes(
    unet=32, heads=(2, 4, 8, 8), autoencoder=32, text=32, structure=32, hidden=16,
    parts={
        "text": {**PARTS_SD21["text"], "width": 32, "heads": 2},
        "unet": {
            **PARTS_SD21["unet"], "block_out_channels": (32, 64, 128, 128),
            "attention_head_dim": (2, 4, 8, 8), "cross_attention_dim": 32,
        },
        "vae": {**PARTS_SD21["vae"], "block_out_channels": (32, 64, 128, 128)},
        "adapter": {
            "kind": "sft", "form": "published", "widths": (32, 32, 64, 64), "features": 32,
            "hidden": 16,
        },
    },
)  # fmt: skip
PUBLISHED = Sizes(
    unet=320, heads=(5, 10, 20, 20), autoencoder=128, text=1024, structure=256, hidden=128
)


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


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    assert float(theirs.std()) > 1e-3  # two constants would agree by accident
    return float((ours - theirs).abs().max())


@pytest.fixture(scope="module")
def autoencoder_shapes(miniature: Any) -> Shapes:
    return miniature.autoencoder_layout()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def stablesr_state(autoencoder_shapes: Shapes) -> dict[str, Tensor]:
    return dict(values(MINIATURE.stablesr_layout(autoencoder_shapes)))


@pytest.fixture(scope="module")
def cfw_state(autoencoder_shapes: Shapes) -> dict[str, Tensor]:
    shapes = autoencoder_shapes | MINIATURE.fusion_layout()
    return {**dict(values(shapes, seed=1)), "loss.logvar": torch.zeros(())}


@pytest.fixture(scope="module")
def control_state() -> dict[str, Tensor]:
    return dict(values(MINIATURE.control_layout(), seed=2))


def parts(layout: str) -> dict[str, Any]:
    """The miniature's shapes in place of a layout's own."""
    own = dict(LAYOUTS[layout].parts)
    changed = own | MINIATURE.parts
    return changed if "stablesr" in layout else changed | {"adapter": own["adapter"]}


@pytest.fixture(scope="module")
def stablesr(
    stablesr_state: dict[str, Tensor], cfw_state: dict[str, Tensor], tiny_model_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Conversion:  # fmt: skip
    """StableSR with its decoder, in float32; never changed by a test."""
    folder = tmp_path_factory.mktemp("stablesr")
    torch.save({"state_dict": stablesr_state, "global_step": 16500}, folder / "sr.ckpt")
    torch.save({"state_dict": cfw_state}, folder / "cfw.ckpt")
    return convert(
        folder / "sr.ckpt", folder / "model", dtype="fp32", parts=parts("stablesr"),
        besides={"cfw": folder / "cfw.ckpt"}, diagnosis=str(tiny_model_folder),
    )  # fmt: skip


@pytest.fixture(scope="module")
def diffbir(
    stablesr_state: dict[str, Tensor], control_state: dict[str, Tensor], tiny_model_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Conversion:  # fmt: skip
    """DiffBIR's bare IRControlNet beside its Stable Diffusion, in float32."""
    folder = tmp_path_factory.mktemp("diffbir")
    base = {
        name: value
        for name, value in stablesr_state.items()
        if "spade" not in name and not name.startswith(STRUCTURE)
    }
    torch.save({"state_dict": base}, folder / "sd.ckpt")
    torch.save({f"module.{name}": value for name, value in control_state.items()}, folder / "c.pth")
    return convert(
        folder / "c.pth", folder / "model", dtype="fp32", parts=parts("diffbir"),
        besides={"base": folder / "sd.ckpt"}, diagnosis=str(tiny_model_folder),
    )  # fmt: skip


def test_every_key_of_stablesr_is_consumed_or_ignored(
    stablesr: Conversion, stablesr_state: dict[str, Tensor], cfw_state: dict[str, Tensor]
) -> None:
    assert stablesr.layout == "stablesr"
    counts = {reason: len(names) for reason, names in stablesr.ignored.items()}
    assert stablesr.consumed + sum(counts.values()) == len(stablesr_state) + len(cfw_state)
    assert counts == {
        "noise schedule": 2,
        "last layer of the text tower, not read": 12 + 2,
        "autoencoder beside the fusions": 248 + 1,
    }


def test_folders_are_whole_models_with_cards(stablesr: Conversion, diffbir: Conversion) -> None:
    for done, words in (
        (stablesr, ("non-commercial", "S-Lab", "Open RAIL++-M", "sr.ckpt", "cfw.ckpt", "--start")),
        (diffbir, ("Apache-2.0", "Open RAIL++-M", "c.pth", "sd.ckpt", "--stage1")),
    ):
        assert "text/model.safetensors" in verify(done.folder)
        assert info(done.folder).scale == "sd21"
        card = (done.folder / "README.md").read_text(encoding="utf-8")
        assert [word for word in words if word not in card] == []
        assert done.source_sha256 in card


@torch.no_grad()
def test_stablesr_computes_what_is_published(
    stablesr: Conversion, stablesr_state: dict[str, Tensor]
) -> None:
    model, reference = load_model(stablesr.folder), Published(stablesr_state)
    x, photo, tokens = random(1, 4, 16, 8), random(1, 4, 16, 8, seed=1), random(1, 77, 32, seed=2)
    time = torch.tensor([433.0])
    maps = reference.structure(photo, 433.0)
    assert sorted(maps) == [1, 2, 4, 8]
    for ours in model.adapter.encoder(photo, time):  # type: ignore[union-attr]
        assert difference(ours, maps[ours.shape[-1]]) < CLOSE
    plain = model.unet(x, time, tokens).sample
    assert difference(plain, reference.unet(x, 433.0, tokens)) < CLOSE
    network = AdaptedUnet(model.unet, model.adapter)  # type: ignore[arg-type]
    ours = network(torch.cat([x, photo], 1), time, tokens).sample
    assert difference(ours, reference.unet(x, 433.0, tokens, maps)) < CLOSE
    assert difference(ours, plain) > 100 * CLOSE


@torch.no_grad()
def test_diffbir_computes_what_is_published(
    diffbir: Conversion, stablesr_state: dict[str, Tensor], control_state: dict[str, Tensor]
) -> None:
    named = {CONTROL + name: value for name, value in control_state.items()}
    model, reference = load_model(diffbir.folder), Published(stablesr_state | named)
    x, photo, tokens = random(1, 4, 16, 8), random(1, 4, 16, 8, seed=1), random(1, 77, 32, seed=2)
    added = reference.control(x, photo, 700.0, tokens)
    assert len(added) == 13
    network = AdaptedUnet(model.unet, model.adapter)  # type: ignore[arg-type]
    time = torch.tensor([700.0])
    ours = network(torch.cat([x, photo], 1), time, tokens).sample
    assert difference(ours, reference.unet(x, 700.0, tokens, added=added)) < CLOSE
    network.strength = 0.5
    half = network(torch.cat([x, photo], 1), time, tokens).sample
    weaker = [0.5 * one for one in added]
    assert difference(half, reference.unet(x, 700.0, tokens, added=weaker)) < CLOSE


@torch.no_grad()
def test_text_tower_is_the_penultimate_layer_of_openclip(
    stablesr: Conversion, stablesr_state: dict[str, Tensor]
) -> None:
    clip = CLIP(
        embed_dim=32,
        vision_cfg={"layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 8},
        text_cfg={
            "context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 24,
        },
    ).eval()  # fmt: skip
    own = {
        name.removeprefix(TEXT): value
        for name, value in stablesr_state.items()
        if name.startswith(TEXT)
    }
    found = clip.load_state_dict(own, strict=False)
    assert not found.unexpected_keys
    assert all(name.startswith("visual.") for name in found.missing_keys)
    phrases = ["", "a photo of a castle, sharp", "word " * 100]
    ids = open_clip.tokenize(phrases)
    x = clip.token_embedding(ids) + clip.positional_embedding
    for block in clip.transformer.resblocks[:-1]:
        x = block(x, attn_mask=clip.attn_mask)
    text = load_model(stablesr.folder).text
    assert text is not None
    ours = text.encode_text(phrases, masked=False)
    assert difference(ours.tokens, clip.ln_final(x)) < CLOSE


@torch.no_grad()
def test_decoder_fuses_what_is_published(
    stablesr: Conversion, stablesr_state: dict[str, Tensor], cfw_state: dict[str, Tensor]
) -> None:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 128, 128), layers_per_block=2,
    ).eval()  # fmt: skip
    weights = single_file_utils.convert_ldm_vae_checkpoint(dict(stablesr_state), vae.config)
    vae.load_state_dict(weights)
    image, latents = random(1, 3, 64, 64).sigmoid(), random(1, 4, 8, 8, seed=1)
    reference, seen = Published(cfw_state), dict[int, Tensor]()
    h = vae.encoder.conv_in(image * 2 - 1)
    for level, down in enumerate(vae.encoder.down_blocks):
        for block in down.resnets:
            h = block(h, temb=None)
        seen[level] = h
        for sampler in down.downsamplers or ():
            h = sampler(h)
    h = vae.decoder.conv_in(vae.post_quant_conv(latents))
    h = vae.decoder.mid_block(h)
    for number, up in enumerate(vae.decoder.up_blocks):
        for block in up.resnets:
            h = block(h, temb=None)
        if number in (1, 2):
            h = h + 0.7 * reference.fused(3 - number, seen[3 - number], h)
        for sampler in up.upsamplers or ():
            h = sampler(h)
    theirs = vae.decoder.conv_out(F.silu(vae.decoder.conv_norm_out(h))) / 2 + 0.5
    model = load_model(stablesr.folder)
    wrapping = model.wrapping
    assert wrapping is not None
    ours = decode_wrapped(model.autoencoder, wrapping, latents, image, 0.7, clamp=False)
    assert difference(ours, theirs) < CLOSE
    plain = decode_wrapped(model.autoencoder, wrapping, latents, image, 0.0, clamp=False)
    assert torch.equal(plain, model.autoencoder.decode(latents, clamp=False))
    assert difference(plain, theirs) > 100 * CLOSE


@pytest.mark.parametrize("name", ["stablesr", "diffbir"])
def test_a_converted_model_repairs_a_photo(name: str, request: pytest.FixtureRequest) -> None:
    restorer = Restorer.from_pretrained(request.getfixturevalue(name).folder, device="cpu")
    photo = torch.rand(3, 70, 90, generator=torch.Generator().manual_seed(0))
    options = RestoreOptions(sampling_steps=1, max_steps=1, guard=False, two_stage=True)
    result = restorer.restore(photo, options)
    assert result.image.size == (70, 90)
    assert len(result.report.steps) == 1
    assert restorer.diffusion.config.start == ("photo" if name == "stablesr" else "noise")
    assert all(one.structure_weight == 0 for one in restorer.taxonomy)


def test_the_denoiser_is_told_nothing_unless_a_user_says_it(stablesr: Conversion) -> None:
    model = load_model(stablesr.folder)
    told, encode = list[str](), model.text.encode_text  # type: ignore[union-attr]

    def listen(phrases: Sequence[str], masked: bool = True) -> Any:
        told.extend(phrases)
        assert not masked
        return encode(phrases, masked)

    model.text.encode_text = listen  # type: ignore[union-attr, method-assign, assignment]
    photo = torch.rand(3, 64, 128)  # one latent alone cannot be normalized in groups of one channel
    for prompt in ((), ("noise",)):
        options = RestoreOptions(prompt=prompt, sampling_steps=1, max_steps=1, guard=False)
        Restorer(model).restore(photo, options)
    assert told == ["", "noise", ""]


def drop(state: dict[str, Tensor]) -> None:
    for name in [name for name in state if ".spade.mlp_gamma." in name]:
        del state[name]


def reshape(state: dict[str, Tensor]) -> None:
    name = f"{STRUCTURE}fea_tran.3.skip_connection.weight"
    state[name] = state[name][:, :8]


def add(state: dict[str, Tensor]) -> None:
    state[f"{STRUCTURE}fea_tran.4.in_layers.0.bias"] = torch.ones(32)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (drop, r"not the published StableSR: 44 missing: .*mlp_gamma.* and 34 more"),
        (reshape, r"1 of another shape: .*fea_tran\.3\.skip_connection\.weight \(32, 8, 1, 1\)"),
        (add, r"1 unknown: structcond_stage_model\.fea_tran\.4"),
    ],
)
def test_other_layouts_are_refused_and_leave_nothing(
    stablesr_state: dict[str, Tensor], tiny_model_folder: Path, tmp_path: Path,
    change: Callable[[dict[str, Tensor]], None], told: str,
) -> None:  # fmt: skip
    changed = dict(stablesr_state)
    change(changed)
    torch.save(changed, tmp_path / "sr.ckpt")
    with pytest.raises(CheckpointError, match=told):
        convert(
            tmp_path / "sr.ckpt", tmp_path / "model", parts=parts("stablesr"),
            diagnosis=str(tiny_model_folder),
        )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["sr.ckpt"]


def test_an_old_full_file_keeps_its_stage1(
    stablesr_state: dict[str, Tensor], control_state: dict[str, Tensor], tiny_model_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    whole = {
        name: value
        for name, value in stablesr_state.items()
        if "spade" not in name and not name.startswith(STRUCTURE)
    }
    whole |= {CONTROL + name: value for name, value in control_state.items()}
    whole |= {"preprocess_model.conv_first.1.weight": torch.ones(2, 3)}
    whole |= {"cond_encoder.encoder.conv_in.bias": torch.ones(32)}
    torch.save({"state_dict": whole}, tmp_path / "general_full_v1.ckpt")
    done = convert(
        tmp_path / "general_full_v1.ckpt", tmp_path / "model", layout="diffbir-v2.1",
        parts=parts("diffbir-v2.1"), diagnosis=str(tiny_model_folder),
    )  # fmt: skip
    assert done.ignored["stage 1"] == ("preprocess_model.conv_first.1.weight",)
    assert (done.folder / "stage1.safetensors").is_file()
    schedule = load_model(done.folder).schedule
    assert schedule.config.prediction == "v_prediction"
    assert schedule.sigma_max == pytest.approx(4096, rel=1e-3)
    shutil.rmtree(done.folder)


def consumed(model: Model) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for part, module in model.modules.items():
        for name, value in module.state_dict().items():
            source = restorer_origin(part, name)
            if source is not None:
                assert not set(source.names) & set(found), (part, name)
                found |= dict.fromkeys(source.names, source.shape(tuple(value.shape)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stablesr", "diffbir"])
def test_full_size_reaches_every_published_tensor(
    name: str, published: Any, tiny_model: Model
) -> None:
    with without_values():
        model = build_sd21(LAYOUTS[name].parts, tiny_model, with_wrapping=True)
    autoencoder = published.autoencoder_layout()
    layout = PUBLISHED.stablesr_layout(autoencoder)
    if name == "diffbir":
        layout = PUBLISHED.base_layout(autoencoder)
        layout |= {CONTROL + key: shape for key, shape in PUBLISHED.control_layout().items()}
    layout |= {f"cfw.{key}": shape for key, shape in PUBLISHED.fusion_layout().items()}
    found = consumed(model)
    assert found == {key: layout[key] for key in found}
    rest = {key: reason_to_pass(key) for key in set(layout) - set(found)}
    assert set(rest.values()) == {"noise schedule", "last layer of the text tower, not read"}
    sizes = {part: sum(p.numel() for p in one.parameters()) for part, one in model.modules.items()}
    assert (sizes["unet"], len(model.unet.state_dict())) == (865_910_724, 686)
    assert sizes["vae"] == 83_653_863
    assert sizes["text"] == 340_387_840
    millions = (sizes["adapter"] / 1e6, sizes["cfw"] / 1e6)
    assert millions[0] == pytest.approx(105 if name == "stablesr" else 364, abs=1)
    if name == "stablesr":  # the paper counts 149.91 M that are trained
        assert sum(millions) == pytest.approx(149.91, abs=0.01)
