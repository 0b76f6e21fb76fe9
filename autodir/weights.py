"""Weights on disk: safetensors, in shards where they are large, and modules filled from them.

Apart from what the weights mean, so that every part of a model is written and read one way, tensor
by tensor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from autodir.errors import CheckpointError

WEIGHTS = "model.safetensors"
"""The file of a part that fits into one; a larger part has `SHARDS` and the files it names."""
SHARDS = "model.safetensors.index.json"
SHARD_BYTES = 256 * 2**20
SCALE = ".scale"
"""Behind the name of a tensor in eight bits: the tensor of its scales, one for each first index."""
_PENDING = ".part"
_LEAST_ROW = 64
"""Shorter rows are not worth their scales."""


def without_values() -> AbstractContextManager[None]:
    """A context in which new modules get parameters without memory, to be filled by `fill`."""
    return cast("AbstractContextManager[None]", init_empty_weights(include_buffers=False))


def stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    """On the CPU in ``dtype``, or as it was where ``dtype`` cannot hold it."""
    value = value.detach().cpu().contiguous()
    if not value.is_floating_point():
        return value
    cast_value = value.to(dtype)
    return cast_value if bool(torch.isfinite(cast_value).all()) else value


def quantized(value: Tensor) -> tuple[Tensor, Tensor]:
    """A weight in eight bits: integers q of ±127 and scales s, row by row, with value ≈ q · s.

    Rounding to nearest keeps every element within s / 2 of what it was, and a second time changes
    nothing (absmax quantization; LLM.int8(), arXiv:2208.07339, §2).

    Args:
        value: (N, ...), finite.

    Returns:
        int8 of the same shape, and float32 (N, 1, ...).
    """
    value = value.detach().cpu().float()
    scale = value.flatten(1).abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
    scale = scale.view(-1, *[1] * (value.ndim - 1))
    return (value / scale).round().to(torch.int8).contiguous(), scale


def write(
    tensors: Iterable[tuple[str, Tensor]],
    folder: Path,
    dtype: torch.dtype,
    shard_bytes: int = SHARD_BYTES,
    *,
    eight_bit: bool = False,
) -> None:
    """Write named tensors, holding one shard of them in memory at a time.

    Args:
        tensors: names and values, taken one by one.
        folder: created if missing; weight files of an earlier call are replaced.
        dtype: of the floating-point values, but for those that it cannot hold.
        shard_bytes: a file is closed before it would grow beyond this.
        eight_bit: keep matrices and kernels as `quantized`; vectors stay in ``dtype``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, int]] = []
    shard: dict[str, Tensor] = {}

    def close() -> None:
        save_file(shard, folder / f"{len(shards)}{_PENDING}")
        shards.append({name: value.nbytes for name, value in shard.items()})
        shard.clear()

    for name, value in tensors:
        if eight_bit and value.ndim > 1 and value[0].numel() >= _LEAST_ROW:
            kept = dict(zip((name, name + SCALE), quantized(value), strict=True))
        else:
            kept = {name: stored(value, dtype)}
        size = sum(part.nbytes for part in kept.values())
        if shard and sum(other.nbytes for other in shard.values()) + size > shard_bytes:
            close()
        shard |= kept
    close()
    names = [WEIGHTS]
    if len(shards) > 1:
        names = [
            f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)
        ]
        index = {
            "metadata": {"total_size": sum(sum(sizes.values()) for sizes in shards)},
            "weight_map": {
                name: file for file, sizes in zip(names, shards, strict=True) for name in sizes
            },
        }
        text = json.dumps(index, indent=2) + "\n"
        (folder / SHARDS).write_text(text, encoding="utf-8")
    else:
        (folder / SHARDS).unlink(missing_ok=True)
    for old in folder.glob("model*.safetensors"):
        if old.name not in names:
            old.unlink()
    for number, name in enumerate(names):
        (folder / f"{number}{_PENDING}").replace(folder / name)


def files(folder: Path, stem: str = "model") -> list[Path]:
    """The weight files of a folder, in order; ``stem`` is what their names begin with.

    Raises:
        CheckpointError: the index of the shards is malformed.
    """
    index = folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return [folder / f"{stem}.safetensors"]
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        plain = all(name == Path(name).name for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no list of shards: {error}") from error
    if not plain:
        raise CheckpointError(f"{index} names files outside of its folder")
    return [folder / name for name in sorted(names)]


def read(folder: Path, stem: str = "model") -> Iterator[tuple[str, Tensor]]:
    """Names and values of the stored tensors; each value lives in the file until it is copied.

    What was stored in eight bits comes in float32.

    Raises:
        CheckpointError: a file is missing or malformed.
    """
    for path in files(folder, stem):
        try:
            with safe_open(path, framework="pt") as opened:
                names = set(opened.keys())
                scales = names & {name + SCALE for name in names}
                for name in opened.keys():  # noqa: SIM118 - not a mapping
                    if name in scales:
                        continue
                    value = opened.get_tensor(name)
                    scaled = name + SCALE in scales
                    yield name, value * opened.get_tensor(name + SCALE) if scaled else value
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error


def fill(
    module: nn.Module,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> None:
    """Give a module the weights of a folder: all of them, and nothing else.

    Args:
        module: built in `without_values`, or with values that are replaced.
        folder: what `write` wrote.
        dtype: of the floating-point values in memory.
        device: where they go; the CPU by default.

    Raises:
        CheckpointError: a file is missing or malformed, or names or shapes are not the module's.
    """
    place = device or torch.device("cpu")
    state = {
        # Copied even where nothing changes: the file may be replaced while the module lives.
        name: value.to(place, dtype if value.is_floating_point() else value.dtype, copy=True)
        for name, value in read(folder)
    }
    assign(module, state, folder)


def assign(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Make tensors the parameters and buffers of a module.

    Raises:
        CheckpointError: names or shapes are not the module's; ``source`` is named.
    """
    try:
        module.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{source} does not fit: {error}",
            "the model folder is damaged or of another version: fetch or save it again",
        ) from error
