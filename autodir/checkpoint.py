"""Model folders: parts with their configurations and weights, hashes, and the known models.

Apart from the builders, so that one file knows what lies in a folder and whether it is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from autodir import hub
from autodir.builders import (
    Model,
    build,
    build_head,
    build_small,
    calibration_of,
    part_dtype,
)
from autodir.clip import Clip, TextTower
from autodir.correction.scm import StructureCorrector
from autodir.diffusion.adapters import build_adapter
from autodir.diffusion.autoencoder import Autoencoder
from autodir.diffusion.schedule import Schedule
from autodir.diffusion.settings import DiffusionConfig
from autodir.diffusion.unet import build_unet
from autodir.diffusion.wrapping import FeatureWrapping
from autodir.errors import CheckpointError, ConfigError, PromptError
from autodir.prompts import Taxonomy
from autodir.resources import checkpoints_dir
from autodir.weights import fill, without_values, write

__all__ = [
    "FORMAT",
    "INDEX",
    "RUNS",
    "SUMS",
    "Model",
    "ModelInfo",
    "build",
    "build_small",
    "calibration_of",
    "find_model",
    "info",
    "list_models",
    "load_model",
    "save_model",
    "save_settings",
    "sign",
    "verify",
]

FORMAT = "autodir.model/1"
PARTS = ("clip", "biqa", "vae", "unet", "scheduler", "scm")
OPTIONAL_PARTS = ("adapter", "cfw", "text")
"""Folders of a model, and those that it may have; what else lies beside them is not part of it."""
EIGHT_BIT = {"small": ("unet", "scm")}
"""Parts whose weights a scale stores in eight bits: on test photos it costs 0.01 dB."""
RUNS = ".training"
"""Folder in which training keeps logs, samples and resumable states; never part of the model."""
INDEX, CONFIG, SUMS = "model_index.json", "config.json", "SHA256SUMS"
CALIBRATION = "calibration.json"
_DAMAGED = "the model folder is damaged or of another version: fetch or save it again"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a model folder says of itself.

    Attributes:
        name: the folder's name.
        folder: where it is.
        scale: "small", "sd15" or "sd21".
        parameters: elements by part.
        bytes: size of the folder on disk, `RUNS` left out.
        sha256: one hash over `SUMS`, which names each file's.
        training: what the training noted: commands, seconds, data.
    """

    name: str
    folder: Path
    scale: str
    parameters: Mapping[str, int]
    bytes: int
    sha256: str
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"folder": str(self.folder)}


def find_model(name_or_path: str | Path) -> Path:
    """The folder of a model: a path, a name of those that come with autodir, or of the hub's.

    Raises:
        CheckpointError: there is no such folder, or it holds no model.
    """
    path = Path(name_or_path).expanduser()
    for folder in (path, checkpoints_dir() / str(name_or_path)):
        if (folder / INDEX).is_file():
            return folder
    if hub.is_hub_name(name_or_path):
        folder = hub.fetch(str(name_or_path), (INDEX, SUMS, "*/*.json", "*/*.safetensors"))
        if (folder / INDEX).is_file():
            return folder
        raise CheckpointError(
            f"{name_or_path} on the hub is no model of autodir: it has no {INDEX}",
            "name a repository that holds a folder written by autodir",
        )
    if path.is_file():
        raise CheckpointError(
            f"{path} is a file, not a model folder",
            "a model is a folder with model_index.json and safetensors; "
            "autodir models convert makes one of the published checkpoint",
        )
    known = ", ".join(info.name for info in list_models()) or "none"
    raise CheckpointError(
        f"no model {str(name_or_path)!r}", f"known models: {known}; or give a model folder's path"
    )


def list_models() -> list[ModelInfo]:
    """The models that come with autodir."""
    return [info(index.parent) for index in sorted(checkpoints_dir().glob(f"*/{INDEX}"))]


def info(name_or_path: str | Path) -> ModelInfo:
    """What a model folder says of itself, without loading its weights."""
    folder = find_model(name_or_path)
    index = _read_json(folder / INDEX)
    files = [path for path in _visible(folder) if path.is_file()]
    return ModelInfo(
        name=folder.name,
        folder=folder,
        scale=str(index.get("scale", "")),
        parameters=dict(index.get("parameters", {})),
        bytes=sum(path.stat().st_size for path in files),
        sha256=_sha256(folder / SUMS) if (folder / SUMS).is_file() else "",
        training=dict(index.get("training", {})),
    )


def verify(name_or_path: str | Path) -> list[str]:
    """Check every file of a model folder against `SUMS`.

    Returns:
        The names of the files, all of which are as they were written.

    Raises:
        CheckpointError: a file is missing, altered, or a pickle.
    """
    folder = find_model(name_or_path)
    if not (folder / SUMS).is_file():
        raise CheckpointError(f"{folder} has no {SUMS}", "save the model again")
    names = []
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if name.startswith(f"{RUNS}/"):
            continue
        if not path.is_file():
            raise CheckpointError(f"{path} is missing", _DAMAGED)
        if _sha256(path) != digest:
            raise CheckpointError(f"{path} is not what was saved: its hash differs", _DAMAGED)
        names.append(name)
    pickles = [path for path in _visible(folder) if path.suffix in PICKLES]
    if pickles:
        raise CheckpointError(
            f"{pickles[0]} is a pickle, which can run code", "only safetensors are loaded"
        )
    unnamed = sorted(set(_model_files(folder)) - set(names))
    if unnamed:
        raise CheckpointError(f"{folder / unnamed[0]} is not in {SUMS}", "save the model again")
    return names


def load_model(
    name_or_path: str | Path, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Model:
    """Read a model folder, checking hashes, keys and shapes.

    Args:
        name_or_path: "small", or a folder.
        device: where the parts go; the CPU by default.
        dtype: of the diffusion and the correction.

    Raises:
        CheckpointError: anything is missing, altered or of another shape.
    """
    folder = find_model(name_or_path)
    verify(folder)
    index = _read_json(folder / INDEX)
    if index.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} has format {index.get('format')!r}, this version reads {FORMAT}"
        )
    device = device or torch.device("cpu")
    try:
        taxonomy = Taxonomy.from_dict(index["taxonomy"], source=str(folder / INDEX))
        configs = {
            name: _read_json(folder / name / CONFIG) for name in ("biqa", "vae", "unet", "scm")
        }
        clip = Clip.load(folder / "clip", device)
        with without_values():
            model = Model(
                scale=index["scale"],
                taxonomy=taxonomy,
                clip=clip,
                head=build_head(configs["biqa"]),
                autoencoder=Autoencoder(configs["vae"]),
                unet=build_unet(configs["unet"]),
                schedule=Schedule(_read_json(folder / "scheduler" / CONFIG)),
                diffusion=DiffusionConfig(**index["diffusion"]),
                scm=StructureCorrector(**configs["scm"]),
                calibration=_read_json(folder / "biqa" / CALIBRATION),
                training=dict(index.get("training", {})),
            )
            if (folder / "adapter" / CONFIG).is_file():
                config = _read_json(folder / "adapter" / CONFIG)
                model.adapter = build_adapter(config, model.unet)
            if (folder / "cfw" / CONFIG).is_file():
                model.wrapping = FeatureWrapping(**_read_json(folder / "cfw" / CONFIG))
            if (folder / "text" / CONFIG).is_file():
                model.text = TextTower(_read_json(folder / "text" / CONFIG))
    except (KeyError, TypeError, ValueError, ConfigError, PromptError) as error:
        raise CheckpointError(f"{folder} is malformed: {error}", "save the model again") from error
    for name, module in model.modules.items():
        if name != "clip":
            fill(module, folder / name, part_dtype(name, dtype), device)
    return model.eval().to(device, dtype)


def save_model(model: Model, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a model folder: safetensors, configurations, taxonomy, hashes.

    Args:
        model: all parts.
        folder: created if missing; files of other names are left alone.
        dtype: of the stored floating-point weights.
    """
    save_settings(model, folder)
    for name, module in model.modules.items():
        few = name in EIGHT_BIT.get(model.scale, ())
        write(module.state_dict().items(), folder / name, dtype, eight_bit=few)
    sign(folder)


def save_settings(model: Model, folder: Path) -> None:
    """Write everything of a model folder but weights and hashes."""
    configs: dict[str, Any] = {
        "biqa": model.head.config,
        "vae": model.autoencoder.config.to_dict(),
        "unet": {key: value for key, value in model.unet.config.items() if not key.startswith("_")},
        "scm": model.scm.config,
        "scheduler": model.schedule.config.to_dict(),
    }
    optional = {"adapter": model.adapter, "cfw": model.wrapping, "text": model.text}
    configs |= {name: part.config for name, part in optional.items() if part is not None}
    model.clip.save_settings(folder / "clip")
    for name, config in configs.items():
        _write_json(folder / name / CONFIG, config)
    _write_json(folder / "biqa" / CALIBRATION, model.calibration)
    sizes = {k: sum(p.numel() for p in part.parameters()) for k, part in model.modules.items()}
    _write_json(
        folder / INDEX,
        {
            "format": FORMAT,
            "scale": model.scale,
            "parts": [*PARTS, *(name for name in OPTIONAL_PARTS if name in configs)],
            "parameters": sizes,
            "diffusion": model.diffusion.to_dict(),
            "taxonomy": model.taxonomy.to_dict(),
            "training": model.training,
        },
    )


def sign(folder: Path) -> None:
    """Write `SUMS` over the files of a model folder."""
    sums = [f"{_sha256(folder / name)}  {name}" for name in _model_files(folder)]
    (folder / SUMS).write_text("\n".join(sums) + "\n", encoding="utf-8")


def _model_files(folder: Path) -> list[str]:
    """The files that `SUMS` names, relative to the folder: the index, and those of the parts."""
    files = [path for part in (*PARTS, *OPTIONAL_PARTS) for path in (folder / part).rglob("*")]
    stored = [path for path in files if path.suffix in (".json", ".safetensors")]
    return sorted([INDEX, *(path.relative_to(folder).as_posix() for path in stored)])


def _visible(folder: Path) -> list[Path]:
    """Everything in a model folder but what lies below `RUNS`."""
    return [p for p in folder.rglob("*") if p.relative_to(folder).parts[0] != RUNS]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", _DAMAGED) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no table", _DAMAGED)
    return values


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, sort_keys=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
