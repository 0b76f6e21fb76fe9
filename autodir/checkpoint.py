"""Model folders: parts with their configurations and weights, hashes, and the known models.

Apart so that one file knows what a model consists of and how each scale is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from autodir.clip import SMALL as CLIP_SMALL
from autodir.clip import Clip
from autodir.correction.scm import StructureCorrector
from autodir.diagnosis.biqa import QualityHead, QualityModel
from autodir.diagnosis.calibration import Calibration
from autodir.diffusion.autoencoder import SMALL as AUTOENCODER_SMALL
from autodir.diffusion.autoencoder import Autoencoder
from autodir.diffusion.model import SMALL as DIFFUSION_SMALL
from autodir.diffusion.model import DiffusionConfig, LatentDiffusion
from autodir.diffusion.schedule import SMALL as SCHEDULE_SMALL
from autodir.diffusion.schedule import Schedule
from autodir.diffusion.unet import SMALL as UNET_SMALL
from autodir.diffusion.unet import build_unet
from autodir.errors import CheckpointError, ConfigError, PromptError
from autodir.prompts import Taxonomy, load_taxonomy
from autodir.resources import checkpoints_dir

FORMAT = "autodir.model/1"
PARTS = ("clip", "biqa", "vae", "unet", "scheduler", "scm")
"""Folders of a model; what else lies beside them is not part of it."""
RUNS = ".training"
"""Folder in which training keeps logs, samples and resumable states; never part of the model."""
INDEX, CONFIG, WEIGHTS, SUMS = "model_index.json", "config.json", "model.safetensors", "SHA256SUMS"
CALIBRATION = "calibration.json"
_DAMAGED = "the model folder is damaged or of another version: fetch or save it again"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")

SCM_SMALL: Mapping[str, Any] = {
    "network": {
        "width": 32, "enc_blk_nums": [1, 1, 4], "middle_blk_num": 2, "dec_blk_nums": [1, 1, 1],
        "unshuffle": 2, "embed_dim": 256, "train_size": 128,
    },
    "head": "affine",
}  # fmt: skip
HEAD_SMALL: Mapping[str, Any] = {"hidden": 256}


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a model folder says of itself.

    Attributes:
        name: the folder's name.
        folder: where it is.
        scale: "small" or "sd15".
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


@dataclass(kw_only=True)
class Model:
    """All parts of one system, ready to be composed.

    Attributes:
        scale: which builder made it.
        taxonomy: the degradations as trained.
        clip, head: the quality model's towers and head.
        autoencoder, unet, schedule, diffusion: the latent diffusion.
        scm: the structural correction.
        calibration: thresholds of the diagnosis, and notes on how they were chosen.
        training: notes of the training, by stage.
    """

    scale: str
    taxonomy: Taxonomy
    clip: Clip
    head: QualityHead
    autoencoder: Autoencoder
    unet: UNet2DConditionModel
    schedule: Schedule
    diffusion: DiffusionConfig
    scm: StructureCorrector
    calibration: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The parts that have weights, by folder name."""
        parts = (self.clip, self.head, self.autoencoder, self.unet, self.scm)
        return dict(zip(("clip", "biqa", "vae", "unet", "scm"), parts, strict=True))

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Model:
        """Move every part; the diagnosis stays float32, which its thresholds were chosen in."""
        for name, module in self.modules.items():
            own = torch.float32 if name in ("clip", "biqa") else dtype
            nn.Module.to(module, device=device, dtype=own)
        return self

    def eval(self) -> Model:
        """Switch every part to inference."""
        for module in self.modules.values():
            module.eval().requires_grad_(False)
        return self

    def quality_model(self) -> QualityModel:
        """The diagnosis network."""
        device = next(self.head.parameters()).device
        return QualityModel(self.clip, self.head, self.taxonomy).to(device)

    def latent_diffusion(self) -> LatentDiffusion:
        """The diffusion, composed of its parts."""
        return LatentDiffusion(
            self.clip, self.autoencoder, self.unet, self.schedule, self.diffusion
        )


def build_small(seed: int = 0) -> Model:
    """The embedded default's shapes with random weights.

    Args:
        seed: of the weights; the global random state is left as it was.
    """
    parts: Mapping[str, Any] = {
        "clip": CLIP_SMALL, "biqa": HEAD_SMALL, "unet": UNET_SMALL, "scm": SCM_SMALL,
        "vae": AUTOENCODER_SMALL.to_dict(), "schedule": SCHEDULE_SMALL.to_dict(),
        "diffusion": DIFFUSION_SMALL.to_dict(),
    }  # fmt: skip
    return build(parts, load_taxonomy(), scale="small", seed=seed)


def build(parts: Mapping[str, Any], taxonomy: Taxonomy, *, scale: str, seed: int = 0) -> Model:
    """A model with random weights from the configurations of its parts.

    Args:
        parts: configurations by name: clip, biqa, vae, unet, scm, schedule, diffusion.
        taxonomy: the labels, in softmax order.
        scale: name of the shapes.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # forked: the caller's state returns
        clip = Clip.from_config(parts["clip"])
        return Model(
            scale=scale,
            taxonomy=taxonomy,
            clip=clip,
            head=QualityHead(
                feature_dim=clip.embed_dim,
                embed_dim=clip.embed_dim,
                degradations=len(taxonomy),
                hidden=parts["biqa"]["hidden"],
            ),
            autoencoder=Autoencoder(parts["vae"]),
            unet=build_unet(parts["unet"]),
            schedule=Schedule(parts["schedule"]),
            diffusion=DiffusionConfig(**parts["diffusion"]),
            scm=StructureCorrector(**parts["scm"]),
        )


def find_model(name_or_path: str | Path) -> Path:
    """The folder of a model: a path, or a name under the checkpoints that come with autodir.

    Raises:
        CheckpointError: there is no such folder, or it holds no model.
    """
    path = Path(name_or_path).expanduser()
    for folder in (path, checkpoints_dir() / str(name_or_path)):
        if (folder / INDEX).is_file():
            return folder
    if path.is_file():
        raise CheckpointError(
            f"{path} is a file, not a model folder",
            "a model is a folder with model_index.json and safetensors",
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
    try:
        taxonomy = Taxonomy.from_dict(index["taxonomy"], source=str(folder / INDEX))
        configs = {
            name: _read_json(folder / name / CONFIG) for name in ("biqa", "vae", "unet", "scm")
        }
        clip = Clip.load(folder / "clip")
        model = Model(
            scale=index["scale"],
            taxonomy=taxonomy,
            clip=clip,
            head=QualityHead(**configs["biqa"]),
            autoencoder=Autoencoder(configs["vae"]),
            unet=build_unet(configs["unet"]),
            schedule=Schedule(_read_json(folder / "scheduler" / CONFIG)),
            diffusion=DiffusionConfig(**index["diffusion"]),
            scm=StructureCorrector(**configs["scm"]),
            calibration=_read_json(folder / "biqa" / CALIBRATION),
            training=dict(index.get("training", {})),
        )
    except (KeyError, TypeError, ValueError, ConfigError, PromptError) as error:
        raise CheckpointError(f"{folder} is malformed: {error}", "save the model again") from error
    for name, module in model.modules.items():
        if name != "clip":
            _load_weights(module, folder / name / WEIGHTS)
    return model.eval().to(device or torch.device("cpu"), dtype)


def save_model(model: Model, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a model folder: safetensors, configurations, taxonomy, hashes.

    Args:
        model: all parts.
        folder: created if missing; files of other names are left alone.
        dtype: of the stored floating-point weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    configs: dict[str, Any] = {
        "biqa": model.head.config,
        "vae": model.autoencoder.config.to_dict(),
        "unet": {key: value for key, value in model.unet.config.items() if not key.startswith("_")},
        "scm": model.scm.config,
        "scheduler": model.schedule.config.to_dict(),
    }
    model.clip.save(folder / "clip")
    for name, config in configs.items():
        _write_json(folder / name / CONFIG, config)
    for name, module in model.modules.items():
        weights = {key: _stored(value, dtype) for key, value in module.state_dict().items()}
        save_file(weights, folder / name / WEIGHTS)
    _write_json(folder / "biqa" / CALIBRATION, model.calibration)
    sizes = {k: sum(p.numel() for p in part.parameters()) for k, part in model.modules.items()}
    _write_json(
        folder / INDEX,
        {
            "format": FORMAT,
            "scale": model.scale,
            "parts": list(PARTS),
            "parameters": sizes,
            "diffusion": model.diffusion.to_dict(),
            "taxonomy": model.taxonomy.to_dict(),
            "training": model.training,
        },
    )
    sums = [f"{_sha256(folder / name)}  {name}" for name in _model_files(folder)]
    (folder / SUMS).write_text("\n".join(sums) + "\n", encoding="utf-8")


def _model_files(folder: Path) -> list[str]:
    """The files that `SUMS` names, relative to the folder: the index, and those of the parts."""
    files = [path for part in PARTS for path in (folder / part).rglob("*")]
    stored = [path for path in files if path.suffix in (".json", ".safetensors")]
    return sorted([INDEX, *(path.relative_to(folder).as_posix() for path in stored)])


def _visible(folder: Path) -> list[Path]:
    """Everything in a model folder but what lies below `RUNS`."""
    return [p for p in folder.rglob("*") if p.relative_to(folder).parts[0] != RUNS]


def calibration_of(model: Model) -> Calibration:
    """The thresholds of a model's diagnosis."""
    return Calibration.from_dict(model.calibration)


def _stored(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """On the CPU in ``dtype``, or as it was where ``dtype`` cannot hold it."""
    value = value.detach().cpu().contiguous()
    if not value.is_floating_point():
        return value
    stored = value.to(dtype)
    return stored if bool(torch.isfinite(stored).all()) else value


def _load_weights(module: nn.Module, path: Path) -> None:
    try:
        module.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} does not fit: {error}", _DAMAGED) from error


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
