"""Each scale is put together of parts that fit each other."""

from __future__ import annotations

import torch

from autodir.builders import (
    HEAD_SD15,
    PARTS_SD15,
    PARTS_SD21,
    PARTS_SMALL,
    TAXONOMY_SD15,
    Model,
    build,
    build_head,
    build_sd21,
    build_small,
    part_dtype,
)
from autodir.diagnosis.biqa import QualityHead
from autodir.diagnosis.contrastive import ContrastiveHead
from autodir.prompts import load_taxonomy
from autodir.weights import without_values


def count(model: Model) -> dict[str, int]:
    return {k: sum(p.numel() for p in part.parameters()) for k, part in model.modules.items()}


def test_published_shapes_have_the_published_numbers_of_parameters() -> None:
    with without_values():
        model = build(PARTS_SD15, TAXONOMY_SD15, scale="sd15")
    positions = 77 + 257  # integer buffers of the published file
    assert count(model) == {
        "clip": 427_616_847 - positions,
        "biqa": 1,
        "vae": 83_653_863,
        "unet": 859_532_484,
        "scm": 115_984_643,
    }
    diffusion = model.latent_diffusion()
    assert diffusion.multiple == 64
    assert diffusion.config.scaled_condition is False
    assert diffusion.config.mask_prompts is False
    assert model.autoencoder.latent_std.tolist() == [1 / torch.tensor(0.18215)] * 4
    assert model.scm.network.multiple == 16


def test_published_schedule_is_linspace_of_the_published_levels() -> None:
    with without_values():
        schedule = build(PARTS_SD15, TAXONOMY_SD15, scale="sd15").schedule
    assert abs(schedule.sigma_min - 0.029168) < 1e-6
    assert abs(schedule.sigma_max - 14.614642) < 1e-5
    levels = schedule.sigmas(100)
    expected = torch.tensor([14.6146, 13.7525, 12.9524])
    torch.testing.assert_close(levels[:3], expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(levels[-3:-1], torch.tensor([0.0987, 0.0292]), rtol=2e-3, atol=0)


def test_published_labels_stand_in_the_published_order() -> None:
    assert TAXONOMY_SD15.labels == (
        "noise", "blur", "rain", "underexposure", "haze", "low resolution", "raindrop", "no",
    )  # fmt: skip
    assert TAXONOMY_SD15.prompt("low_resolution") == (
        "A photo needs low resolution artifact reduction"
    )
    weights = {d.key: d.structure_weight for d in TAXONOMY_SD15}
    assert weights.pop("low_resolution") == 0
    assert set(weights.values()) == {1.0}


def test_small_knows_the_degradations_that_ship() -> None:
    with without_values():
        model = build_small()
    assert model.taxonomy == load_taxonomy()
    assert sum(count(model).values()) < 20e6


def test_head_is_what_its_configuration_says() -> None:
    assert isinstance(build_head(HEAD_SD15), ContrastiveHead)
    assert isinstance(build_head(ContrastiveHead().config), ContrastiveHead)
    small = {"feature_dim": 8, "embed_dim": 8, "degradations": 3, "hidden": 4}
    assert isinstance(build_head(small), QualityHead)


def test_diagnosis_runs_in_single_precision() -> None:
    kinds = {part: part_dtype(part, torch.bfloat16) for part in PARTS_SMALL}
    assert {part for part, dtype in kinds.items() if dtype == torch.float32} == {"clip", "biqa"}
    assert PARTS_SMALL.keys() == PARTS_SD15.keys()


def test_sd21_borrows_diagnosis_and_correction_and_gives_no_weight_to_it(
    tiny_model: Model,
) -> None:
    with without_values():
        model = build_sd21(PARTS_SD21, tiny_model, with_wrapping=True)
    assert (model.scale, model.clip, model.scm) == ("sd21", tiny_model.clip, tiny_model.scm)
    assert {one.structure_weight for one in model.taxonomy} == {0.0}
    assert [one.key for one in model.taxonomy] == [one.key for one in tiny_model.taxonomy]
    assert {"text", "adapter", "cfw"} <= model.modules.keys()
    assert model.unet.config["attention_head_dim"] == (5, 10, 20, 20)
    diffusion = model.latent_diffusion()
    assert (diffusion.multiple, diffusion.config.prompt) == (64, "")
    assert tiny_model.scale != "sd21"
