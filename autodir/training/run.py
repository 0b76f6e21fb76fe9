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
from autodir.errors import ConfigError
from autodir.prompts import load_phrases
from autodir.training.autoencoder import BATCH as AUTOENCODER_BATCH
from autodir.training.autoencoder import LEARNING_RATE as AUTOENCODER_RATE
from autodir.training.autoencoder import train_autoencoder
from autodir.training.batches import Batches
from autodir.training.biqa import BATCH as BIQA_BATCH
from autodir.training.biqa import LEARNING_RATE as BIQA_RATE
from autodir.training.biqa import SHARE as BIQA_SHARE
from autodir.training.biqa import train_biqa
from autodir.training.calibration import calibrate
from autodir.training.correction import BATCH as CORRECTION_BATCH
from autodir.training.correction import LEARNING_RATE as CORRECTION_RATE
from autodir.training.correction import train_correction
from autodir.training.data import PairPool, PhotoPool
from autodir.training.diffusion import BATCH as DIFFUSION_BATCH
from autodir.training.diffusion import LEARNING_RATE as DIFFUSION_RATE
from autodir.training.diffusion import train_diffusion
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions
from autodir.training.text import TextRecipe, train_text

logger = logging.getLogger(__name__)

SHARES: Mapping[str, float] = {
    "text": 0.04,
    "biqa": 0.2,
    "autoencoder": 0.1,
    "diffusion": 0.2,
    "correction": 0.44,
    "calibration": 0.02,
}
"""Shares of the budget of ``train all``, in the order of the stages."""


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """What a stage is given: the model so far, the data, the budget, its folder."""

    model: Model
    options: TrainOptions
    loop: LoopOptions
    run_dir: Path
    batches: Batches
    fresh: bool

    def batch(self, usual: int) -> int:
        return self.options.batch or usual


def run_part(options: TrainOptions) -> Path:
    """Train one part, or all of them in order, and write the model folder.

    A stage starts from ``options.out`` where that is a model already, else from ``options.init``,
    else from random weights. With ``resume`` a stage that was stopped goes on from its last saved
    state, and ``train all`` passes over stages that are done.

    Args:
        options: which part, on what data, for how long.

    Returns:
        The model folder.

    Raises:
        ConfigError: the data folder is missing or holds no photos.
        CheckpointError: the model to start from cannot be loaded.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, fresh = _start(options)
    model.to(device)
    photos = PhotoPool(options.data)
    pairs = PairPool(options.pairs)
    batches = Batches(photos, pairs, model.taxonomy, device=device)
    names = list(SHARES) if options.part == "all" else [options.part]
    for name in names:
        if options.part == "all" and options.resume and name in model.training:
            logger.info("%s is done already", name)
            continue
        budget = options.budget * (SHARES[name] if options.part == "all" else 1.0)
        _run_stage(name, model, options, budget, batches, fresh)
        save_model(model.eval(), options.out)
    return options.out


def _start(options: TrainOptions) -> tuple[Model, bool]:
    if (options.out / INDEX).is_file():
        return load_model(options.out), False
    if options.init is not None:
        return load_model(options.init), False
    return build_small(options.seed), True


def _run_stage(
    name: str, model: Model, options: TrainOptions, budget: float, batches: Batches, fresh: bool
) -> None:
    if name not in _STAGES:
        raise ConfigError(f"no training stage {name!r}", f"choose from {', '.join(_STAGES)}")
    rate, run = _STAGES[name]
    loop = LoopOptions(
        budget=budget,
        learning_rate=options.learning_rate or rate,
        seed=options.seed,
        resume=options.resume,
        precision="bf16" if options.precision == "auto" else options.precision,
    )
    for module in model.modules.values():
        module.train().requires_grad_(True)
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
    quality = stage.model.quality_model()
    same = stage.batches
    batches = Batches(same.photos, same.pairs, same.taxonomy, device=same.device, share=BIQA_SHARE)
    train_biqa(quality, batches, stage.loop, stage.run_dir, stage.batch(BIQA_BATCH))
    return {}


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
    )
    return {}


def _correction(stage: _Stage) -> dict[str, Any]:
    stage.model.eval()
    stage.model.scm.train().requires_grad_(True)
    train_correction(
        stage.model.scm, stage.model.latent_diffusion(), stage.batches, _instructions(stage.model),
        stage.loop, stage.run_dir, batch=stage.batch(CORRECTION_BATCH),
        sample_from=0.1 if stage.fresh else 0.0,
    )  # fmt: skip
    return {}


def _calibration(stage: _Stage) -> dict[str, Any]:
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
    "autoencoder": (AUTOENCODER_RATE, _autoencoder),
    "diffusion": (DIFFUSION_RATE, _diffusion),
    "correction": (CORRECTION_RATE, _correction),
    "calibration": (1.0, _calibration),
}
