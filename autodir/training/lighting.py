"""The lighting stage: how much of which image a hazy or dark photo is to be made of.

Apart from the refinement stage, because no crop is looked at twice: whole photos, and what the
frozen parts make of them, are noted once as sums over their pixels, which is all that the squared
error of any mixture needs, and the small networks learn from the notes in minutes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.correction.lighting import BASIS, FIRST, LIT, THUMBNAIL, Light, Veil, stacked
from autodir.correction.scm import StructureCorrector
from autodir.diffusion.model import LatentDiffusion
from autodir.errors import ContractError
from autodir.imaging.neighborhoods import shrunk
from autodir.training.batches import Batches
from autodir.training.correction import restored_of
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions
from autodir.training.notes import Fit, Learnt, Notes, collect, learn, of_width, outcome
from autodir.training.refinement import route, turns

logger = logging.getLogger(__name__)

SIZES = (160, 192, 256)
"""Sides in pixels of the photos that the frozen parts work on."""
SCALE = (0.15, 0.7)
"""Of the photos: most of each is seen."""
SIZES_ALONE, SCALE_ALONE = (128, 160, 192), (0.1, 0.7)
"""The same of photos that the frozen parts never see."""
DRAWN = 8
"""Photos in a batch."""
ALONE, COLLECTING = 0.35, 0.5
"""Shares of the budget in which photos are noted, alone and with what the frozen parts make of
them; the rest is for learning."""
SAMPLED = 0.9
"""Share of the batches with sampled images; in the others the degraded photo takes their place."""
FIT = Fit(rate=1e-3, decay=0.05, epochs=60, step=128)
"""From photos alone, which are noted six times as fast, the networks learn to read statistics; from
the others their last layers learn what sample and correction are good for. Of degradations that are
no matter of light (`LIT`) the photo alone teaches nothing, and what the frozen parts make of it is
nearly right already."""
FLOOR = 3e-4
"""Squared error that is good enough (35 dB)."""
HARM = 2.0
"""What a late expert makes worse than C counts by so many powers more: most of the photos that it
is asked about have been repaired already."""
PLAIN = F.one_hot(torch.tensor(FIRST), BASIS).float()
"""The mixture of C alone."""
NOTES, NOTES_ALONE = "notes.safetensors", "alone.safetensors"


def train_lighting(
    corrector: StructureCorrector,
    diffusion: LatentDiffusion | None,
    batches: Batches,
    instructions: Instructions,
    options: LoopOptions,
    run_dir: Path,
    *,
    experts: Sequence[str] = (),
) -> dict[str, Learnt]:
    """Train the experts of light one after the other, each for its share of the budget.

    Args:
        corrector: the SCM with a lighting; all else of it stays as it is.
        diffusion: frozen; sampled with its default steps. None notes the correction alone.
        batches: source of degraded photos and targets; each expert sees its degradation alone.
        instructions: source of the text embeddings.
        options: budget of all of them together, seed, and whether to add to the notes of before.
        run_dir: the notes of each lie in ``<run_dir>-<degradation>``.
        experts: the degradations whose experts are trained anew; all that the corrector has by
            default.

    Returns:
        By degradation, what was learnt, gains beyond the correction.

    Raises:
        ContractError: the corrector has no lighting.
        CheckpointError: the notes to add to are of another kind.
    """
    lighting = corrector.lighting
    if lighting is None:
        raise ContractError("this corrector has no lighting to train")
    learnt = dict[str, Learnt]()
    for key, own, folder in turns(lighting, experts, options, run_dir):
        expert = lighting.renewed(key, options.seed)
        assert isinstance(expert, Light)
        book = _Notebook(expert, corrector, diffusion, batches.alone(key), instructions)
        shares = (ALONE, COLLECTING) if key in LIT else (None, ALONE + COLLECTING)
        kinds = zip((book.alone, book.whole), shares, (NOTES_ALONE, NOTES), strict=True)
        *alone, notes = (
            collect(
                take, share * own.budget, folder / name, options.seed,
                resume=options.resume, check=of_width(folder / name, len(expert.center)),
            )
            for take, share, name in kinds if share is not None
        )  # fmt: skip
        expert.standardize(torch.cat([each["statistics"] for each in (*alone, notes)]))
        error = harm if expert.late else squared_error
        for each in alone:
            learn(expert, each, error, FIT, FLOOR, options.seed)
            expert.forget_correction()
        how = replace(FIT, last=bool(alone))
        learn(expert, notes, error, how, FLOOR, options.seed)
        counts = sum(len(each["energy"]) for each in alone), len(notes["energy"])
        learnt[key] = outcome(
            expert, notes, squared_error, PLAIN, FLOOR, photos=sum(counts),
            files=[folder / NOTES_ALONE, folder / NOTES],
        )  # fmt: skip
        gained = learnt[key].gained
        logger.info("%s: %d photos alone, %d whole, %+.2f dB", key, *counts, gained)
    route(lighting, instructions, options.seed)
    return learnt


class _Notebook:
    """Makes notes on new photos: statistics of I, and products of the basis and the target."""

    def __init__(
        self,
        expert: Light,
        corrector: StructureCorrector,
        diffusion: LatentDiffusion | None,
        source: Batches,
        instructions: Instructions,
    ) -> None:
        self.expert = expert
        self.corrector, self.diffusion = corrector, diffusion
        self.source, self.instructions = source, instructions

    def alone(self, generator: torch.Generator, index: int) -> Notes:
        """Of photos that the frozen parts never see: sample and correction are black."""
        size = SIZES_ALONE[index % len(SIZES_ALONE)]
        drawn = self.source.draw(DRAWN, size, generator, scale=SCALE_ALONE)
        black = torch.zeros_like(drawn.degraded)
        return note(self.expert, drawn.degraded, black, black, drawn.target)

    def whole(self, generator: torch.Generator, index: int) -> Notes:
        """Of photos with what the frozen parts make of them."""
        size = SIZES[index % len(SIZES)]
        drawn = self.source.draw(DRAWN, size, generator, scale=SCALE)
        told = self.instructions.draw(drawn.label, generator)
        restored = restored_of(self.diffusion, drawn, told, generator, SAMPLED)
        corrected = restored + self.corrector(drawn.degraded, restored, told.pooled)
        corrected = corrected.clamp(0, 1)
        return note(self.expert, drawn.degraded, restored, corrected, drawn.target)


def note(
    expert: Light, degraded: Tensor, restored: Tensor, corrected: Tensor, target: Tensor
) -> Notes:
    """What is learnt from photos (B, 3, H, W): means of products over the pixels of thumbnails.

    Args:
        expert: who is to learn from it.
        degraded, restored, corrected, target: I, I_sd, C and what C should be.

    Returns:
        ``statistics`` (B, F); ``gram`` (B, 3, 8, 8) and ``cross`` (B, 3, 8) of the basis with
        itself and with the target; ``energy`` (B, 3) of the target.
    """
    small = [shrunk(image.float(), THUMBNAIL) for image in (degraded, restored, corrected, target)]
    lifted = Veil.of(small[0]).lifted(small[0])
    images = stacked(small[0], lifted, *small[1:3])
    wanted = small[3].flatten(2)
    count = wanted.shape[-1]
    return {
        "statistics": expert.noted(small[0], lifted, small[2]),
        "gram": images @ images.transpose(2, 3) / count,
        "cross": (images @ wanted[..., None])[..., 0] / count,
        "energy": wanted.square().mean(2),
    }


def squared_error(shares: Tensor, notes: Notes) -> Tensor:
    """Mean squared error of mixtures, (B,), from shares (B, 3, 8): s·G·s - 2 s·c + e."""
    own = (shares[:, :, None] @ notes["gram"] @ shares[..., None])[..., 0, 0]
    error = own - 2 * (shares * notes["cross"]).sum(-1) + notes["energy"]
    return error.mean(1).clamp_min(0)  # rounding can bring it below


def harm(shares: Tensor, notes: Notes) -> Tensor:
    """The same, (B,), times (e / e_C)^`HARM` where it is above the error e_C of C alone."""
    plain = PLAIN.to(shares).expand_as(shares)
    error, before = (squared_error(each, notes) + FLOOR for each in (shares, plain))
    return error * (error / before).clamp_min(1) ** HARM - FLOOR
