"""Weights come back from disk as they were written, in one file or in several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autodir.errors import CheckpointError
from autodir.weights import (
    SHARDS,
    WEIGHTS,
    files,
    fill,
    quantized,
    read,
    stored,
    without_values,
    write,
)

TENSORS = {f"t{number}": torch.full((100,), float(number)) for number in range(5)}


def written(folder: Path) -> dict[str, list[float]]:
    return {name: value.tolist() for name, value in read(folder)}


def test_little_fits_into_one_file(tmp_path: Path) -> None:
    write(TENSORS.items(), tmp_path, torch.float32)
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]
    assert written(tmp_path) == {name: value.tolist() for name, value in TENSORS.items()}


def test_much_is_cut_into_shards_that_an_index_lists(tmp_path: Path) -> None:
    write(TENSORS.items(), tmp_path, torch.float32, shard_bytes=900)
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, SHARDS])
    index = json.loads((tmp_path / SHARDS).read_text())
    assert index["metadata"]["total_size"] == 5 * 400
    assert index["weight_map"]["t4"] == names[2]
    assert written(tmp_path) == {name: value.tolist() for name, value in TENSORS.items()}


def test_tensors_are_taken_one_by_one(tmp_path: Path) -> None:
    """At no time more of them are held than one shard has."""
    alive: list[int] = []

    def source() -> object:
        for number in range(6):
            alive.append(len(list(tmp_path.glob("*.part"))))
            yield f"t{number}", torch.zeros(100)

    write(source(), tmp_path, torch.float32, shard_bytes=800)  # type: ignore[arg-type]
    assert alive == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize("limits", [(900, 10**6), (10**6, 900), (900, 500)])
def test_writing_again_leaves_no_old_file(tmp_path: Path, limits: tuple[int, int]) -> None:
    for limit in limits:
        write(TENSORS.items(), tmp_path, torch.float32, shard_bytes=limit)
    left = {path.name for path in tmp_path.glob("*.safetensors")}
    assert left == {path.name for path in files(tmp_path)}
    assert (tmp_path / SHARDS).exists() == (len(left) > 1)
    assert set(written(tmp_path)) == set(TENSORS)


def test_what_half_precision_cannot_hold_stays_wide() -> None:
    assert stored(torch.tensor([1e6]), torch.float16).dtype == torch.float32
    assert stored(torch.tensor([1e3]), torch.float16).dtype == torch.float16
    assert stored(torch.tensor([7]), torch.float16).dtype == torch.int64


def test_empty_module_is_filled_and_keeps_its_buffers(tmp_path: Path) -> None:
    whole = nn.BatchNorm1d(3)
    whole.running_mean = torch.tensor([1.0, 2.0, 3.0])
    write(whole.state_dict().items(), tmp_path, torch.float16)
    with without_values():
        empty = nn.BatchNorm1d(3)
    assert empty.weight.is_meta
    fill(empty, tmp_path)
    assert torch.equal(empty.weight, whole.weight)
    assert empty.running_mean is not None
    assert empty.running_mean.tolist() == [1.0, 2.0, 3.0]
    assert empty.weight.dtype == torch.float32
    assert empty.weight.requires_grad


def test_values_in_memory_do_not_depend_on_the_file(tmp_path: Path) -> None:
    layer = nn.Linear(4, 4)
    write(layer.state_dict().items(), tmp_path, torch.float32)
    with without_values():
        other = nn.Linear(4, 4)
    fill(other, tmp_path)
    before = other.weight.clone()
    content = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(b"\0" * len(content))
    assert torch.equal(other.weight, before)
    assert torch.equal(other.weight, layer.weight)


@pytest.mark.parametrize("change", ["missing", "shape", "strange"])
def test_weights_of_another_module_are_refused(tmp_path: Path, change: str) -> None:
    state: dict[str, Tensor] = dict(nn.Linear(4, 2).state_dict())
    if change == "missing":
        del state["bias"]
    elif change == "shape":
        state["bias"] = torch.zeros(3)
    else:
        state["other"] = torch.zeros(3)
    write(state.items(), tmp_path, torch.float32)
    with pytest.raises(CheckpointError, match="other" if change == "strange" else "bias"):
        fill(nn.Linear(4, 2), tmp_path)


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        written(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"no safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        written(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": "../model.safetensors"}}']
)
def test_damaged_index_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / SHARDS).write_text(text)
    with pytest.raises(CheckpointError):
        files(tmp_path)


def test_eight_bits_are_within_half_a_step_of_each_row() -> None:
    value = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    value *= torch.logspace(-6, 3, 6).view(-1, 1, 1, 1)
    value[2] = 0
    whole, scale = quantized(value)
    assert whole.dtype == torch.int8
    assert scale.shape == (6, 1, 1, 1)
    assert bool(((whole * scale - value).abs() <= scale * 0.5001).all())
    assert not (whole * scale)[2].any()


def test_a_module_in_eight_bits_takes_half_the_bytes_and_stays_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64), nn.Linear(64, 5))
    sizes = {}
    for name, few in (("wide", False), ("narrow", True), ("again", True)):
        write(module.state_dict().items(), tmp_path / name, torch.float16, eight_bit=few)
        sizes[name] = sum(path.stat().st_size for path in (tmp_path / name).iterdir())
        before = [value.clone() for value in module.state_dict().values()]
        fill(module, tmp_path / name)
        if name == "narrow":
            errors = [
                float((new - old).abs().max())
                for new, old in zip(module.state_dict().values(), before, strict=True)
            ]
            assert 0 < max(errors) < 1e-3
        if name == "again":  # what was rounded once is not rounded again
            assert all(
                torch.equal(new, old)
                for new, old in zip(module.state_dict().values(), before, strict=True)
            )
    assert sizes["narrow"] < 0.6 * sizes["wide"]


def test_scales_lie_in_the_file_of_their_weights(tmp_path: Path) -> None:
    weights = {f"t{number}": torch.randn(8, 100) for number in range(4)}
    write(weights.items(), tmp_path, torch.float32, shard_bytes=900, eight_bit=True)
    assert len(files(tmp_path)) == 4
    read_back = dict(read(tmp_path))
    assert set(read_back) == set(weights)
    for name, value in weights.items():
        assert torch.allclose(read_back[name], value, atol=0.03)


def test_a_weight_may_be_called_scale(tmp_path: Path) -> None:
    """As the normalizations of some networks are."""
    named = {"norm.scale": torch.ones(3), "scale": torch.ones(2)}
    write(named.items(), tmp_path, torch.float32, eight_bit=True)
    assert set(dict(read(tmp_path))) == set(named)
