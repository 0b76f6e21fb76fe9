"""The lighting stage: how much of which image a hazy or dark photo is to be made of.

Apart from the refinement stage, because no crop is looked at twice: what the frozen parts make of
whole photos is noted once as sums over their pixels, which is all that the squared error of any
mixture needs, and the small networks learn from the notes in a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.correction.lighting import BASIS, FIRST, THUMBNAIL, Light, Veil, basis, statistics
from autodir.correction.scm import StructureCorrector
from autodir.diffusion.model import LatentDiffusion
from autodir.errors import CheckpointError, ContractError
from autodir.imaging.neighborhoods import shrunk
from autodir.training.batches import Batches
from autodir.training.correction import restored_of
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions
from autodir.training.notes import Notes, collect
from autodir.training.refinement import route

logger = logging.getLogger(__name__)

SIZES = (160, 192, 256)
"""Sides in pixels of the photos that the frozen parts work on."""
SCALE = (0.15, 0.7)
"""Of the photos: most of each is seen."""
DRAWN = 8
"""Photos in a batch."""
COLLECTING = 0.92
"""Share of the budget in which photos are noted; the rest is for learning."""
SAMPLED = 0.9
"""Share of the batches with sampled images; in the others the degraded photo takes their place."""
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.05
EPOCHS, STEP = 120, 128
JITTER = 0.05
"""Noise on the standardized statistics, so that few photos are not learnt by heart."""
FLOOR = 3e-4
"""Squared error that is good enough (35 dB)."""
NOTES = "notes.safetensors"


def train_lighting(
    corrector: StructureCorrector,
    diffusion: LatentDiffusion | None,
    batches: Batches,
    instructions: Instructions,
    options: LoopOptions,
    run_dir: Path,
    *,
    experts: Sequence[str] = (),
) -> dict[str, float]:
    """Train the experts of light one after the other, each for its share of the budget.

    Args:
        corrector: the SCM with a lighting; all else of it stays as it is.
        diffusion: frozen; sampled with its default steps. None notes the correction alone.
        batches: source of degraded photos and targets; each expert sees its degradation alone.
        instructions: source of the text embeddings.
        options: budget of all of them together, seed, and whether to add to the notes of before.
        run_dir: the notes of each lie in ``<run_dir>-<degradation>``.
        experts: the degradations whose experts are trained, fresh ones where there are none yet;
            all that the corrector has by default.

    Returns:
        By degradation, the decibels that were gained on the noted photos beyond the correction.

    Raises:
        ContractError: the corrector has no lighting.
        CheckpointError: the notes to add to are of another kind.
    """
    lighting = corrector.lighting
    if lighting is None:
        raise ContractError("this corrector has no lighting to train")
    keys, gained = tuple(experts) or tuple(lighting.experts), dict[str, float]()
    for key in keys:
        expert = lighting.add_expert(key)
        assert isinstance(expert, Light)
        path = run_dir.with_name(f"{run_dir.name}-{key}") / NOTES

        def check(notes: Notes, width: int = len(expert.center), path: Path = path) -> None:
            if notes["statistics"].shape[1] != width:
                raise CheckpointError(f"{path} holds other statistics", "use an empty folder")

        notes = collect(
            _Notebook(corrector, diffusion, batches.alone(key), instructions),
            COLLECTING * options.budget / len(keys), path, options.seed, resume=options.resume,
            check=check,
        )  # fmt: skip
        gained[key] = round(_learn(expert, notes, options.seed), 3)
        logger.info("%s: %d photos, %+.2f dB", key, len(notes["energy"]), gained[key])
    route(lighting, instructions, options.seed)
    return gained


class _Notebook:
    """Makes notes on new photos: statistics of I, and products of the basis and the target."""

    def __init__(
        self,
        corrector: StructureCorrector,
        diffusion: LatentDiffusion | None,
        source: Batches,
        instructions: Instructions,
    ) -> None:
        self.corrector, self.diffusion = corrector, diffusion
        self.source, self.instructions = source, instructions

    def __call__(self, generator: torch.Generator, index: int) -> Notes:
        size = SIZES[index % len(SIZES)]
        drawn = self.source.draw(DRAWN, size, generator, scale=SCALE)
        told = self.instructions.draw(drawn.label, generator)
        restored = restored_of(self.diffusion, drawn, told, generator, SAMPLED)
        corrected = restored + self.corrector(drawn.degraded, restored, told.pooled)
        return note(drawn.degraded, restored, corrected.clamp(0, 1), drawn.target)


def note(degraded: Tensor, restored: Tensor, corrected: Tensor, target: Tensor) -> Notes:
    """What is learnt from photos (B, 3, H, W): means of products over the pixels of thumbnails.

    Returns:
        ``statistics`` (B, F); ``gram`` (B, 3, 8, 8) and ``cross`` (B, 3, 8) of the basis with
        itself and with the target; ``energy`` (B, 3) of the target.
    """
    small = [shrunk(image.float(), THUMBNAIL) for image in (degraded, restored, corrected, target)]
    lifted = Veil.of(small[0]).lifted(small[0])
    images = torch.stack(list(basis(small[0], lifted, *small[1:3])), dim=2).flatten(3)
    wanted = small[3].flatten(2)
    count = wanted.shape[-1]
    return {
        "statistics": statistics(small[0], lifted),
        "gram": images @ images.transpose(2, 3) / count,
        "cross": (images @ wanted[..., None])[..., 0] / count,
        "energy": wanted.square().mean(2),
    }


def squared_error(shares: Tensor, notes: Notes) -> Tensor:
    """Mean squared error of mixtures, (B,), from shares (B, 3, 8): s·G·s - 2 s·c + e."""
    own = (shares[:, :, None] @ notes["gram"] @ shares[..., None])[..., 0, 0]
    error = own - 2 * (shares * notes["cross"]).sum(-1) + notes["energy"]
    return error.mean(1).clamp_min(0)  # rounding can bring it below


def _learn(expert: Light, notes: Notes, seed: int) -> float:
    """Train the networks of one expert; returns decibels beyond the correction."""
    device = expert.center.device
    notes = {name: figures.to(device) for name, figures in notes.items()}
    expert.standardize(notes["statistics"])
    standard = expert.standard(notes["statistics"])
    count = len(standard)
    steps = max(20, EPOCHS * count // STEP)
    expert.requires_grad_(True).train()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(seed)
        for member in expert.members:
            optimizer = torch.optim.AdamW(
                member.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY
            )
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for _ in range(steps):
                rows = torch.randint(count, (min(STEP, count),)).to(device)
                seen = standard[rows]
                seen = seen + JITTER * torch.randn_like(seen)
                shares = expert.shares_of(member, seen)
                picked = {name: figures[rows] for name, figures in notes.items()}
                loss = (squared_error(shares, picked) + FLOOR).log().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    expert.requires_grad_(False).eval()
    with torch.no_grad():
        after = squared_error(expert(standard), notes)
        plain = F.one_hot(torch.tensor(FIRST), BASIS)
        before = squared_error(plain.to(standard).expand(count, 3, -1), notes)
        gained = (before + FLOOR).log10() - (after + FLOOR).log10()
    return 10 * float(gained.mean())
