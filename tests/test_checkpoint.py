"""Model folders come back as they were written, and anything else is refused with a reason."""

import copy
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from autodir import checkpoint
from autodir.checkpoint import (
    INDEX,
    SUMS,
    Model,
    build,
    calibration_of,
    find_model,
    info,
    list_models,
    load_model,
    save_model,
    verify,
)
from autodir.config import RestoreOptions
from autodir.errors import CheckpointError
from autodir.pipeline import Restorer


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def sign_again(folder: Path) -> None:
    """Write the hashes anew, so that only what a file says can be wrong."""
    names = [line.split("  ")[1] for line in (folder / SUMS).read_text().splitlines()]
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in names
    ]
    (folder / SUMS).write_text("\n".join(lines) + "\n")


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def configs(model: Model) -> dict[str, Any]:
    return {
        "clip": model.clip.config,
        "biqa": {"hidden": model.head.config["hidden"]},
        "vae": model.autoencoder.config.to_dict(),
        "unet": {k: v for k, v in model.unet.config.items() if not k.startswith("_")},
        "scm": model.scm.config,
        "schedule": model.schedule.config.to_dict(),
        "diffusion": model.diffusion.to_dict(),
    }


def test_saved_model_restores_the_same_pixels(tiny_model: Model, tmp_path: Path) -> None:
    save_model(tiny_model, tmp_path / "exact", dtype=torch.float32)
    photo = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(1))
    options = RestoreOptions(guard=False, structure_weight=0.5, max_steps=1)
    before = Restorer(tiny_model).restore(photo, options)
    after = Restorer(load_model(tmp_path / "exact")).restore(photo, options)
    assert torch.equal(before.image.pixels, after.image.pixels)
    assert before.report.first.presence == after.report.first.presence


def test_half_precision_folder_is_within_its_rounding(
    tiny_model: Model, tiny_model_folder: Path
) -> None:
    loaded = load_model(tiny_model_folder)
    for name, module in tiny_model.modules.items():
        stored = loaded.modules[name].state_dict()
        for key, value in module.state_dict().items():
            torch.testing.assert_close(stored[key], value, rtol=1e-3, atol=1e-6)


def test_small_stores_its_u_net_in_eight_bits(
    tiny_model: Model, tiny_model_folder: Path, tmp_path: Path
) -> None:
    save_model(dataclasses.replace(tiny_model, scale="small"), tmp_path / "small")
    sizes = [
        (folder / "unet" / "model.safetensors").stat().st_size
        for folder in (tmp_path / "small", tiny_model_folder)
    ]
    assert sizes[0] < 0.8 * sizes[1]
    stored = load_model(tmp_path / "small").unet.state_dict()
    for key, value in tiny_model.unet.state_dict().items():
        step = value.flatten(1).abs().amax(1) if value.ndim > 1 else value.abs()
        limit = step.view(-1, *[1] * (value.ndim - 1)) / 127
        assert bool(((stored[key] - value).abs() <= 0.51 * limit + 1e-6).all())


def test_saving_twice_writes_the_same_hashes(tiny_model_folder: Path, tmp_path: Path) -> None:
    save_model(load_model(tiny_model_folder), tmp_path / "again")
    assert info(tmp_path / "again").sha256 == info(tiny_model_folder).sha256


def test_saved_model_keeps_taxonomy_calibration_and_notes(
    tiny_model: Model, tmp_path: Path
) -> None:
    model = copy.copy(tiny_model)
    model.calibration = {"temperature": 2.0, "clean_threshold": 0.25, "chosen_on": {"photos": 3}}
    model.training = {"biqa": [{"seconds": 1.5}]}
    save_model(model, tmp_path / "noted")
    loaded = load_model(tmp_path / "noted")
    assert loaded.taxonomy == tiny_model.taxonomy
    assert calibration_of(loaded).clean_threshold == 0.25
    assert loaded.training == {"biqa": [{"seconds": 1.5}]}
    assert loaded.scale == "tiny"


def test_weight_too_large_for_half_precision_is_kept(tiny_model: Model, tmp_path: Path) -> None:
    model = copy.copy(tiny_model)
    model.autoencoder = copy.deepcopy(tiny_model.autoencoder)
    model.autoencoder.latent_std.fill_(1e6)
    save_model(model, tmp_path / "large")
    assert torch.equal(load_model(tmp_path / "large").autoencoder.latent_std, torch.full((4,), 1e6))


def test_loaded_model_is_ready_for_inference(tiny_model_folder: Path) -> None:
    model = load_model(tiny_model_folder, dtype=torch.bfloat16)
    parameters = {name: list(module.parameters()) for name, module in model.modules.items()}
    assert not any(module.training for module in model.modules.values())
    assert not any(p.requires_grad for part in parameters.values() for p in part)
    assert {p.dtype for p in parameters["unet"] + parameters["scm"]} == {torch.bfloat16}
    assert {p.dtype for p in parameters["clip"] + parameters["biqa"]} == {torch.float32}


def test_verify_names_every_file_of_the_model(folder: Path) -> None:
    parts = ("clip", "biqa", "vae", "unet", "scm")
    expected = {INDEX, "scheduler/config.json", "biqa/calibration.json", "clip/tokenizer.json"}
    expected |= {
        f"{part}/{file}" for part in parts for file in ("config.json", "model.safetensors")
    }
    assert set(verify(folder)) == expected


@pytest.mark.parametrize("part", ["clip", "biqa", "vae", "unet", "scm"])
def test_one_altered_byte_is_found(folder: Path, part: str) -> None:
    path = folder / part / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{part}.*hash differs"):
        load_model(folder)


@pytest.mark.parametrize("name", ["scm/model.safetensors", "unet/config.json", SUMS])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=Path(name).name):
        load_model(folder)


@pytest.mark.parametrize("name", ["scm/model.ckpt", "old.pt", "unet/deep/weights.bin"])
def test_pickle_in_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match="pickle"):
        load_model(folder)


def test_part_file_without_a_hash_is_refused(folder: Path) -> None:
    (folder / "unet" / "extra.safetensors").write_bytes(b"anything")
    with pytest.raises(CheckpointError, match=r"extra\.safetensors is not in"):
        load_model(folder)


def test_tensor_of_another_shape_is_refused(folder: Path) -> None:
    path = folder / "scm" / "model.safetensors"
    weights = load_file(path)
    weights["network.ending.bias"] = torch.zeros(3)
    save_file(weights, path)
    sign_again(folder)
    with pytest.raises(CheckpointError, match=r"network\.ending\.bias"):
        load_model(folder)


def test_missing_tensor_is_refused(folder: Path) -> None:
    path = folder / "vae" / "model.safetensors"
    weights = load_file(path)
    del weights["latent_mean"]
    save_file(weights, path)
    sign_again(folder)
    with pytest.raises(CheckpointError, match="latent_mean"):
        load_model(folder)


def test_unknown_format_is_refused(folder: Path) -> None:
    edit_json(folder / INDEX, lambda index: index.update(format="autodir.model/9"))
    sign_again(folder)
    with pytest.raises(CheckpointError, match=r"autodir\.model/9"):
        load_model(folder)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        (INDEX, lambda values: values.pop("taxonomy")),
        (INDEX, lambda values: values["taxonomy"].update(color="red")),
        (INDEX, lambda values: values["diffusion"].update(steps=0)),
        ("scm/config.json", lambda values: values.update(head="unknown")),
        ("vae/config.json", lambda values: values.update(kind="unknown")),
        ("biqa/config.json", lambda values: values.update(colors=3)),
    ],
    ids=["taxonomy gone", "taxonomy key", "steps", "scm head", "vae kind", "biqa key"],
)
def test_malformed_configuration_is_a_checkpoint_error(
    folder: Path, file: str, change: Callable[[dict[str, Any]], object]
) -> None:
    edit_json(folder / file, change)
    sign_again(folder)
    with pytest.raises(CheckpointError):
        load_model(folder)


def test_broken_json_is_a_checkpoint_error(folder: Path) -> None:
    (folder / INDEX).write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        info(folder)


def test_single_file_is_no_model(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="is a file, not a model folder"):
        find_model(folder / "scm" / "model.safetensors")


def test_unknown_name_lists_the_known_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "checkpoints_dir", lambda: folder.parent)
    assert [found.name for found in list_models()] == ["model"]
    assert find_model("model") == folder
    with pytest.raises(CheckpointError, match="'modle'") as caught:
        find_model("modle")
    assert "model" in caught.value.hint


def test_states_of_the_training_are_not_part_of_the_model(folder: Path, tiny_model: Model) -> None:
    before = info(folder)
    runs = folder / ".training" / "biqa"
    runs.mkdir(parents=True)
    for name in ("state.json", "state.safetensors", "old.pt"):
        (runs / name).write_bytes(b"{}" * 1000)
    assert info(folder) == before
    save_model(tiny_model, folder)
    assert ".training" not in (folder / SUMS).read_text()
    (runs / "state.json").write_text("changed")
    load_model(folder)


def test_other_files_beside_the_parts_are_left_alone(folder: Path, tiny_model: Model) -> None:
    (folder / "README.md").write_text("a model card")
    (folder / "curves.json").write_text("{}")
    save_model(tiny_model, folder)
    (folder / "curves.json").write_text("{'changed': 1}")
    verify(folder)
    assert (folder / "README.md").read_text() == "a model card"


def test_info_counts_bytes_and_parameters(folder: Path, tiny_model: Model) -> None:
    about = info(folder)
    counted = sum(p.numel() for p in tiny_model.scm.parameters())
    assert about.bytes == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert about.parameters["scm"] == counted
    assert about.name == "model"
    assert json.loads(json.dumps(about.to_dict()))["folder"] == str(folder)


def test_weights_depend_on_the_seed_alone(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny_model.clip.tokenizer  # learning it takes longer than all the rest
    monkeypatch.setattr("autodir.clip.phrase_tokenizer", lambda _: tokenizer)
    parts = configs(tiny_model)
    state = torch.random.get_rng_state()
    first = build(parts, tiny_model.taxonomy, scale="tiny", seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(1)
    again = build(parts, tiny_model.taxonomy, scale="tiny", seed=1)
    other = build(parts, tiny_model.taxonomy, scale="tiny", seed=2)
    weights = [model.unet.conv_in.weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
