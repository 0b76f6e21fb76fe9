"""Layouts are recognized by their names, and files that lack something say what."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from autodir.conversion.layouts import BACKBONE, LAYOUTS, detect, gather, model_of
from autodir.errors import CheckpointError, ConfigError

SPADE = "model.diffusion_model.input_blocks.1.0.spade.mlp_beta.bias"


def saved(folder: Path, name: str, *tensors: str, wrap: str | None = None) -> Path:
    state: dict[str, Tensor] = {one: torch.ones(2) for one in tensors}
    torch.save({wrap: state} if wrap else state, folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("structcond_stage_model.time_embed.0.bias", "stablesr"),
        ("control_model.zero_convs.0.0.bias", "diffbir"),
        ("NAFNet.intro.bias", "autodir"),
        ("anything", "autodir"),
    ],
)
def test_a_name_tells_the_layout(name: str, layout: str) -> None:
    assert detect(["betas", "model.diffusion_model.out.2.bias", name]) == layout


@pytest.mark.parametrize("wrap", [None, "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "control_model."])
def test_ircontrolnet_is_found_in_any_wrapping(
    tmp_path: Path, prefix: str, wrap: str | None
) -> None:
    source = saved(tmp_path, "c.pth", f"{prefix}zero_convs.0.0.bias", wrap=wrap)
    base = saved(tmp_path, "sd.ckpt", BACKBONE, "zero")
    files = gather(source, {"base": base})
    assert files.layout == "diffbir"
    assert set(files.checkpoint.tensors) == {"control_model.zero_convs.0.0.bias", BACKBONE, "zero"}
    assert files.facts["base"]["source"] == "sd.ckpt"


def test_the_first_file_wins_and_the_decoder_keeps_apart(tmp_path: Path) -> None:
    source = saved(tmp_path, "sr.ckpt", "structcond_stage_model.x", BACKBONE, SPADE)
    torch.save({BACKBONE: torch.zeros(2)}, tmp_path / "sd.ckpt")
    cfw = saved(tmp_path, "cfw.ckpt", "decoder.fusion_layer_1.x", "encoder.conv_in.bias")
    files = gather(source, {"base": tmp_path / "sd.ckpt", "cfw": cfw}, "stablesr-768v")
    assert files.layout == "stablesr-768v"
    assert float(files.checkpoint.tensors[BACKBONE].sum()) == 2
    assert "cfw.encoder.conv_in.bias" in files.checkpoint.tensors


@pytest.mark.parametrize(
    ("names", "besides", "layout", "told"),
    [
        (["zero_convs.0.0.bias"], False, None, "holds no Stable Diffusion"),
        ([SPADE, "structcond_stage_model.x"], False, None, "holds no Stable Diffusion"),
        (["decoder.fusion_layer_2.x"], False, None, "decoder alone"),
        (["NAFNet.intro.bias"], True, None, "is one file"),
        (["NAFNet.intro.bias"], False, "supir", "--layout cannot be"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, names: list[str], besides: bool, layout: str | None, told: str
) -> None:
    source = saved(tmp_path, "a.ckpt", *names)
    more = {"base": saved(tmp_path, "b.ckpt", "x")} if besides else {}
    with pytest.raises(ConfigError, match=told) as caught:
        gather(source, more, layout)
    assert caught.value.hint


def test_predictions_follow_the_name() -> None:
    kinds = {name: LAYOUTS[name].parts["schedule"] for name in LAYOUTS}
    predicted = {name: (k["prediction"], k["zero_terminal_snr"]) for name, k in kinds.items()}
    assert predicted == {
        "autodir": ("epsilon", False),
        "stablesr": ("epsilon", False),
        "stablesr-768v": ("v_prediction", False),
        "diffbir": ("epsilon", False),
        "diffbir-v2.1": ("v_prediction", True),
    }
    starts = {name: LAYOUTS[name].parts["diffusion"]["start"] for name in LAYOUTS}
    assert [name for name, start in starts.items() if start == "photo"] == [
        "stablesr", "stablesr-768v",
    ]  # fmt: skip


def test_an_unknown_leader_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no model"):
        model_of("diffbir", LAYOUTS["diffbir"].parts, "nobody", False)
