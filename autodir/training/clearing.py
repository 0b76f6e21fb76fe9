"""The clearing stage: what lies on the lens is found, and the scene behind it told.

Apart from the refinement stage: the photo alone is seen, nothing frozen stands before it, and what
is learnt here begins with what the locator has learnt of grain.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.correction.clearing import Clearer, enlarged
from autodir.correction.scm import StructureCorrector
from autodir.errors import ContractError
from autodir.imaging.grain import CELL, GrainTrunk
from autodir.training.batches import Batches
from autodir.training.instructions import Instructions
from autodir.training.locator import VISIBLE
from autodir.training.loop import LoopOptions, fit
from autodir.training.losses import decibels_gained, relative_error
from autodir.training.refinement import route, turns
from autodir.training.replay import Replay
from autodir.training.samples import save_sheet
from autodir.training.weather import grayed, weathered

CROP = 256
"""Side of the crops in pixels: a drop and as much around it."""
BATCH = 8
SCALE = (0.35, 1.0)
LEAST_SEVERITY = 0.1
LEARNING_RATE = 2e-3
REUSED = 5
"""Steps for each new batch: drops are drawn one by one."""
CAPACITY = 700
FLOOR = 1e-4
"""Squared error that is good enough (40 dB)."""
HINT = 0.3
"""Weight of the loss that tells where something lies."""


def train_clearing(  # noqa: PLR0913 - the recipe in full
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
    """Train the experts of what lies on the lens, each for its share of the budget.

    Args:
        corrector: the SCM with a clearing; all else of it stays as it is.
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
        ContractError: the corrector has no clearing.
    """
    clearing = corrector.clearing
    if clearing is None:
        raise ContractError("this corrector has no clearing to train")
    for key, own, folder in turns(clearing, experts, options, run_dir):
        expert = clearing.add_expert(key)
        assert isinstance(expert, Clearer)
        if trunk is not None and not expert.out.weight.any():
            begin_with(expert, trunk)
        _train_expert(expert, batches.alone(key), own, folder, batch, crop or CROP)
    route(clearing, instructions, options.seed)
    return corrector


def begin_with(expert: Clearer, trunk: GrainTrunk) -> None:
    """Give an expert the features of a trunk, where both are of one shape."""
    for own, other in ((expert.stem, trunk.stem), (expert.body, trunk.body)):
        learnt, mine = other.state_dict(), own.state_dict()
        if {key: value.shape for key, value in mine.items()} == {
            key: value.shape for key, value in learnt.items()
        }:
            own.load_state_dict(learnt)


def _train_expert(
    expert: Clearer, source: Batches, options: LoopOptions, run_dir: Path, batch: int, side: int
) -> None:
    """Train one expert in place, loss in decibels of each photo, and told where something lies."""

    @torch.no_grad()
    def make(generator: torch.Generator, progress: float) -> list[Tensor]:
        drawn = source.draw(batch, side, generator, scale=SCALE, least=LEAST_SEVERITY)
        degraded, target = grayed(drawn.degraded, drawn.target, generator)
        return [weathered(degraded, generator), target]

    replay = Replay(make, every=REUSED, batch=batch, capacity=CAPACITY)

    def loss(
        network: nn.Module, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        degraded, target = replay.draw(generator, progress)
        cover, slope, offset = network(degraded)
        result = _applied(degraded, slope, offset)
        change = F.avg_pool2d((degraded - target).abs().mean(1, keepdim=True), CELL, ceil_mode=True)
        cover = cover[..., : change.shape[-2], : change.shape[-1]]
        with torch.autocast(cover.device.type, enabled=False):  # it refuses this loss in bfloat16
            hint = F.binary_cross_entropy(
                cover.float().clamp(1e-4, 1 - 1e-4), (change.float() / VISIBLE).clamp(0, 1)
            )
        with torch.no_grad():
            gained = decibels_gained(degraded, result, target).mean()
        told = relative_error(result, target, FLOOR).mean()
        return told + HINT * hint, {"gain_db": gained, "hint": hint.detach()}

    examples = make(torch.Generator().manual_seed(1), 1.0)

    def sample(network: nn.Module, path: Path) -> None:
        degraded, target = examples
        cover, slope, offset = network(degraded)
        shown = enlarged(cover, *degraded.shape[-2:]).expand_as(degraded)
        save_sheet([degraded, shown, _applied(degraded, slope, offset), target], path)

    fit(expert, loss, options, run_dir, sample)


def _applied(photo: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    size = photo.shape[-2:]
    return photo + enlarged(slope, *size) * photo + enlarged(offset, *size)
