"""A checkpoint of the published layout becomes a model folder, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from autodir import weights
from autodir.checkpoint import SUMS, info, load_model, save_model, verify
from autodir.config import RestoreOptions
from autodir.conversion import official
from autodir.conversion.official import Conversion
from autodir.errors import CheckpointError, ConfigError
from autodir.pipeline import Restorer

Convert = Callable[..., Conversion]
UNET = "model.diffusion_model."


def saved(state: dict[str, Any], folder: Path) -> Path:
    torch.save({"state_dict": state}, folder / "changed.ckpt")
    return folder / "changed.ckpt"


def test_every_key_is_consumed_or_ignored(state: dict[str, Tensor], converted: Conversion) -> None:
    ignored = {name for names in converted.ignored.values() for name in names}
    assert converted.consumed + len(ignored) == len(state) == 2202
    assert {reason: len(names) for reason, names in converted.ignored.items()} == {
        "noise schedule": 12,
        "positions": 2,
    }


def test_folder_is_a_whole_model_with_a_card(converted: Conversion) -> None:
    assert "unet/model.safetensors" in verify(converted.folder)
    about = info(converted.folder)
    assert about.scale == "sd15"
    (facts,) = about.training["conversion"]
    assert facts["sha256"] == converted.source_sha256
    assert facts["steps"] == 123
    card = (converted.folder / "README.md").read_text(encoding="utf-8")
    assert converted.source_sha256 in card


def test_converted_loaded_and_saved_gives_the_same_hashes(
    converted: Conversion, tmp_path: Path
) -> None:
    save_model(load_model(converted.folder), tmp_path / "again", torch.float32)
    assert (tmp_path / "again" / SUMS).read_text() == (converted.folder / SUMS).read_text()


def test_half_precision_and_shards_come_back_too(
    checkpoint: Path, convert_miniature: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights.write, "__defaults__", (2**20,))
    done = convert_miniature(checkpoint, tmp_path / "half")
    assert len(list((tmp_path / "half" / "unet").glob("model-*-of-*.safetensors"))) > 5
    save_model(load_model(done.folder), tmp_path / "again")
    assert (tmp_path / "again" / SUMS).read_text() == (done.folder / SUMS).read_text()


def test_weights_too_large_for_half_precision_stay_wide(
    state: dict[str, Tensor], convert_miniature: Convert, tmp_path: Path
) -> None:
    large = state | {"NAFNet.intro.bias": state["NAFNet.intro.bias"] + 1e6}
    done = convert_miniature(saved(large, tmp_path), tmp_path / "model")
    assert done.wide == ("scm.network.intro.bias",)
    value = load_model(done.folder).scm.network.intro.bias
    assert value is not None
    assert torch.equal(value, large["NAFNet.intro.bias"])


def test_plain_state_dict_and_safetensors_give_the_same_weights(
    state: dict[str, Tensor], converted: Conversion, convert_miniature: Convert, tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "plain.pt")
    save_file(state, tmp_path / "plain.safetensors")
    expected = (converted.folder / SUMS).read_text().splitlines()
    for name in ("plain.pt", "plain.safetensors"):
        folder = convert_miniature(tmp_path / name, tmp_path / f"{name}.model", dtype="fp32").folder
        written = (folder / SUMS).read_text().splitlines()
        # The index differs: it names the source.
        assert [a for a, b in zip(written, expected, strict=True) if a != b] == [
            line for line in written if line.endswith("model_index.json")
        ]


def test_what_a_tolerant_reader_passes_over_is_listed(
    state: dict[str, Tensor], convert_miniature: Convert, tmp_path: Path
) -> None:
    extra: dict[str, Any] = {
        "logvar": torch.zeros(1000), "model_ema.decay": torch.ones(()), "global_step": 5,
        "cond_stage_model.x": torch.ones(2), "discriminator.y": torch.ones(2),
    }  # fmt: skip
    without_positions = {k: v for k, v in state.items() if not k.endswith("position_ids")}
    source = saved(without_positions | extra, tmp_path)
    ignored = convert_miniature(source, tmp_path / "model").ignored
    assert ignored["noise schedule"][-1] == "logvar"
    assert ignored["averaged copy"] == ("model_ema.decay",)
    assert ignored["training"] == ("global_step",)
    assert ignored["unused text encoder"] == ("cond_stage_model.x",)
    assert ignored["unknown"] == ("discriminator.y",)


def drop(state: dict[str, Any]) -> None:
    for name in [name for name in state if name.startswith(UNET + "output_blocks.11.")]:
        del state[name]


def reshape(state: dict[str, Any]) -> None:
    state[UNET + "input_blocks.0.0.weight"] = state[UNET + "input_blocks.0.0.weight"][:, :4]


def add(state: dict[str, Any]) -> None:
    state["NAFNet.middle_blks.12.beta"] = torch.ones(1, 64, 1, 1)


def spoil(state: dict[str, Any]) -> None:
    state["NAFNet.ending.bias"] = torch.tensor([0.0, float("nan"), 0.0])


def round_off(state: dict[str, Any]) -> None:
    state["NAFNet.ending.bias"] = torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (drop, r"38 missing: model\.diffusion_model\.output_blocks\.11\..* and 28 more"),
        (reshape, r"1 of another shape: .*input_blocks\.0\.0\.weight \(32, 4, 3.*, not \(32, 8"),
        (add, r"1 unknown: NAFNet\.middle_blks\.12\.beta"),
        (spoil, r"NAFNet\.ending\.bias holds NaN"),
        (round_off, r"1 of another shape: NAFNet\.ending\.bias \(3,\) torch\.int64"),
    ],
)
def test_other_layouts_are_refused_and_leave_nothing(
    state: dict[str, Tensor],
    convert_miniature: Convert,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    told: str,
) -> None:
    changed: dict[str, Any] = dict(state)
    change(changed)
    source = saved(changed, tmp_path)
    with pytest.raises(CheckpointError, match=told):
        convert_miniature(source, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_truncated_file_leaves_nothing(
    checkpoint: Path, convert_miniature: Convert, tmp_path: Path
) -> None:
    source = tmp_path / "cut.ckpt"
    source.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(CheckpointError):
        convert_miniature(source, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_interrupted_conversion_leaves_nothing(
    checkpoint: Path, convert_miniature: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(official, "sign", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert_miniature(checkpoint, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_damage_on_the_way_to_the_disk_is_found(
    checkpoint: Path, convert_miniature: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(folder: Path) -> None:
        path = folder / "scm" / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(official, "sign", damage)
    with pytest.raises(CheckpointError, match="was not written as it should be"):
        convert_miniature(checkpoint, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_taken_is_left_alone(
    checkpoint: Path, convert_miniature: Convert, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        convert_miniature(checkpoint, tmp_path)
    with pytest.raises(ConfigError, match="dtype"):
        convert_miniature(checkpoint, tmp_path / "new", dtype="int8")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_empty_folder_is_filled(
    checkpoint: Path, convert_miniature: Convert, tmp_path: Path
) -> None:
    said: list[str] = []
    (tmp_path / "model").mkdir()
    convert_miniature(checkpoint, tmp_path / "model", tell=said.append)
    assert load_model(tmp_path / "model").scale == "sd15"
    assert any(line.startswith("unet: 686 tensors") for line in said)


def test_one_altered_shard_is_found(converted: Conversion, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(converted.folder, tmp_path / "model"))
    (folder / "vae" / "model.safetensors").write_bytes(b"0")
    with pytest.raises(CheckpointError, match="hash differs"):
        load_model(folder)


def test_converted_model_repairs_a_photo(converted: Conversion) -> None:
    restorer = Restorer.from_pretrained(converted.folder, device="cpu")
    photo = torch.rand(3, 70, 90, generator=torch.Generator().manual_seed(0))
    options = RestoreOptions(prompt=("make it look like spring",), sampling_steps=1)
    result = restorer.restore(photo, options)
    assert result.image.size == (70, 90)
    assert [step.prompt for step in result.report.steps] == ["make it look like spring"]
    assert result.report.provenance["model_sha256"] == info(converted.folder).sha256
