"""The correction stage: the SCM learns on what the diffusion really samples (AutoDIR, L_SCM).

Apart from the diffusion stage, whose networks are frozen here.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from autodir.correction.scm import StructureCorrector
from autodir.diffusion.model import LatentDiffusion
from autodir.records import NoiseSource, TextEmbedding
from autodir.training.batches import Batches, Drawn
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions, fit
from autodir.training.losses import decibels_gained, relative_error
from autodir.training.replay import Replay
from autodir.training.samples import save_sheet

CROP = 128
BATCH = 16
LEARNING_RATE = 3e-3
SAMPLED = 0.6
"""Share of the batches with sampled images.

In the others the degraded photo takes their place, so that the correction also stands alone.
"""
REUSED = 3
"""Steps for each new batch: sampling one costs as much as a step."""
ENLARGED = 0.3
"""Share of the sampled batches that are sampled on a copy of half the size.

Large photos are worked on as smaller copies too, and come back soft.
"""

EMPHASIS = {
    "noise": 1.2, "blur": 0.7, "rain": 2.6, "haze": 1.4, "low_resolution": 1.3, "raindrop": 0.5,
    "compression": 0.8, "underexposure": 0.7,
}  # fmt: skip
"""What is scattered or has to be invented comes more often; darkness is only multiplied, and blur
and drops have hardly moved in any budget so far."""


def train_correction(  # noqa: PLR0913 - the recipe in full
    corrector: StructureCorrector,
    diffusion: LatentDiffusion | None,
    batches: Batches,
    instructions: Instructions,
    options: LoopOptions,
    run_dir: Path,
    *,
    batch: int = BATCH,
    sample_from: float = 0.0,
    crop: int | None = None,
    steps: int | None = None,
    reuse: int = REUSED,
) -> StructureCorrector:
    """Train the corrector in place at w = 1, loss in decibels of each image.

    Args:
        corrector: the SCM.
        diffusion: frozen; sampled with its default steps. None trains the correction alone.
        batches: source of degraded crops and targets.
        instructions: source of the text embeddings.
        options: schedule and budget.
        run_dir: logs, samples and resumable state.
        batch: crops in a step.
        sample_from: share of the budget after which sampled images are used; before it the degraded
            photo stands in for them, which costs a third.
        crop: side of the crops in pixels; `CROP` by default.
        steps: sampling steps; the model's own number by default.
        reuse: steps for each new batch.

    Returns:
        The averaged corrector.
    """
    side = crop or CROP

    sources = batches.with_blind()

    def make(generator: torch.Generator, progress: float) -> list[Tensor]:
        source = sources[int(torch.randint(len(sources), (), generator=generator))]
        drawn = source.draw(batch, side, generator)
        text = instructions.draw(drawn.label, generator)
        share = SAMPLED if progress >= sample_from else 0.0
        restored = restored_of(diffusion, drawn, text, generator, share, steps)
        return [drawn.degraded, restored, drawn.target, text.pooled]

    replay = Replay(make, every=reuse, batch=batch)

    def loss(
        network: nn.Module, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        degraded, restored, target, told = replay.draw(generator, progress)
        result = restored + network(degraded, restored, told)
        with torch.no_grad():
            gain = decibels_gained(degraded, result, target)
        return relative_error(result, target).mean(), {"gain_db": gain.mean()}

    show = torch.Generator().manual_seed(1)
    examples = batches.draw(8, side, show)
    told = instructions.draw(examples.label, show)

    def sample(network: nn.Module, path: Path) -> None:
        seeded = torch.Generator().manual_seed(1)
        restored = restored_of(diffusion, examples, told, seeded, SAMPLED, steps)
        result = restored + network(examples.degraded, restored, told.pooled)
        save_sheet([examples.degraded, restored, result, examples.target], path)

    with corrector.unrefined():  # a refinement learns later, from what this leaves over
        fit(corrector, loss, options, run_dir, sample)
    return corrector


@torch.no_grad()
def restored_of(
    diffusion: LatentDiffusion | None,
    drawn: Drawn,
    text: TextEmbedding,
    generator: torch.Generator,
    share: float,
    steps: int | None = None,
) -> Tensor:
    """What the diffusion makes of a batch, or the degraded photos themselves, (B, 3, S, S).

    Args:
        diffusion: frozen; None never samples.
        drawn: the batch.
        text: its instructions.
        generator: decides, and seeds the noise.
        share: of the batches that are sampled; `ENLARGED` of these on a copy of half the size.
        steps: sampling steps; the model's own number by default.
    """
    if diffusion is None or float(torch.rand((), generator=generator)) > share:
        return drawn.degraded
    seed = int(torch.randint(2**31, (), generator=generator))
    shrunk = float(torch.rand((), generator=generator)) < ENLARGED
    height, width = drawn.degraded.shape[-2:]
    area = height * width // 4 if shrunk else None
    conditioning = diffusion.condition_on(drawn.degraded, text, area)
    return diffusion.sample(conditioning, NoiseSource(seed), steps=steps).to(drawn.degraded)
