"""From clean photos to a model folder: the stages in order, each within its share of the budget.

Apart from the stages, which know no files: here stand the order, the shares, and what is saved
where.
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autodir.checkpoint import INDEX, RUNS, Model, build_small, load_model, save_model
from autodir.config import TrainOptions
from autodir.diagnosis.biqa import QualityHead
from autodir.diffusion.adapters import build_adapter
from autodir.diffusion.wrapping import FeatureWrapping
from autodir.errors import ConfigError
from autodir.prompts import load_phrases
from autodir.training.autoencoder import BATCH as AUTOENCODER_BATCH
from autodir.training.autoencoder import LEARNING_RATE as AUTOENCODER_RATE
from autodir.training.autoencoder import train_autoencoder
from autodir.training.batches import Batches
from autodir.training.biqa import BATCH as BIQA_BATCH
from autodir.training.biqa import EMPHASIS as BIQA_EMPHASIS
from autodir.training.biqa import LEARNING_RATE as BIQA_RATE
from autodir.training.biqa import SHARE as BIQA_SHARE
from autodir.training.biqa import train_biqa
from autodir.training.calibration import calibrate
from autodir.training.cfw import BATCH as WRAPPING_BATCH
from autodir.training.cfw import LEARNING_RATE as WRAPPING_RATE
from autodir.training.cfw import train_wrapping
from autodir.training.correction import BATCH as CORRECTION_BATCH
from autodir.training.correction import EMPHASIS, train_correction
from autodir.training.correction import LEARNING_RATE as CORRECTION_RATE
from autodir.training.data import PairPool, PhotoPool
from autodir.training.diffusion import BATCH as DIFFUSION_BATCH
from autodir.training.diffusion import LEARNING_RATE as DIFFUSION_RATE
from autodir.training.diffusion import train_diffusion
from autodir.training.head import LEARNING_RATE as HEAD_RATE
from autodir.training.head import SHARE as HEAD_SHARE
from autodir.training.head import train_head
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions, processes
from autodir.training.text import TextRecipe, train_text

logger = logging.getLogger(__name__)

Start = Callable[[Path], None]
"""Writes a model folder to start from."""

SHARES: Mapping[str, float] = {
    "text": 0.04,
    "biqa": 0.16,
    "head": 0.04,
    "autoencoder": 0.1,
    "diffusion": 0.2,
    "correction": 0.44,
    "calibration": 0.02,
}
"""Shares of the budget of ``train all``, in the order of the stages."""

ADAPTER_RATE = 5e-4
EXTRAS = ("adapter", "cfw")
"""Stages of optional parts, which ``train all`` leaves out."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a scale has otherwise than the stage's own module says.

    Attributes:
        rate: peak learning rate.
        batch: crops in a step, in each process.
        crop: side of the crops in pixels; of the diagnosis, the largest of three.
        steps: sampling steps while the correction is trained.
    """

    rate: float
    batch: int
    crop: int
    steps: int | None = None


SD15: Mapping[str, Recipe] = {
    "biqa": Recipe(rate=3e-6, batch=16, crop=512),
    "diffusion": Recipe(rate=1e-4, batch=8, crop=512),
    "correction": Recipe(rate=1e-3, batch=4, crop=256, steps=8),
}
"""Stages of the published shapes. Text tower and autoencoder come trained and stay as they are: the
U-Net has learnt to read the one and to write for the other."""


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """What a stage is given: the model so far, the data, the budget, its folder."""

    model: Model
    options: TrainOptions
    loop: LoopOptions
    run_dir: Path
    batches: Batches
    fresh: bool
    recipe: Recipe | None

    def batch(self, usual: int) -> int:
        return self.options.batch or (self.recipe.batch if self.recipe else usual)

    @property
    def crop(self) -> int | None:
        return self.options.crop or (self.recipe.crop if self.recipe else None)


def run_part(options: TrainOptions, start: Start | None = None) -> Path:
    """Train one part, or all of them in order, and write the model folder.

    A stage starts from ``options.out`` where that is a model already, else from ``options.init``,
    else from random weights. With ``resume`` a stage that was stopped goes on from its last saved
    state, and ``train all`` passes over stages that are done.

    Args:
        options: which part, on what data, for how long.
        start: writes the model to start from into ``options.out`` where there is none yet.

    Returns:
        The model folder. Of several processes the first one writes it.

    Raises:
        ConfigError: the data folder is missing or holds no photos.
        CheckpointError: the model to start from cannot be loaded.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    together = processes()
    if start is not None and together.is_main_process and not (options.out / INDEX).is_file():
        start(options.out)
    together.wait_for_everyone()
    device = together.device
    model, fresh = _start(options)
    model.to(device)
    photos = PhotoPool(options.data)
    pairs = PairPool(options.pairs)
    batches = Batches(photos, pairs, model.taxonomy, device=device, chain=options.second_order)
    recipes = SD15 if model.scale == "sd15" else None
    names = stages_of(options.part, model.scale)
    whole = sum(SHARES.get(name, 1.0) for name in names)
    for name in names:
        if options.part == "all" and options.resume and name in model.training:
            logger.info("%s is done already", name)
            continue
        budget = options.budget * SHARES.get(name, 1.0) / whole
        recipe = recipes.get(name) if recipes else None
        _run_stage(name, model, options, budget, batches, fresh, recipe)
        if together.is_main_process:
            save_model(model.eval(), options.out)
        together.wait_for_everyone()
    return options.out


def stages_of(part: str, scale: str) -> list[str]:
    """The stages that a part stands for, in order.

    Raises:
        ConfigError: the part is one that this scale takes as it comes.
    """
    own = [name for name in SHARES if scale != "sd15" or name in (*SD15, "calibration")]
    if part == "all":
        return own
    if part in EXTRAS:
        return [part]
    if part not in own:
        raise ConfigError(
            f"{scale} takes its {part} as it comes", f"train one of {', '.join(own)}, or all"
        )
    return [part]


def _start(options: TrainOptions) -> tuple[Model, bool]:
    if (options.out / INDEX).is_file():
        return load_model(options.out), False
    if options.init is not None:
        return load_model(options.init), False
    return build_small(options.seed), True


def _run_stage(
    name: str, model: Model, options: TrainOptions, budget: float, batches: Batches, fresh: bool,
    recipe: Recipe | None,
) -> None:  # fmt: skip
    if name not in _STAGES:
        raise ConfigError(f"no training stage {name!r}", f"choose from {', '.join(_STAGES)}")
    rate, run = _STAGES[name]
    loop = LoopOptions(
        budget=budget,
        learning_rate=options.learning_rate or (recipe.rate if recipe else rate),
        seed=options.seed,
        resume=options.resume,
        precision="bf16" if options.precision == "auto" else options.precision,
    )
    for module in model.modules.values():
        # Convolutions read pixel by pixel: up to twice as fast, for the frozen parts too.
        module.to(memory_format=torch.channels_last).train().requires_grad_(True)
    if options.checkpointing:
        _recompute(model)
    run_dir = options.out / RUNS / name
    never = name not in model.training
    started = time.time()
    logger.info("stage %s: %.0f s", name, budget)
    stage = _Stage(
        model=model,
        options=options,
        loop=loop,
        run_dir=run_dir,
        batches=batches,
        fresh=fresh or never,
        recipe=recipe,
    )
    figures = run(stage)
    rounds = model.training.setdefault(name, [])
    rounds.append(
        {
            "seconds": round(_elapsed(run_dir, time.time() - started), 1),
            "learning_rate": loop.learning_rate,
            "seed": options.seed,
            "photos": len(batches.photos),
            "pairs": {key: len(pairs) for key, pairs in batches.pairs.pairs.items()},
            "device": str(batches.device),
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            **figures,
        }
    )


def _recompute(model: Model) -> None:
    """Let the large networks compute activations again in the backward pass (arXiv:1604.06174)."""
    model.unet.enable_gradient_checkpointing()
    model.scm.network.checkpointing = True
    tower = model.clip.towers.visual
    if hasattr(tower, "set_grad_checkpointing"):
        tower.set_grad_checkpointing()


def _elapsed(run_dir: Path, seconds: float) -> float:
    """The seconds of a stage, those before a resume included, where its loop noted them."""
    clock = run_dir / "state.json"
    if not clock.is_file():
        return seconds
    return float(json.loads(clock.read_text(encoding="utf-8"))["elapsed"])


def _text(stage: _Stage) -> dict[str, Any]:
    recipe = TextRecipe()
    figures = train_text(
        stage.model.clip,
        budget=stage.loop.budget,
        seed=stage.options.seed,
        run_dir=stage.run_dir,
        recipe=recipe,
        resume=stage.loop.resume,
    )
    return {"measured": dict(figures)}


def _biqa(stage: _Stage) -> dict[str, Any]:
    if isinstance(stage.model.head, QualityHead):
        stage.model.head.drop_blend()  # it would belong to the tower of before
    quality = stage.model.quality_model()
    batches = stage.batches.with_share(BIQA_SHARE, BIQA_EMPHASIS)
    side = stage.crop
    train_biqa(
        quality, batches, stage.loop, stage.run_dir, stage.batch(BIQA_BATCH),
        (side // 2, side * 3 // 4, side) if side else None,
    )  # fmt: skip
    return {}


def _head(stage: _Stage) -> dict[str, Any]:
    if not processes().is_main_process:  # noted once, and saved by the main process
        return {}
    return train_head(
        stage.model.eval().quality_model(), stage.batches.with_share(HEAD_SHARE),
        stage.loop.budget, stage.run_dir, seed=stage.options.seed, resume=stage.loop.resume,
    )  # fmt: skip


def _autoencoder(stage: _Stage) -> dict[str, Any]:
    train_autoencoder(
        stage.model.autoencoder, stage.batches, stage.loop, stage.run_dir,
        batch=stage.batch(AUTOENCODER_BATCH), fresh=stage.fresh,
    )  # fmt: skip
    return {}


def _diffusion(stage: _Stage) -> dict[str, Any]:
    stage.model.eval()
    stage.model.unet.train().requires_grad_(True)
    diffusion = stage.model.latent_diffusion()
    train_diffusion(
        diffusion,
        stage.batches,
        _instructions(stage.model),
        stage.loop,
        stage.run_dir,
        stage.batch(DIFFUSION_BATCH),
        stage.crop,
    )
    return {}


def _adapter(stage: _Stage) -> dict[str, Any]:
    """The U-Net is frozen; a fresh adapter, or the one of the same kind, learns its loss."""
    model, kind = stage.model, stage.options.kind
    if model.adapter is None or model.adapter.config["kind"] != kind:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stage.options.seed)
            model.adapter = build_adapter({"kind": kind}, model.unet).to(stage.batches.device)
    model.eval()
    model.adapter.train().requires_grad_(True)
    train_diffusion(
        model.latent_diffusion(), stage.batches, _instructions(model), stage.loop, stage.run_dir,
        stage.batch(DIFFUSION_BATCH), stage.crop,
    )  # fmt: skip
    return {"kind": kind}


def _cfw(stage: _Stage) -> dict[str, Any]:
    model = stage.model
    if model.wrapping is None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stage.options.seed)
            fresh = FeatureWrapping.beside(model.autoencoder)
        model.wrapping = fresh.to(stage.batches.device)
    model.eval()
    model.wrapping.train().requires_grad_(True)
    train_wrapping(
        model.wrapping, model.latent_diffusion(), stage.batches, _instructions(model), stage.loop,
        stage.run_dir, stage.batch(WRAPPING_BATCH),
    )  # fmt: skip
    return {}


def _correction(stage: _Stage) -> dict[str, Any]:
    stage.model.eval()
    stage.model.scm.train().requires_grad_(True)
    batches = stage.batches.with_share(stage.batches.share, EMPHASIS)
    train_correction(
        stage.model.scm, stage.model.latent_diffusion(), batches, _instructions(stage.model),
        stage.loop, stage.run_dir, batch=stage.batch(CORRECTION_BATCH),
        sample_from=0.1 if stage.fresh else 0.0, crop=stage.crop,
        steps=stage.recipe.steps if stage.recipe else None,
    )  # fmt: skip
    return {}


def _calibration(stage: _Stage) -> dict[str, Any]:
    if not processes().is_main_process:  # measured once, and saved by the main process
        return {}
    stage.model.eval()
    photos = PhotoPool(stage.options.data, held_out=True)
    stage.model.calibration = calibrate(
        stage.model.quality_model(), photos, stage.loop.budget, stage.options.seed
    )
    return {}


def _instructions(model: Model) -> Instructions:
    return Instructions(model.clip, model.taxonomy, load_phrases())


_STAGES: Mapping[str, tuple[float, Callable[[_Stage], dict[str, Any]]]] = {
    "text": (TextRecipe().learning_rate, _text),
    "biqa": (BIQA_RATE, _biqa),
    "head": (HEAD_RATE, _head),
    "autoencoder": (AUTOENCODER_RATE, _autoencoder),
    "diffusion": (DIFFUSION_RATE, _diffusion),
    "correction": (CORRECTION_RATE, _correction),
    "adapter": (ADAPTER_RATE, _adapter),
    "cfw": (WRAPPING_RATE, _cfw),
    "calibration": (1.0, _calibration),
}
