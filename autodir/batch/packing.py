"""Photos as the content of a file and back, so that they can pass between processes.

Apart because it must not be a pickle, which runs whatever code its sender likes: numbers, texts,
arrays and records of known kinds are all that comes out of it.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autodir.errors import ContractError
from autodir.imaging.formats import Storage
from autodir.imaging.io import Photo
from autodir.imaging.matrix import MatrixSpace
from autodir.records import ImageMetadata

_RECORDS: dict[str, Any] = {
    kind.__name__: kind for kind in (Photo, ImageMetadata, Storage, MatrixSpace)
}
_TREE = "tree"
_ARRAYS: tuple[tuple[str, type, Callable[[Any], NDArray[Any]]], ...] = (
    ("tensor", Tensor, lambda tensor: tensor.numpy()),
    ("array", np.ndarray, lambda array: array),
    ("bytes", bytes, lambda data: np.frombuffer(data, np.uint8)),
)


def pack(value: object) -> bytes:
    """The content of an ``.npz`` file that holds the arrays, and a JSON text of all the rest.

    Raises:
        ContractError: there is something else in the value than `unpack` makes.
    """
    arrays: list[NDArray[Any]] = []
    text = json.dumps(_flatten(value, arrays)).encode()
    file = io.BytesIO()
    named = {str(number): array for number, array in enumerate(arrays)}
    np.savez(file, allow_pickle=False, **named, **{_TREE: np.frombuffer(text, np.uint8)})
    return file.getvalue()


def unpack(content: bytes) -> Any:
    """What was packed: photos and what belongs to them, arrays, tensors, and plain values."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return _grow(json.loads(arrays[_TREE].tobytes()), arrays)


def _flatten(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """JSON's own values as they are, every other as one pair of its kind and its content."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return _flatten(value.item(), arrays)
    for kind, known, as_array in _ARRAYS:
        if isinstance(value, known):
            arrays.append(as_array(value))
            return [kind, str(len(arrays) - 1)]
    if isinstance(value, Path):
        return ["path", str(value)]
    if isinstance(value, tuple | list):
        return [type(value).__name__, [_flatten(entry, arrays) for entry in value]]
    if isinstance(value, Mapping):
        pairs = [(_flatten(key, arrays), _flatten(entry, arrays)) for key, entry in value.items()]
        return ["map", pairs]
    if type(value).__name__ in _RECORDS and dataclasses.is_dataclass(value):
        fields = {spec.name: getattr(value, spec.name) for spec in dataclasses.fields(value)}
        return [type(value).__name__, _flatten(fields, arrays)]
    raise ContractError(f"{type(value).__name__} cannot be packed")


def _grow(tree: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The value of which `_flatten` made ``tree``."""
    if not isinstance(tree, list):
        return tree
    kind, content = tree
    if kind in _RECORDS:
        return _RECORDS[kind](**_grow(content, arrays))
    grown: dict[str, Any] = {
        "tensor": lambda: torch.from_numpy(arrays[content]),
        "array": lambda: arrays[content],
        "bytes": lambda: arrays[content].tobytes(),
        "path": lambda: Path(content),
        "list": lambda: [_grow(entry, arrays) for entry in content],
        "tuple": lambda: tuple(_grow(entry, arrays) for entry in content),
        "map": lambda: {_grow(key, arrays): _grow(entry, arrays) for key, entry in content},
    }
    return grown[kind]()
