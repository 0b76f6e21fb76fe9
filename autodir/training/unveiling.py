"""The unveiling stage: how dense a veil is at every place of many scenes.

Apart from the clearing stage: a crop is a scene of its own here, most of a photo, and nobody tells
where haze lies, since it lies everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from autodir.correction.scm import StructureCorrector
from autodir.correction.unveiling import Unveiler, lifted
from autodir.errors import ContractError
from autodir.imaging.grain import GrainTrunk
from autodir.training.batches import Batches
from autodir.training.clearing import begin_with
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions, fit
from autodir.training.losses import decibels_gained, relative_error
from autodir.training.refinement import route, turns
from autodir.training.replay import Replay
from autodir.training.samples import save_sheet
from autodir.training.weather import grayed, weathered

CROP = 224
"""Side of the crops in pixels."""
BATCH = 8
SCALE = (0.12, 0.7)
"""Of the photos: most of each is seen."""
LEARNING_RATE = 2e-3
REUSED = 4
"""Steps for each new batch."""
CAPACITY = 900
FLOOR = 3e-4
"""Squared error that is good enough (35 dB)."""


def train_unveiling(  # noqa: PLR0913 - the recipe in full
    corrector: StructureCorrector,
    batches: Batches,
    instructions: Instructions,
    options: LoopOptions,
    run_dir: Path,
    *,
    trunk: GrainTrunk | None = None,
    experts: Sequence[str] = (),
    batch: int = BATCH,
    crop: int | None = None,
) -> StructureCorrector:
    """Train the experts of veils, each for its share of the budget.

    Args:
        corrector: the SCM with an unveiling; all else of it stays as it is.
        batches: source of degraded photos and targets; each expert sees its degradation alone.
        instructions: source of the text embeddings.
        options: schedule and budget of all of them together.
        run_dir: logs, samples and resumable state of each, in ``<run_dir>-<degradation>``.
        trunk: of a locator; a fresh expert of the same shape begins with its features.
        experts: the degradations whose experts are trained, fresh ones where there are none yet;
            all that the corrector has by default.
        batch: photos in a step, and in a new batch.
        crop: side of the crops in pixels; `CROP` by default.

    Returns:
        The corrector with averaged experts and a gate that knows them.

    Raises:
        ContractError: the corrector has no unveiling.
    """
    unveiling = corrector.unveiling
    if unveiling is None:
        raise ContractError("this corrector has no unveiling to train")
    for key, own, folder in turns(unveiling, experts, options, run_dir):
        expert = unveiling.add_expert(key)
        assert isinstance(expert, Unveiler)
        if trunk is not None and not expert.out.weight.any():
            begin_with(expert, trunk)
        _train_expert(expert, batches.alone(key), own, folder, batch, crop or CROP)
    route(unveiling, instructions, options.seed)
    return corrector


def _train_expert(
    expert: Unveiler, source: Batches, options: LoopOptions, run_dir: Path, batch: int, side: int
) -> None:
    """Train one expert in place, loss in decibels of each photo."""

    @torch.no_grad()
    def make(generator: torch.Generator, progress: float) -> list[Tensor]:
        drawn = source.draw(batch, side, generator, scale=SCALE)
        degraded, target = grayed(drawn.degraded, drawn.target, generator)
        return [weathered(degraded, generator), target]

    replay = Replay(make, every=REUSED, batch=batch, capacity=CAPACITY)

    def loss(
        network: nn.Module, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        degraded, target = replay.draw(generator, progress)
        result = lifted(degraded, *network(degraded))
        with torch.no_grad():
            gained = decibels_gained(degraded, result.clamp(0, 1), target).mean()
        return relative_error(result, target, FLOOR).mean(), {"gain_db": gained}

    examples = make(torch.Generator().manual_seed(1), 1.0)

    def sample(network: nn.Module, path: Path) -> None:
        degraded, target = examples
        slope, offset, air = network(degraded)
        dense = slope * degraded.mean(1, keepdim=True) + offset
        result = lifted(degraded, slope, offset, air).clamp(0, 1)
        transmission = (1 / (1 + dense)).clamp(0, 1).expand_as(degraded)
        save_sheet([degraded, transmission, result, target], path)

    fit(expert, loss, options, run_dir, sample)
