"""Published checkpoints to model folders, tensor by tensor: AutoDIR's, StableSR's, DiffBIR's.

Apart from the folder's own reading and writing, since it is needed once for a model, and by nobody
else.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from autodir.builders import Model
from autodir.checkpoint import save_settings, sign, verify
from autodir.conversion.keys import Origin
from autodir.conversion.layouts import LAYOUTS, Published, gather, model_of, sha256
from autodir.conversion.reader import Checkpoint
from autodir.conversion.restorers import STAGE1
from autodir.errors import CheckpointError, ConfigError
from autodir.weights import read, stored, write

DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
SHOWN = 10
"""How many names an error lists."""

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was done.

    Attributes:
        folder: the model folder.
        layout: name of the published layout.
        source_sha256: of the checkpoint file.
        consumed: number of the checkpoint's tensors that went into the model.
        ignored: those that did not, by reason.
        tensors: number of tensors written, by part.
        wide: tensors kept in float32, because float16 cannot hold them.
        seconds: wall-clock time.
    """

    folder: Path
    layout: str
    source_sha256: str
    consumed: int
    ignored: Mapping[str, tuple[str, ...]]
    tensors: Mapping[str, int]
    wide: tuple[str, ...]
    seconds: float


def convert(
    source: Path,
    folder: Path,
    *,
    dtype: str = "fp16",
    layout: str | None = None,
    besides: Mapping[str, Path] | None = None,
    diagnosis: str = "small",
    parts: Mapping[str, Any] | None = None,
    tell: Tell = lambda _: None,
) -> Conversion:
    """Write a checkpoint of a published layout as a model folder.

    The checkpoint stays on disk and is mapped into memory; besides it, one shard of the output is
    held at a time. The folder appears under its name when all of it is written, read back and
    compared; after any error there is nothing.

    Args:
        source: a trainer's checkpoint, a plain state dict, or safetensors.
        folder: must not exist, or be empty.
        dtype: "fp16" or "fp32", of the stored weights.
        layout: a name in `LAYOUTS`; None looks at the names of the tensors.
        besides: further files, see `gather`.
        diagnosis: the model, by name or folder, that leads a restorer without a diagnosis.
        parts: the shapes; those of the published model unless a test makes them smaller.
        tell: hears what is being done, one sentence at a time.

    Raises:
        CheckpointError: the file is unreadable, calls code, or is not of the layout.
        ConfigError: the folder is taken, the dtype or the layout unknown, or a file not named.
    """
    begun = time.perf_counter()
    if dtype not in DTYPES:
        raise ConfigError(f"--dtype cannot be {dtype!r}", f"use {' or '.join(DTYPES)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists already", "name a new folder for the model")
    tell(f"opening {source}")
    files = gather(source, besides or {}, layout)
    checkpoint, published = files.checkpoint, LAYOUTS[files.layout]
    tell(f"layout: {files.layout}")
    model = model_of(files.layout, parts or published.parts, diagnosis, "cfw" in files.facts)
    matched = Layout(model, checkpoint, published)
    matched.check(source)
    digest = sha256(source)
    facts: dict[str, Any] = {
        "source": source.name,
        "sha256": digest,
        "dtype": dtype,
        "steps": checkpoint.steps,
    }
    if files.layout != "autodir":
        facts |= {"layout": files.layout, "besides": files.facts, "diagnosis": str(diagnosis)}
    model.training = {"conversion": [facts]}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            draft = Path(scratch) / folder.name
            wide = _write(matched, draft, DTYPES[dtype], tell)
            _write_stage1(checkpoint, draft / "stage1.safetensors")
            (draft / "README.md").write_text(published.card(facts, model), encoding="utf-8")
            tell("reading back")
            _compare(matched, draft, DTYPES[dtype])
            verify(draft)
            if folder.exists():
                folder.rmdir()
            draft.rename(folder)
    except OSError as error:
        raise CheckpointError(
            f"{folder} cannot be written: {error}", "check the free space and the permissions"
        ) from error
    return Conversion(
        folder=folder,
        layout=files.layout,
        source_sha256=digest,
        consumed=len(matched.consumed),
        ignored=matched.ignored(),
        tensors={part: len(module.state_dict()) for part, module in model.modules.items()},
        wide=wide,
        seconds=time.perf_counter() - begun,
    )


class Layout:
    """A model without values beside a checkpoint: which tensor goes where.

    Args:
        model: built without values, so that only names and shapes are there.
        checkpoint: what the files hold.
        published: the layout.

    Attributes:
        consumed: the checkpoint's names that the model needs.
    """

    def __init__(self, model: Model, checkpoint: Checkpoint, published: Published) -> None:
        self.model, self._checkpoint, self._published = model, checkpoint, published
        self._origins: dict[tuple[str, str], Origin | None] = {
            (part, name): published.origin(part, name)
            for part, module in model.modules.items()
            for name in module.state_dict()
        }
        self.consumed = frozenset(
            name for found in self._origins.values() if found for name in found.names
        )

    def ignored(self) -> dict[str, tuple[str, ...]]:
        """The checkpoint's names that it does not need, by reason."""
        rest = [name for name in self._checkpoint.tensors if name not in self.consumed]
        found: dict[str, list[str]] = {}
        for name in [*rest, *self._checkpoint.others]:
            found.setdefault(self._published.reason(name) or "unknown", []).append(name)
        return {reason: tuple(names) for reason, names in found.items()}

    def check(self, source: Path) -> None:
        """Raise `CheckpointError` unless every tensor is there, of its shape, and no part has more.

        A part's tensors that nobody asks for mean another architecture.
        """
        tensors = self._checkpoint.tensors
        missing, misshapen = [], []
        for name, expected in self._expected().items():
            if name not in tensors:
                missing.append(name)
            elif tuple(tensors[name].shape) != expected or not tensors[name].is_floating_point():
                found = f"{tuple(tensors[name].shape)} {tensors[name].dtype}"
                misshapen.append(f"{name} {found}, not {expected}")
        rest = (name for name in tensors if name not in self.consumed)
        strange = [name for name in rest if self._published.reason(name) is None]
        faults = {"missing": missing, "of another shape": misshapen, "unknown": strange}
        told = [_listed(names, fault) for fault, names in faults.items() if names]
        if told:
            raise CheckpointError(
                f"{source} is not {self._published.title}: {'; '.join(told)}",
                f"only these published layouts can be converted: {', '.join(LAYOUTS)}",
            )

    def tensor(self, part: str, name: str) -> Tensor:
        """One of our tensors, in float32.

        Raises:
            CheckpointError: a value is not finite.
        """
        found = self._origins[part, name]
        if found is None:  # the configuration's own, such as the scale of the latents
            own: Tensor = self.model.modules[part].state_dict()[name]
            return own
        values = [self._checkpoint.tensors[source].float() for source in found.names]
        value = torch.cat(values) if found.form == "stacked" else values[0]
        if found.form == "transposed":
            value = value.T
        elif found.form == "squeezed":
            value = value[..., 0, 0]
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{found.names[0]} holds NaN or infinity")
        return value.contiguous()

    def _expected(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor that the checkpoint must hold."""
        shapes: dict[str, tuple[int, ...]] = {}
        for part, module in self.model.modules.items():
            for name, own in module.state_dict().items():
                found = self._origins[part, name]
                if found is not None:
                    shapes.update(dict.fromkeys(found.names, found.shape(tuple(own.shape))))
        return shapes


def _write(layout: Layout, draft: Path, dtype: torch.dtype, tell: Tell) -> tuple[str, ...]:
    """Write all parts, and give the names of the tensors that ``dtype`` could not hold."""
    save_settings(layout.model, draft)
    wide: list[str] = []

    def noted(part: str, names: list[str]) -> Iterator[tuple[str, Tensor]]:
        for name in names:
            kept = stored(layout.tensor(part, name), dtype)
            if kept.is_floating_point() and kept.dtype != dtype:
                wide.append(f"{part}.{name}")
            yield name, kept

    for part, module in layout.model.modules.items():
        names = list(module.state_dict())
        tell(f"{part}: {len(names)} tensors, {_millions(module)}")
        write(noted(part, names), draft / part, dtype)
    sign(draft)
    return tuple(wide)


def _write_stage1(checkpoint: Checkpoint, path: Path) -> None:
    """Keep DiffBIR's own stage 1, where its file holds one, for ``--stage1``."""
    found = {
        name.removeprefix(STAGE1): value.contiguous().clone()
        for name, value in checkpoint.tensors.items()
        if name.startswith(STAGE1)
    }
    if found:
        save_file(found, path)


def _compare(layout: Layout, draft: Path, dtype: torch.dtype) -> None:
    """Raise `CheckpointError` unless what was written is what was meant, bit for bit."""
    for part, module in layout.model.modules.items():
        names = set(module.state_dict())
        for name, value in read(draft / part):
            names.discard(name)
            if not torch.equal(value, stored(layout.tensor(part, name), dtype)):
                raise CheckpointError(f"{part}.{name} was not written as it should be")
        if names:
            raise CheckpointError(f"{part} lacks {min(names)}, which should have been written")


def _listed(names: list[str], fault: str) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {fault}: {', '.join(names[:SHOWN])}{more}"


def _millions(module: nn.Module) -> str:
    return f"{sum(value.numel() for value in module.parameters()) / 1e6:.1f} M"
