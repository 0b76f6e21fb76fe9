"""The refinement stage: dense convolutions learn what the frozen NAFNet leaves over.

Apart from the correction stage: everything before the refinement is frozen, so that one sampled and
corrected crop serves many steps.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from autodir.correction.scm import StructureCorrector
from autodir.diffusion.model import LatentDiffusion
from autodir.errors import ContractError
from autodir.training.batches import Batches
from autodir.training.correction import BLIND, restored_of
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions, fit
from autodir.training.losses import relative_error
from autodir.training.replay import Replay
from autodir.training.samples import save_sheet

CROP = 128
"""Side in pixels of the crops that the frozen parts work on."""
WINDOW = 72
"""Side in pixels of the windows of them that a step sees."""
BATCH = 16
LEARNING_RATE = 1.2e-3
SAMPLED = 0.85
"""Share of the batches with sampled images; in the others the degraded photo takes their place."""
REUSED = 10
"""Steps for each new batch: a step sees a third of a crop."""
FLOOR = 1e-4
"""Squared error that is good enough (40 dB): weak noise and compression are to be repaired too."""

SHARE = (0.82, 0.15, 0.03)
EMPHASIS = {
    "noise": 2.6, "blur": 0.8, "rain": 1.3, "haze": 0.4, "low_resolution": 1.3, "raindrop": 0.2,
    "compression": 1.7, "underexposure": 0.6,
}  # fmt: skip
"""What is local comes more often; the NAFNet has done what there is to do against veils."""


def train_refinement(  # noqa: PLR0913 - the recipe in full
    corrector: StructureCorrector,
    diffusion: LatentDiffusion | None,
    batches: Batches,
    instructions: Instructions,
    options: LoopOptions,
    run_dir: Path,
    *,
    batch: int = BATCH,
    crop: int | None = None,
    reuse: int = REUSED,
) -> StructureCorrector:
    """Train the refinement of a corrector in place at w = 1, loss in decibels of each image.

    Args:
        corrector: the SCM with a refinement; its network stays as it is.
        diffusion: frozen; sampled with its default steps. None trains behind the correction alone.
        batches: source of degraded crops and targets; `SHARE` and `EMPHASIS` serve best.
        instructions: source of the text embeddings.
        options: schedule and budget.
        run_dir: logs, samples and resumable state.
        batch: windows in a step, and crops in a new batch.
        crop: side of the crops in pixels; `CROP` by default.
        reuse: steps for each new batch.

    Returns:
        The corrector with the averaged refinement.

    Raises:
        ContractError: the corrector has no refinement.
    """
    refinement = corrector.refinement
    if refinement is None:
        raise ContractError("this corrector has no refinement to train")
    side = crop or CROP
    window = min(WINDOW, side)
    blind = [] if batches.chain else [batches.with_chain(chain) for chain in BLIND]
    sources = [batches] * max(1, len(blind)) + blind

    @torch.no_grad()
    def make(generator: torch.Generator, progress: float) -> list[Tensor]:
        source = sources[int(torch.randint(len(sources), (), generator=generator))]
        drawn = source.draw(batch, side, generator)
        told = instructions.draw(drawn.label, generator)
        restored = restored_of(diffusion, drawn, told, generator, SAMPLED)
        with corrector.unrefined():
            corrected = restored + corrector(drawn.degraded, restored, told.pooled)
        return [drawn.degraded, restored, corrected, drawn.target, told.pooled]

    replay = Replay(make, every=reuse, batch=batch)

    def loss(
        network: nn.Module, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        *images, told = replay.draw(generator, progress)
        top, left = torch.randint(side - window + 1, (2,), generator=generator).tolist()
        degraded, restored, corrected, target = (
            image[..., top : top + window, left : left + window] for image in images
        )
        result = corrected + network(degraded, restored, corrected, told)
        with torch.no_grad():
            gains = {
                name: (10 * (_error(before, target) / _error(result, target)).log10()).mean()
                for name, before in (("gain_db", degraded), ("beyond_db", corrected))
            }
        return relative_error(result, target, FLOOR).mean(), gains

    show = torch.Generator().manual_seed(1)
    examples = make(show, 1.0)

    def sample(network: nn.Module, path: Path) -> None:
        degraded, restored, corrected, target, told = (part.float() for part in examples)
        result = corrected + network(degraded, restored, corrected, told)
        save_sheet([degraded, corrected, result, target], path)

    fit(refinement, loss, options, run_dir, sample)
    return corrector


def _error(image: Tensor, target: Tensor) -> Tensor:
    return (image - target).square().mean((1, 2, 3)).clamp_min(1e-5)
