"""The key tables reach every tensor of the published layout, and each of them once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from autodir.builders import TAXONOMY_SD15, Model, build
from autodir.conversion.keys import PREFIXES, origin, reason_to_ignore
from autodir.weights import without_values


@pytest.fixture(scope="module")
def model(published: Any) -> Model:
    with without_values():
        return build(published.parts, TAXONOMY_SD15, scale="sd15")


@pytest.mark.parametrize(
    ("prefix", "keys", "elements"),
    [
        ("", 2202, 1_486_799_837),
        ("model.diffusion_model.", 686, 859_532_484),
        ("first_stage_model.", 248, 83_653_863),
        ("model_assessment.clipmodel.", 592, 427_616_847),
        ("NAFNet.", 664, 115_984_643),
    ],
)
def test_listed_layout_is_the_published_one(
    published: Any, prefix: str, keys: int, elements: int
) -> None:
    shapes = [shape for name, shape in published.layout().items() if name.startswith(prefix)]
    assert (len(shapes), sum(math.prod(shape) for shape in shapes)) == (keys, elements)


def test_every_tensor_of_the_published_layout_is_consumed_or_ignored(
    published: Any, model: Model
) -> None:
    layout, consumed = published.layout(), dict[str, tuple[int, ...]]()
    for part, module in model.modules.items():
        for name, value in module.state_dict().items():
            found = origin(part, name)
            if found is None:
                assert (part, name) in {("vae", "latent_mean"), ("vae", "latent_std")}
                continue
            consumed |= dict.fromkeys(found.names, found.shape(tuple(value.shape)))
    assert consumed == {name: layout[name] for name in consumed}
    rest = set(layout) - set(consumed)
    assert len(rest) == 12 + 2
    reasons = {name: reason_to_ignore(name) for name in rest}
    assert set(reasons.values()) == {"noise schedule", "positions"}


@pytest.mark.parametrize(
    ("part", "name", "expected"),
    [
        ("unet", "up_blocks.0.upsamplers.0.conv.bias", "output_blocks.2.1.conv.bias"),
        ("unet", "up_blocks.2.upsamplers.0.conv.bias", "output_blocks.8.2.conv.bias"),
        ("unet", "down_blocks.1.downsamplers.0.conv.bias", "input_blocks.6.0.op.bias"),
        ("unet", "mid_block.resnets.1.norm2.bias", "middle_block.2.out_layers.0.bias"),
        ("vae", "net.decoder.up_blocks.0.resnets.2.conv1.bias", "decoder.up.3.block.2.conv1.bias"),
        ("scm", "network.middle_blks.11.sca.1.bias", "middle_blks.11.sca.1.bias"),
        ("clip", "towers.visual.ln_pre.bias", "vision_model.pre_layrnorm.bias"),
    ],
)
def test_names_follow_the_published_numbering(part: str, name: str, expected: str) -> None:
    found = origin(part, name)
    assert found is not None
    assert found.names == (PREFIXES[part] + expected,)


def test_attention_of_the_towers_is_stacked_in_the_order_query_key_value() -> None:
    found = origin("clip", "towers.transformer.resblocks.3.attn.in_proj_bias")
    assert found is not None
    assert [name.split(".")[-2] for name in found.names] == ["q_proj", "k_proj", "v_proj"]
    assert found.form == "stacked"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("logvar", "noise schedule"),
        ("sqrt_one_minus_alphas_cumprod", "noise schedule"),
        ("model_ema.decay", "averaged copy"),
        ("cond_stage_model.transformer.x", "unused text encoder"),
        ("first_stage_model.loss.logvar", "loss of the autoencoder"),
        ("global_step", "training"),
        ("discriminator.weight", "unknown"),
        ("first_stage_model.encoder.conv_in.weight", None),
    ],
)
def test_reader_knows_what_it_may_pass_over(name: str, reason: str | None) -> None:
    assert reason_to_ignore(name) == reason
