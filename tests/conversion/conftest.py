"""The layout of the published checkpoint, listed from its networks' definitions, at any width."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autodir.builders import PARTS_SD15
from autodir.conversion.official import Conversion, convert

Shapes = dict[str, tuple[int, ...]]
SCHEDULE = [
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped",
    "posterior_mean_coef1", "posterior_mean_coef2",
]  # fmt: skip


def layer(shapes: Shapes, name: str, *weight: int, bias: bool = True) -> None:
    shapes[f"{name}.weight"] = weight
    if bias:
        shapes[f"{name}.bias"] = weight[:1]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Widths of the four networks; the number of their blocks is always the published one."""

    unet: int
    heads: int
    autoencoder: int
    nafnet: int
    text: int
    text_heads: int
    vision: int
    head_width: int
    embed: int
    image: int
    parts: dict[str, Any] = field(default_factory=dict)

    def layout(self) -> Shapes:
        """Name and shape of each tensor of the checkpoint."""
        shapes: Shapes = dict.fromkeys(SCHEDULE, (1000,))
        for prefix, part in (
            ("model.diffusion_model.", self.unet_layout()),
            ("first_stage_model.", self.autoencoder_layout()),
            ("model_assessment.clipmodel.", self.clip_layout()),
            ("NAFNet.", self.nafnet_layout()),
        ):
            shapes |= {prefix + name: shape for name, shape in part.items()}
        return shapes

    def unet_layout(self) -> Shapes:
        base, wide, context = self.unet, 4 * self.unet, self.text
        widths = [base, 2 * base, 4 * base, 4 * base]
        shapes: Shapes = {}

        def residual(name: str, before: int, after: int) -> None:
            layer(shapes, f"{name}.in_layers.0", before)
            layer(shapes, f"{name}.in_layers.2", after, before, 3, 3)
            layer(shapes, f"{name}.emb_layers.1", after, wide)
            layer(shapes, f"{name}.out_layers.0", after)
            layer(shapes, f"{name}.out_layers.3", after, after, 3, 3)
            if before != after:
                layer(shapes, f"{name}.skip_connection", after, before, 1, 1)

        def attention(name: str, width: int) -> None:
            layer(shapes, f"{name}.norm", width)
            for end in ("proj_in", "proj_out"):
                layer(shapes, f"{name}.{end}", width, width, 1, 1)
            block = f"{name}.transformer_blocks.0"
            for kind, source in (("attn1", width), ("attn2", context)):
                layer(shapes, f"{block}.{kind}.to_q", width, width, bias=False)
                layer(shapes, f"{block}.{kind}.to_k", width, source, bias=False)
                layer(shapes, f"{block}.{kind}.to_v", width, source, bias=False)
                layer(shapes, f"{block}.{kind}.to_out.0", width, width)
            layer(shapes, f"{block}.ff.net.0.proj", 8 * width, width)
            layer(shapes, f"{block}.ff.net.2", width, 4 * width)
            for number in (1, 2, 3):
                layer(shapes, f"{block}.norm{number}", width)

        layer(shapes, "time_embed.0", wide, base)
        layer(shapes, "time_embed.2", wide, wide)
        layer(shapes, "input_blocks.0.0", base, 8, 3, 3)
        skips, width, number = [base], base, 1
        for level, after in enumerate(widths):
            for _ in range(2):
                residual(f"input_blocks.{number}.0", width, after)
                if level < 3:
                    attention(f"input_blocks.{number}.1", after)
                skips.append(width := after)
                number += 1
            if level < 3:
                layer(shapes, f"input_blocks.{number}.0.op", width, width, 3, 3)
                skips.append(width)
                number += 1
        residual("middle_block.0", width, width)
        attention("middle_block.1", width)
        residual("middle_block.2", width, width)
        for number in range(12):
            level = 3 - number // 3
            residual(f"output_blocks.{number}.0", width + skips.pop(), widths[level])
            width, slot = widths[level], 1
            if level < 3:
                attention(f"output_blocks.{number}.1", width)
                slot = 2
            if level and number % 3 == 2:
                layer(shapes, f"output_blocks.{number}.{slot}.conv", width, width, 3, 3)
        layer(shapes, "out.0", base)
        layer(shapes, "out.2", 4, base, 3, 3)
        return shapes

    def autoencoder_layout(self) -> Shapes:
        widths = [self.autoencoder * factor for factor in (1, 2, 4, 4)]
        shapes: Shapes = {}

        def residual(name: str, before: int, after: int) -> None:
            layer(shapes, f"{name}.norm1", before)
            layer(shapes, f"{name}.conv1", after, before, 3, 3)
            layer(shapes, f"{name}.norm2", after)
            layer(shapes, f"{name}.conv2", after, after, 3, 3)
            if before != after:
                layer(shapes, f"{name}.nin_shortcut", after, before, 1, 1)

        def middle(name: str, width: int) -> None:
            residual(f"{name}.block_1", width, width)
            layer(shapes, f"{name}.attn_1.norm", width)
            for which in ("q", "k", "v", "proj_out"):
                layer(shapes, f"{name}.attn_1.{which}", width, width, 1, 1)
            residual(f"{name}.block_2", width, width)

        layer(shapes, "encoder.conv_in", widths[0], 3, 3, 3)
        width = widths[0]
        for level, after in enumerate(widths):
            for block in range(2):
                residual(f"encoder.down.{level}.block.{block}", width, after)
                width = after
            if level < 3:
                layer(shapes, f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
        middle("encoder.mid", width)
        layer(shapes, "encoder.norm_out", width)
        layer(shapes, "encoder.conv_out", 8, width, 3, 3)
        layer(shapes, "decoder.conv_in", width, 4, 3, 3)
        middle("decoder.mid", width)
        for level in (3, 2, 1, 0):
            for block in range(3):
                residual(f"decoder.up.{level}.block.{block}", width, widths[level])
                width = widths[level]
            if level:
                layer(shapes, f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
        layer(shapes, "decoder.norm_out", width)
        layer(shapes, "decoder.conv_out", 3, width, 3, 3)
        layer(shapes, "quant_conv", 8, 8, 1, 1)
        layer(shapes, "post_quant_conv", 4, 4, 1, 1)
        return shapes

    def clip_layout(self) -> Shapes:
        places = (self.image // 14) ** 2 + 1
        text, vision = "text_model.embeddings", "vision_model.embeddings"
        shapes: Shapes = {
            "logit_scale": (),
            f"{text}.position_ids": (1, 77),
            f"{text}.token_embedding.weight": (49408, self.text),
            f"{text}.position_embedding.weight": (77, self.text),
            f"{vision}.class_embedding": (self.vision,),
            f"{vision}.position_ids": (1, places),
            f"{vision}.patch_embedding.weight": (self.vision, 3, 14, 14),
            f"{vision}.position_embedding.weight": (places, self.vision),
            "text_projection.weight": (self.embed, self.text),
            "visual_projection.weight": (self.embed, self.vision),
        }
        layer(shapes, "text_model.final_layer_norm", self.text)
        layer(shapes, "vision_model.pre_layrnorm", self.vision)
        layer(shapes, "vision_model.post_layernorm", self.vision)
        for tower, layers, width in (("text", 12, self.text), ("vision", 24, self.vision)):
            for number in range(layers):
                block = f"{tower}_model.encoder.layers.{number}"
                for which in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    layer(shapes, f"{block}.self_attn.{which}", width, width)
                layer(shapes, f"{block}.mlp.fc1", 4 * width, width)
                layer(shapes, f"{block}.mlp.fc2", width, 4 * width)
                layer(shapes, f"{block}.layer_norm1", width)
                layer(shapes, f"{block}.layer_norm2", width)
        return shapes

    def nafnet_layout(self) -> Shapes:
        shapes: Shapes = {}

        def blocks(name: str, count: int, width: int) -> None:
            for block in (f"{name}.{number}" for number in range(count)):
                shapes[f"{block}.beta"] = shapes[f"{block}.gamma"] = (1, width, 1, 1)
                for number, (after, before, side) in enumerate(
                    ((2, 1, 1), (2, 0, 3), (1, 1, 1), (2, 1, 1), (1, 1, 1)), start=1
                ):
                    inputs = before * width or 1  # one where each channel is on its own
                    layer(shapes, f"{block}.conv{number}", after * width, inputs, side, side)
                layer(shapes, f"{block}.sca.1", width, width, 1, 1)
                layer(shapes, f"{block}.norm1", width)
                layer(shapes, f"{block}.norm2", width)

        width = self.nafnet
        layer(shapes, "intro", width, 6, 3, 3)
        layer(shapes, "ending", 3, width, 3, 3)
        for level, count in enumerate((2, 2, 4, 8)):
            blocks(f"encoders.{level}", count, width)
            layer(shapes, f"downs.{level}", 2 * width, width, 2, 2)
            width *= 2
        blocks("middle_blks", 12, width)
        for level in range(4):
            layer(shapes, f"ups.{level}.0", 2 * width, width, 1, 1, bias=False)
            width //= 2
            blocks(f"decoders.{level}", 2, width)
        return shapes

    def state(self, seed: int = 0) -> Iterator[tuple[str, Tensor]]:
        """Random values of about the sizes that trained networks have."""
        generator = torch.Generator().manual_seed(seed)
        for name, shape in self.layout().items():
            if name.endswith("position_ids"):
                yield name, torch.arange(shape[1])[None]
            elif name.endswith("logit_scale"):
                yield name, torch.tensor(math.log(100.0))
            elif len(shape) < 2:
                value = torch.empty(shape).normal_(generator=generator).mul_(0.05)
                yield name, value + ("norm" in name and name.endswith("weight"))
            else:
                fan_in = 9 if "embedding" in name else math.prod(shape[1:])
                value = torch.empty(shape).normal_(generator=generator)
                yield name, value.mul_(1 / math.sqrt(fan_in))


MINIATURE = Sizes(
    unet=32, heads=8, autoencoder=32, nafnet=4, text=32, text_heads=2, vision=32, head_width=16,
    embed=24, image=56,
    parts={
        **PARTS_SD15,
        "clip": {
            **PARTS_SD15["clip"],
            "embed_dim": 24,
            "vision": {
                "layers": 24, "width": 32, "head_width": 16, "patch_size": 14, "image_size": 56,
            },
            "text": {**PARTS_SD15["clip"]["text"], "width": 32, "heads": 2},
        },
        "unet": {
            **PARTS_SD15["unet"],
            "block_out_channels": (32, 64, 128, 128), "cross_attention_dim": 32,
        },
        "vae": {**PARTS_SD15["vae"], "block_out_channels": (32, 64, 128, 128)},
        "scm": {**PARTS_SD15["scm"], "network": {**PARTS_SD15["scm"]["network"], "width": 4}},
    },
)  # fmt: skip
PUBLISHED = Sizes(
    unet=320, heads=8, autoencoder=128, nafnet=64, text=768, text_heads=12, vision=1024,
    head_width=64, embed=768, image=224, parts=dict(PARTS_SD15),
)  # fmt: skip


@pytest.fixture(scope="session")
def miniature() -> Sizes:
    return MINIATURE


@pytest.fixture(scope="session")
def published() -> Sizes:
    return PUBLISHED


@pytest.fixture(scope="session")
def state() -> dict[str, Tensor]:
    """The miniature's state dict; never changed by a test."""
    return dict(MINIATURE.state())


@pytest.fixture(scope="session")
def checkpoint(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature as a trainer would have saved it."""
    path = tmp_path_factory.mktemp("published") / "autodir.ckpt"
    torch.save({"state_dict": state, "global_step": 123, "epoch": 4}, path)
    return path


@pytest.fixture(scope="session")
def converted(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """The miniature's model folder, in float32; never changed by a test."""
    folder = tmp_path_factory.mktemp("converted") / "sd15"
    return convert(checkpoint, folder, dtype="fp32", parts=MINIATURE.parts)


Convert = Callable[..., Conversion]


@pytest.fixture
def convert_miniature() -> Convert:
    """`convert` for the miniature's shapes."""
    return lambda source, folder, **options: convert(
        source, folder, parts=MINIATURE.parts, **options
    )
