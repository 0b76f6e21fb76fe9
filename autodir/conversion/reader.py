"""A checkpoint file opened without running anything in it: zip, older pickle or safetensors.

Apart from the conversion, because this is the only file of autodir that opens a pickle, and it
does so with ``weights_only=True``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from autodir.errors import CheckpointError

HARMLESS = (
    "pytorch_lightning.",
    "lightning.",
    "lightning_fabric.",
    "omegaconf.",
    "numpy.",
    "typing.",
)
"""Packages whose classes a trainer leaves beside the weights; `Inert` takes their place."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        tensors: by name; their values stay in the file until they are used.
        others: names of the state dict whose values are no tensors.
        steps: the trainer's ``global_step``, where stated.
    """

    tensors: Mapping[str, Tensor]
    others: tuple[str, ...] = ()
    steps: int | None = None


class Inert:
    """Stands for an object of another library: takes any state, and does nothing."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint: a trainer's file, a plain state dict, or safetensors.

    Raises:
        CheckpointError: the file is missing, truncated, holds code, or holds no state dict.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}", "name the checkpoint you downloaded")
    if _is_safetensors(path):
        try:
            return Checkpoint(tensors=load_file(path))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}", _AGAIN) from error
    loaded = _unpickle(path)
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(
            f"{path} holds no state dict", "a mapping from names to tensors is expected"
        )
    steps = loaded.get("global_step")
    return Checkpoint(
        tensors={name: value for name, value in state.items() if isinstance(value, Tensor)},
        others=tuple(name for name, value in state.items() if not isinstance(value, Tensor)),
        steps=steps if isinstance(steps, int) else None,
    )


_AGAIN = "the file is incomplete or damaged: download it again"


def _is_safetensors(path: Path) -> bool:
    """Whether a header of JSON follows the eight bytes of its length."""
    with path.open("rb") as handle:
        return handle.read(9)[8:] == b"{"


def _unpickle(path: Path) -> Any:
    zipped = zipfile.is_zipfile(path)
    names = _foreign_classes(path) if zipped else []
    unknown = [name for name in names if not name.startswith(HARMLESS)]
    if unknown:
        raise CheckpointError(
            f"{path} is a pickle that calls {unknown[0]}",
            "weights call nothing: save the state dict alone where you trust the file",
        )
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (Inert, name) for name in names
    ]
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", mmap=zipped, weights_only=True)
    except Exception as error:  # a broken pickle may raise anything
        words = str(error).splitlines() or [type(error).__name__]
        raise CheckpointError(f"{path} cannot be opened: {words[0]}", _AGAIN) from error


def _foreign_classes(path: Path) -> list[str]:
    """The names in a pickle that torch does not know as harmless; nothing is executed."""
    try:
        return list(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception as error:
        raise CheckpointError(f"{path} cannot be opened: {error}", _AGAIN) from error
