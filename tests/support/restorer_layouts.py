"""Names and shapes of the published files of StableSR and DiffBIR, at full and at small size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from autodir.builders import PARTS_SD21

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
