"""The stages: each gives one training function the parts, the data and the recipe that it needs.

Apart from the run, which knows their order and budgets, and from the functions, which know no
model as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autodir.attempt import FIGURES, Attempt, evidence_of
from autodir.checkpoint import Model
from autodir.config import TrainOptions
from autodir.correction.experts import Experts
from autodir.correction.refinement import SHAPES
from autodir.diagnosis.biqa import QualityHead
from autodir.diagnosis.trial import Suspicion
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
from autodir.training.clearing import BATCH as CLEARING_BATCH
from autodir.training.clearing import LEARNING_RATE as CLEARING_RATE
from autodir.training.clearing import train_clearing
from autodir.training.correction import BATCH as CORRECTION_BATCH
from autodir.training.correction import EMPHASIS, train_correction
from autodir.training.correction import LEARNING_RATE as CORRECTION_RATE
from autodir.training.data import PhotoPool
from autodir.training.diffusion import BATCH as DIFFUSION_BATCH
from autodir.training.diffusion import EMPHASIS as DIFFUSION_EMPHASIS
from autodir.training.diffusion import LEARNING_RATE as DIFFUSION_RATE
from autodir.training.diffusion import SHARE as DIFFUSION_SHARE
from autodir.training.diffusion import train_diffusion
from autodir.training.head import EMPHASIS as HEAD_EMPHASIS
from autodir.training.head import LEARNING_RATE as HEAD_RATE
from autodir.training.head import SHARE as HEAD_SHARE
from autodir.training.head import train_head
from autodir.training.instructions import Instructions
from autodir.training.lighting import FIT as LIGHTING_FIT
from autodir.training.lighting import train_lighting
from autodir.training.locator import BATCH as LOCATOR_BATCH
from autodir.training.locator import EMPHASIS as LOCATOR_EMPHASIS
from autodir.training.locator import LEARNING_RATE as LOCATOR_RATE
from autodir.training.locator import SHARE as LOCATOR_SHARE
from autodir.training.locator import train_locator
from autodir.training.loop import LoopOptions, processes
from autodir.training.notes import Learnt
from autodir.training.refinement import BATCH as REFINEMENT_BATCH
from autodir.training.refinement import LEARNING_RATE as REFINEMENT_RATE
from autodir.training.refinement import train_refinement
from autodir.training.sharpening import FIT as SHARPENING_FIT
from autodir.training.sharpening import train_sharpening
from autodir.training.text import TextRecipe, train_text
from autodir.training.trial import LEARNING_RATE as TRIAL_RATE
from autodir.training.trial import REPAIRED, train_trial

ADAPTER_RATE = 5e-4


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


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage is given: the model so far, the data, the budget, its folder."""

    model: Model
    options: TrainOptions
    loop: LoopOptions
    run_dir: Path
    batches: Batches
    fresh: bool
    recipe: Recipe | None

    def batch(self, usual: int) -> int:
        """Crops in a step: as asked for, else the scale's, else the stage's own number."""
        return self.options.batch or (self.recipe.batch if self.recipe else usual)

    @property
    def crop(self) -> int | None:
        """Side of the crops as asked for, else the scale's; None for the stage's own."""
        return self.options.crop or (self.recipe.crop if self.recipe else None)


def _text(stage: Stage) -> dict[str, Any]:
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


def _biqa(stage: Stage) -> dict[str, Any]:
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


def _locator(stage: Stage) -> dict[str, Any]:
    head = stage.model.head
    if not isinstance(head, QualityHead):
        raise ConfigError("the published head knows no locator", "train the locator of small")
    taxonomy = stage.model.taxonomy
    keys = tuple(degradation.key for degradation in taxonomy)
    locator = head.locator  # a blend of before goes on with it: the head stage comes next
    if locator is None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stage.options.seed)
            locator = head.add_locator({"degradations": len(keys)})
    batches = stage.batches.with_share(LOCATOR_SHARE, LOCATOR_EMPHASIS)
    train_locator(
        locator, batches, keys, stage.loop, stage.run_dir, stage.batch(LOCATOR_BATCH)
    )  # fmt: skip
    return {}


def _head(stage: Stage) -> dict[str, Any]:
    if not processes().is_main_process:  # noted once, and saved by the main process
        return {}
    return train_head(
        stage.model.eval().quality_model(), stage.batches.with_share(HEAD_SHARE, HEAD_EMPHASIS),
        stage.loop.budget, stage.run_dir, seed=stage.options.seed, resume=stage.loop.resume,
    )  # fmt: skip


def _autoencoder(stage: Stage) -> dict[str, Any]:
    train_autoencoder(
        stage.model.autoencoder, stage.batches, stage.loop, stage.run_dir,
        batch=stage.batch(AUTOENCODER_BATCH), fresh=stage.fresh,
    )  # fmt: skip
    return {}


def _diffusion(stage: Stage) -> dict[str, Any]:
    stage.model.eval()
    stage.model.unet.train().requires_grad_(True)
    train_diffusion(
        stage.model.latent_diffusion(),
        stage.batches.with_share(DIFFUSION_SHARE, DIFFUSION_EMPHASIS),
        _instructions(stage.model), stage.loop, stage.run_dir, stage.batch(DIFFUSION_BATCH),
        stage.crop,
    )  # fmt: skip
    return {}


def _adapter(stage: Stage) -> dict[str, Any]:
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


def _cfw(stage: Stage) -> dict[str, Any]:
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


def _correction(stage: Stage) -> dict[str, Any]:
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


def _experts(
    stage: Stage, standing: Experts | None, add: Callable[[Mapping[str, Any]], Experts]
) -> tuple[Experts, list[str]]:
    """Experts ready to be trained, made where none stand yet, and the keys that were asked for."""
    model = stage.model
    asked = [model.taxonomy.get(key).key for key in stage.options.experts]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stage.options.seed)
        experts = standing or add(
            {"embed_dim": model.clip.embed_dim} | ({"experts": asked} if asked else {})
        )
        for key in asked:
            experts.add_expert(key)
    model.eval()
    experts.train().requires_grad_(True)
    return experts, asked


def _clearing(stage: Stage) -> dict[str, Any]:
    model = stage.model
    clearing, asked = _experts(stage, model.scm.clearing, model.scm.add_clearing)
    train_clearing(
        model.scm, stage.batches, _instructions(model), stage.loop, stage.run_dir,
        trunk=model.head.locator if isinstance(model.head, QualityHead) else None,
        experts=asked, batch=stage.batch(CLEARING_BATCH), crop=stage.crop,
    )  # fmt: skip
    return {"experts": asked or list(clearing.experts)}


def _refinement(stage: Stage) -> dict[str, Any]:
    model = stage.model
    refinement, asked = _experts(
        stage,
        model.scm.refinement,
        lambda config: model.scm.add_refinement({**config, "shapes": SHAPES}),
    )
    train_refinement(
        model.scm, model.latent_diffusion(), stage.batches, _instructions(model), stage.loop,
        stage.run_dir, experts=asked, batch=stage.batch(REFINEMENT_BATCH), crop=stage.crop,
    )  # fmt: skip
    return {"experts": asked or list(refinement.experts)}


def _lighting(stage: Stage) -> dict[str, Any]:
    if not processes().is_main_process:  # noted once, and saved by the main process
        return {}
    model = stage.model
    _, asked = _experts(stage, model.scm.lighting, model.scm.add_lighting)
    learnt = train_lighting(
        model.scm, model.latent_diffusion(), stage.batches, _instructions(model), stage.loop,
        stage.run_dir, experts=asked,
    )  # fmt: skip
    return _noted(learnt)


def _trial(stage: Stage) -> dict[str, Any]:
    if not processes().is_main_process:  # noted once, and saved by the main process
        return {}
    model, head = stage.model.eval(), stage.model.head
    if not isinstance(head, QualityHead):
        raise ConfigError("the published head tries no suspicion", "train the trial of small")
    diffusion = model.latent_diffusion()
    evidence = evidence_of(model, diffusion)
    keys = [model.taxonomy.get(key).key for key in stage.options.experts] or list(evidence)
    if missing := [key for key in keys if key not in evidence]:
        raise ConfigError(
            f"nothing tells whether a suspicion of {missing[0]} is right",
            f"--experts knows {', '.join(evidence)}",
        )
    before = {key: Attempt(model, diffusion, key) for key in REPAIRED}
    learnt = dict[str, dict[str, Any]]()
    for key in keys:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stage.options.seed)
            tried = head.add_trial(key, {"figures": FIGURES[key]})
        folder = stage.run_dir.with_name(f"{stage.run_dir.name}-{key}")
        learnt[key] = train_trial(
            Suspicion(key, tried, evidence[key]), stage.batches, stage.loop.budget / len(keys),
            folder, before=before, seed=stage.options.seed, resume=stage.loop.resume,
        )  # fmt: skip
    return {
        "experts": keys,
        "measured": {
            f"{name}_{key}": share
            for key, one in learnt.items()
            for name, share in one["measured"].items()
        },
        "noted": {key: one["noted"] for key, one in learnt.items()},
    }


def _sharpening(stage: Stage) -> dict[str, Any]:
    if not processes().is_main_process:  # noted once, and saved by the main process
        return {}
    model = stage.model
    _, asked = _experts(stage, model.scm.sharpening, model.scm.add_sharpening)
    learnt = train_sharpening(
        model.scm, stage.batches, _instructions(model), stage.loop, stage.run_dir, experts=asked
    )
    return _noted(learnt)


def _noted(learnt: Mapping[str, Learnt]) -> dict[str, Any]:
    return {
        "experts": list(learnt),
        "measured": {f"beyond_db_{key}": round(one.gained, 3) for key, one in learnt.items()},
        "noted": {key: one.photos for key, one in learnt.items()},
        "noting_seconds": {key: round(one.seconds, 1) for key, one in learnt.items()},
    }


def _calibration(stage: Stage) -> dict[str, Any]:
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


STAGES: Mapping[str, tuple[float, Callable[[Stage], dict[str, Any]]]] = {
    "text": (TextRecipe().learning_rate, _text),
    "biqa": (BIQA_RATE, _biqa),
    "locator": (LOCATOR_RATE, _locator),
    "head": (HEAD_RATE, _head),
    "autoencoder": (AUTOENCODER_RATE, _autoencoder),
    "diffusion": (DIFFUSION_RATE, _diffusion),
    "correction": (CORRECTION_RATE, _correction),
    "clearing": (CLEARING_RATE, _clearing),
    "sharpening": (SHARPENING_FIT.rate, _sharpening),
    "refinement": (REFINEMENT_RATE, _refinement),
    "lighting": (LIGHTING_FIT.rate, _lighting),
    "trial": (TRIAL_RATE, _trial),
    "adapter": (ADAPTER_RATE, _adapter),
    "cfw": (WRAPPING_RATE, _cfw),
    "calibration": (1.0, _calibration),
}
