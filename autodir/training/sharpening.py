"""The sharpening stage: how far which frequencies of a blurred photo are to be raised.

Apart from the refinement stage, because no network makes a picture here: what a filter of 96
figures would make of a photo is told by sums over its spectrum, which are noted once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from autodir.correction.scm import StructureCorrector
from autodir.correction.sharpening import Sharpness
from autodir.correction.spectrum import (
    GAINS,
    SIDE,
    hann,
    responses,
    statistics,
    windows_of,
)
from autodir.errors import ContractError
from autodir.training.batches import Batches
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions
from autodir.training.notes import Fit, Learnt, Notes, collect, learn, of_width, outcome
from autodir.training.refinement import route, turns
from autodir.training.weather import weathered

logger = logging.getLogger(__name__)

SIZES = (256, 256, 384)
"""Sides in pixels of the photos that are noted."""
SCALE = (0.3, 1.0)
DRAWN = 8
"""Photos in a batch."""
COLLECTING = 0.75
"""Share of the budget in which photos are noted; the rest is for learning."""
FIT = Fit(rate=1e-3, decay=0.05, epochs=24, step=64)
FLOOR = 1e-4
"""Squared error that is good enough (40 dB)."""
NOTES = "notes.safetensors"


def train_sharpening(
    corrector: StructureCorrector,
    batches: Batches,
    instructions: Instructions,
    options: LoopOptions,
    run_dir: Path,
    *,
    experts: Sequence[str] = (),
) -> dict[str, Learnt]:
    """Train the experts of sharpness one after the other, each for its share of the budget.

    Args:
        corrector: the SCM with a sharpening; all else of it stays as it is.
        batches: source of degraded photos and targets; each expert sees its degradation alone.
        instructions: source of the text embeddings.
        options: budget of all of them together, seed, and whether to add to the notes of before.
        run_dir: the notes of each lie in ``<run_dir>-<degradation>``.
        experts: the degradations whose experts are trained anew; all that the corrector has by
            default.

    Returns:
        By degradation, what was learnt, gains beyond the blurred photos.

    Raises:
        ContractError: the corrector has no sharpening.
        CheckpointError: the notes to add to are of another kind.
    """
    sharpening = corrector.sharpening
    if sharpening is None:
        raise ContractError("this corrector has no sharpening to train")
    learnt = dict[str, Learnt]()
    for key, own, folder in turns(sharpening, experts, options, run_dir):
        expert = sharpening.renewed(key, options.seed)
        assert isinstance(expert, Sharpness)
        path = folder / NOTES
        source = batches.alone(key)

        def drawn(generator: torch.Generator, index: int, source: Batches = source) -> Notes:
            found = source.draw(DRAWN, SIZES[index % len(SIZES)], generator, scale=SCALE)
            return note(weathered(found.degraded, generator), found.target)

        notes = collect(
            drawn, COLLECTING * own.budget, path, options.seed,
            resume=options.resume, check=of_width(path, len(expert.center)),
        )  # fmt: skip
        expert.standardize(notes["statistics"])
        learn(expert, notes, squared_error, FIT, FLOOR, options.seed)
        learnt[key] = outcome(
            expert, notes, squared_error, torch.zeros(GAINS), FLOOR,
            photos=len(notes["energy"]), files=[path],
        )  # fmt: skip
        logger.info("%s: %d photos, %+.2f dB", key, learnt[key].photos, learnt[key].gained)
    route(sharpening, instructions, options.seed)
    return learnt


def note(degraded: Tensor, target: Tensor) -> Notes:
    """What is learnt from photos (B, 3, H, W): sums over the spectra of their windows.

    Returns:
        ``statistics`` (B, 418); ``gram`` (B, 96, 96), ``cross`` (B, 96) and ``energy`` (B): the
        squared error of the photo after a filter is r·G·r - 2 r·c + e, by Parseval's theorem.
    """
    weight = hann(degraded.device)
    seen, wanted = windows_of(degraded), windows_of(target)
    # The mean of a photo, not of each window: an overcast one is a part of the spectrum as well.
    mean = seen.mean((1, 3, 4), keepdim=True)
    own = torch.fft.rfft2((seen - mean) * weight)
    missing = torch.fft.rfft2((wanted - seen) * weight)
    twice = torch.full((SIDE // 2 + 1,), 2.0, device=degraded.device)
    twice[0] = twice[-1] = 1  # of a real image all other columns stand for two
    scale = twice / (SIDE**2 * weight.square().sum() * seen.shape[1] * 3)
    power = (own.abs().square().sum((1, 2)) * scale).flatten(1)
    common = ((own.conj() * missing).real.sum((1, 2)) * scale).flatten(1)
    raising = responses().to(degraded.device)
    return {
        "statistics": statistics(degraded),
        "gram": torch.stack([(raising * one) @ raising.T for one in power]),
        "cross": common @ raising.T,
        "energy": (missing.abs().square().sum((1, 2)) * scale).sum((1, 2)),
    }


def squared_error(raised: Tensor, notes: Notes) -> Tensor:
    """Mean squared error after filters that raise frequencies by (B, 96), (B,)."""
    own = ((raised[:, None] @ notes["gram"])[:, 0] * raised).sum(1)
    return (own - 2 * (raised * notes["cross"]).sum(1) + notes["energy"]).clamp_min(0)
