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
from pathlib import Path

import torch

from autodir.checkpoint import INDEX, RUNS, Model, build_small, load_model, save_model
from autodir.config import TrainOptions
from autodir.errors import ConfigError
from autodir.training.batches import Batches
from autodir.training.data import PairPool, PhotoPool
from autodir.training.loop import LoopOptions, processes
from autodir.training.stages import STAGES, Recipe, Stage

logger = logging.getLogger(__name__)

Start = Callable[[Path], None]
"""Writes a model folder to start from."""

SHARES: Mapping[str, float] = {
    "text": 0.04,
    "biqa": 0.14,
    "locator": 0.1,
    "head": 0.04,
    "autoencoder": 0.1,
    "diffusion": 0.15,
    "correction": 0.15,
    "clearing": 0.04,
    "sharpening": 0.03,
    "refinement": 0.14,
    "lighting": 0.04,
    "trial": 0.01,
    "calibration": 0.02,
}
"""Shares of the budget of ``train all``, in the order of the stages."""

EXTRAS = ("adapter", "cfw")
"""Stages of optional parts, which ``train all`` leaves out."""


SD15: Mapping[str, Recipe] = {
    "biqa": Recipe(rate=3e-6, batch=16, crop=512),
    "diffusion": Recipe(rate=1e-4, batch=8, crop=512),
    "correction": Recipe(rate=1e-3, batch=4, crop=256, steps=8),
}
"""Stages of the published shapes. Text tower and autoencoder come trained and stay as they are: the
U-Net has learnt to read the one and to write for the other."""


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
    if name not in STAGES:
        raise ConfigError(f"no training stage {name!r}", f"choose from {', '.join(STAGES)}")
    rate, run = STAGES[name]
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
    started, before = time.time(), _clocks(run_dir)
    logger.info("stage %s: %.0f s", name, budget)
    stage = Stage(
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
    after = _clocks(run_dir)
    moved = [clock for clock, elapsed in after.items() if elapsed != before.get(clock)]
    # A clock goes on with the run, one that had ended included: that one is told by the new row.
    went_on = round(sum(before.get(clock, 0.0) for clock in moved), 1) if options.resume else 0.0
    if went_on and rounds and rounds[-1].get("seconds") == went_on:
        rounds.pop()
    spent = sum(after[clock] for clock in moved) if moved else time.time() - started
    rounds.append(
        {
            "seconds": round(spent, 1),
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


def _clocks(run_dir: Path) -> dict[Path, float]:
    """The seconds that the loops of a stage have noted, those of its experts apart."""
    folders = [run_dir, *run_dir.parent.glob(f"{run_dir.name}-*")]
    clocks = [folder / "state.json" for folder in folders]
    return {
        clock: float(json.loads(clock.read_text(encoding="utf-8"))["elapsed"])
        for clock in clocks
        if clock.is_file()
    }
