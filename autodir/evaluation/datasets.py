"""The public test sets: where their pictures lie, how they are paired, and how each is measured.

Apart so that the table of sets, the one place that knows folder names and protocols, stands alone.
Sets of clean photos get their degraded inputs here, seeded, so that every run sees the same pixels.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from autodir.config import suggestion
from autodir.errors import ConfigError, ImageError
from autodir.evaluation.metrics import Protocol, quantize
from autodir.imaging.io import read
from autodir.imaging.resize import resize
from autodir.synthesis.codec import jpeg
from autodir.synthesis.operators import OPERATORS

DATA_VARIABLE = "AUTODIR_DATA"
"""The environment variable that names the data folder; it holds ``eval/``."""

SEVERITIES = {"mild": 0.15, "medium": 0.5, "severe": 0.85}
RECIPES = ("as_is", "gaussian", "jpeg", "synthetic")
_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}

Kind = Literal["paired", "real", "clean"]


_PLAIN = Protocol()


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """One set on disk.

    Attributes:
        kind: "paired" (``input/`` and ``target/`` with equal stems), "real" (``input/`` alone) or
            "clean" (``target/`` alone).
        degradation: what is wrong with the inputs, None where it is mixed or nothing.
        protocol: how it is measured.
    """

    kind: Kind
    degradation: str | None = None
    protocol: Protocol = _PLAIN


_ENLARGED = Protocol(color="y", crop=4)

FOLDERS: dict[str, Folder] = {
    "Set5_x4": Folder(kind="paired", degradation="low_resolution", protocol=_ENLARGED),
    "Set14_x4": Folder(kind="paired", degradation="low_resolution", protocol=_ENLARGED),
    "Urban100_x4": Folder(kind="paired", degradation="low_resolution", protocol=_ENLARGED),
    "ResShift_ValSR_x4": Folder(
        kind="paired", degradation="low_resolution", protocol=Protocol(color="y")
    ),
    "CC15": Folder(kind="paired", degradation="noise"),
    "Levin09": Folder(kind="paired", degradation="blur", protocol=Protocol(color="gray", shift=8)),
    "REDS_003": Folder(kind="paired", degradation="blur"),
    "Rain100L": Folder(kind="paired", degradation="rain"),
    "Rain100H": Folder(kind="paired", degradation="rain"),
    "RainDrop": Folder(kind="paired", degradation="raindrop"),
    "SOTS_indoor": Folder(kind="paired", degradation="haze"),
    "SOTS_outdoor": Folder(kind="paired", degradation="haze"),
    "LOL_eval15": Folder(kind="paired", degradation="underexposure"),
    "RNI15": Folder(kind="real", degradation="noise"),
    "Blur_real": Folder(kind="real", degradation="blur"),
    "Rain_real": Folder(kind="real", degradation="rain"),
    "RainDrop_real": Folder(kind="real", degradation="raindrop"),
    "Haze_real": Folder(kind="real", degradation="haze"),
    "DICM": Folder(kind="real", degradation="underexposure"),
    "LIME": Folder(kind="real", degradation="underexposure"),
    "SCI_easy": Folder(kind="real", degradation="underexposure"),
    "JPEG_real": Folder(kind="real", degradation="compression"),
    "RealSRSet": Folder(kind="real"),
    "OldPhotos_real": Folder(kind="real"),
    "CBSD68": Folder(kind="clean"),
    "Kodak24": Folder(kind="clean"),
    "McMaster": Folder(kind="clean"),
    "LIVE1": Folder(kind="clean", protocol=Protocol(color="y")),
    "Classic5": Folder(kind="clean", protocol=Protocol(color="gray")),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One picture to restore or to recognize.

    Attributes:
        name: unique within its set.
        set: the name of the set, as tables show it.
        input: (1, 3, H, W) in [0, 1], on 8-bit levels.
        target: the same size, or None where nobody knows the true picture.
        degradations: keys in the order in which they happened; () for a clean photo, None where
            no single label is known.
        protocol: how results are measured.
    """

    name: str
    set: str
    input: Tensor
    target: Tensor | None
    degradations: tuple[str, ...] | None
    protocol: Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class SetSpec:
    """One row of a table: folders, and what is done to their pictures first.

    Attributes:
        name: as tables show it.
        folders: names in `FOLDERS`, of one kind.
        recipe: "as_is"; or, for clean folders, "gaussian" (white noise), "jpeg" (grey for a grey
            set) or "synthetic" (the chains of `autodir.synthesis`).
        level: σ in 8-bit units, JPEG quality, or severity in [0, 1].
        chains: for "synthetic": degradations in order of application; the i-th case gets chain
            i mod n, counted over all folders, so that few pictures of each have all chains.
        limit: at most so many pictures of each folder, evenly spaced over it.
        goal_psnr: what the design asks for, in dB, where it does.
        goal_gain: the same as a gain over the input.
    """

    name: str
    folders: tuple[str, ...]
    recipe: str = "as_is"
    level: float = 0.0
    chains: tuple[tuple[str, ...], ...] = ()
    limit: int | None = None
    goal_psnr: float | None = None
    goal_gain: float | None = None

    def __post_init__(self) -> None:
        for folder in self.folders:
            if folder not in FOLDERS:
                raise ConfigError(
                    f"unknown test set {folder!r}", suggestion(folder, sorted(FOLDERS))
                )
            if self.recipe != "as_is" and FOLDERS[folder].kind != "clean":
                raise ConfigError(
                    f"{folder} is degraded already; {self.recipe!r} needs a clean set"
                )
        if self.recipe not in RECIPES:
            raise ConfigError(f"unknown recipe {self.recipe!r}", suggestion(self.recipe, RECIPES))
        if (self.recipe == "synthetic") != bool(self.chains):
            raise ConfigError(
                f"{self.name}: chains belong to the recipe 'synthetic', and it needs them"
            )
        for key in {key for chain in self.chains for key in chain}:
            if key not in OPERATORS:
                raise ConfigError(
                    f"unknown degradation {key!r}", suggestion(key, sorted(OPERATORS))
                )


def data_root(path: Path | None = None) -> Path:
    """The folder that holds the sets.

    Looked for in ``path``, else where `DATA_VARIABLE` says, else in ``../shared/data``; in each of
    them ``eval/`` comes first.

    Raises:
        ConfigError: there is no such folder, or it holds none of the sets.
    """
    named = path or os.environ.get(DATA_VARIABLE) or Path("../shared/data")
    root = Path(named).expanduser()
    for folder in (root / "eval", root):
        if any((folder / name).is_dir() for name in FOLDERS):
            return folder
    raise ConfigError(
        f"{root} holds none of the test sets",
        f"name the folder with --data, or set {DATA_VARIABLE}",
    )


def load_set(spec: SetSpec, root: Path, seed: int = 0, limit: int | None = None) -> Iterator[Case]:
    """The cases of one set, read one by one.

    Args:
        spec: which folders, and what to do to them.
        root: the folder that holds the sets.
        seed: of synthetic degradations.
        limit: at most so many pictures of each folder; the smaller of this and the spec's counts.

    Raises:
        ConfigError: a folder is missing or empty.
        ImageError: an input has no target, or a picture cannot be read.
    """
    limits = [number for number in (limit, spec.limit) if number is not None]
    place = 0
    for name in spec.folders:
        paths = _pictures(root / name / ("target" if FOLDERS[name].kind == "clean" else "input"))
        for path in _spread(paths, min(limits, default=None)):
            label = f"{name}/{path.stem}"
            if FOLDERS[name].kind == "clean":
                yield _from_clean(spec, name, label, path, place, seed)
            else:
                yield _from_degraded(spec, name, label, path)
            place += 1


def _from_degraded(spec: SetSpec, folder_name: str, label: str, path: Path) -> Case:
    folder = FOLDERS[folder_name]
    pixels, target = _load(path), None
    if folder.kind == "paired":
        target = _load(_partner(path))
        if pixels.shape != target.shape:
            height, width = target.shape[-2:]
            pixels = quantize(resize(pixels, (height, width)))
    degradations = None if folder.degradation is None else (folder.degradation,)
    return Case(
        name=label,
        set=spec.name,
        input=pixels,
        target=target,
        degradations=degradations,
        protocol=folder.protocol,
    )


def _from_clean(
    spec: SetSpec, folder_name: str, label: str, path: Path, place: int, seed: int
) -> Case:
    folder, clean = FOLDERS[folder_name], _load(path)
    chain = spec.chains[place % len(spec.chains)] if spec.chains else ()
    generator = torch.Generator().manual_seed(
        case_seed(seed, label, spec.recipe, spec.level, *chain)
    )
    degradations: tuple[str, ...] = ()
    degraded = clean
    if spec.recipe == "gaussian":
        degraded, degradations = add_gaussian(clean, spec.level, generator), ("noise",)
    elif spec.recipe == "jpeg":
        degraded, degradations = compress(clean, round(spec.level)), ("compression",)
    elif spec.recipe == "synthetic":
        degradations = chain
        severity = torch.tensor([spec.level])
        for key in degradations:
            degraded = quantize(OPERATORS[key](degraded, severity, generator)[0])
    protocol = folder.protocol if spec.recipe == "jpeg" else _PLAIN
    return Case(
        name=label,
        set=spec.name,
        input=degraded,
        target=clean,
        degradations=degradations,
        protocol=protocol,
    )


def case_seed(seed: int, *parts: object) -> int:
    """A seed for one picture that depends on what it is, not on which pictures were read before."""
    return zlib.crc32("/".join(str(part) for part in (seed, *parts)).encode())


def add_gaussian(clean: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Add white Gaussian noise of deviation ``sigma`` (8-bit units), clip, round to 8 bits."""
    noise = torch.randn(clean.shape, generator=generator)
    return quantize(clean + noise * (sigma / 255))


def compress(clean: Tensor, quality: int) -> Tensor:
    """Through a JPEG of libjpeg ``quality`` 1..95, chroma 4:2:0.

    A gray picture has no chroma, so its luminance is what a JPEG of one channel would give.
    """
    return quantize(jpeg(clean[0], quality)[None])


def _load(path: Path) -> Tensor:
    return quantize(read(path).pixels[None])


def _pictures(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in _PICTURES)
    if not found:
        raise ConfigError(f"{folder} holds no pictures", "check the path given with --data")
    return found


def _partner(path: Path) -> Path:
    """The target of an input: the same stem, possibly another format."""
    folder = path.parent.parent / "target"
    named = [other for other in folder.glob("*") if other.stem == path.stem]
    if len(named) != 1:
        raise ImageError(
            f"{path} has {len(named)} targets in {folder}", "each input needs exactly one"
        )
    return named[0]


def _spread(paths: list[Path], limit: int | None) -> list[Path]:
    """At most ``limit`` paths, evenly spaced."""
    count = len(paths) if limit is None else min(limit, len(paths))
    return [paths[place * len(paths) // count] for place in range(count)]
