"""Notes on photos: what frozen parts make of many of them, kept as figures to learn from.

Apart from the stages that take them, because all collect alike: until the time is over, saved now
and then, and added to on resuming; and small networks learn alike from what was collected.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from autodir.correction.experts import Ensemble
from autodir.errors import CheckpointError

logger = logging.getLogger(__name__)

SAVE_EVERY = 120.0
"""Seconds between saved states."""
LEAST = 2
"""Batches that are noted whatever the budget."""

Notes = dict[str, Tensor]
"""Figures by name, one row for each photo."""
JITTER = 0.05
"""Noise on the standardized statistics, so that few photos are not learnt by heart."""


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What became of the notes on one degradation.

    Attributes:
        gained: decibels on the noted photos.
        photos: how many were noted.
        seconds: how long noting took, those before a resume included.
    """

    gained: float
    photos: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How the networks of an ensemble learn from notes.

    Attributes:
        rate: peak learning rate, sinking along half a cosine.
        decay: of the weights.
        epochs: passes over all notes.
        step: photos in a step.
        last: whether the last layers alone learn.
    """

    rate: float
    decay: float
    epochs: int
    step: int
    last: bool = False


@torch.no_grad()
def collect(
    note: Callable[[torch.Generator, int], Notes],
    budget: float,
    path: Path,
    seed: int,
    *,
    resume: bool = False,
    check: Callable[[Notes], None] | None = None,
) -> Notes:
    """Note as many batches as the time allows.

    Args:
        note: notes on a new batch, from a generator and the number of the batch.
        budget: seconds.
        path: the file of the notes.
        seed: of the batches; notes that are added to lead to other ones.
        resume: add to what the file holds.
        check: raises where the notes to be added to are of another kind.

    Returns:
        All notes, those of before first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: list[Notes] = []
    before = 0.0
    if resume and path.is_file():
        kept.append(load_file(path))
        if check is not None:
            check(kept[0])
        seed += _count(kept)  # photos that are new
        before = seconds_of(path)
    generator = torch.Generator().manual_seed(seed)
    started, saved, index = time.monotonic(), time.monotonic(), 0
    while index < LEAST or time.monotonic() - started < budget:
        kept.append({name: figures.cpu() for name, figures in note(generator, index).items()})
        index += 1
        if time.monotonic() - saved > SAVE_EVERY:
            saved = time.monotonic()
            _save(kept, path, before + saved - started)
            logger.info("%d photos noted", _count(kept))
    return _save(kept, path, before + time.monotonic() - started)


def seconds_of(path: Path) -> float:
    """How long the notes of a file took, with all that they were added to; 0 where none are."""
    if not path.is_file():
        return 0.0
    with safe_open(path, framework="pt") as stored:
        return float((stored.metadata() or {}).get("seconds", 0.0))


def of_width(path: Path, width: int) -> Callable[[Notes], None]:
    """A check of notes to be added to: their statistics are as many as are read."""

    def check(notes: Notes) -> None:
        if notes["statistics"].shape[1] != width:
            raise CheckpointError(f"{path} holds other statistics", "use an empty folder")

    return check


def learn(
    expert: Ensemble,
    notes: Notes,
    error: Callable[[Tensor, Notes], Tensor],
    how: Fit,
    floor: float,
    seed: int,
) -> None:
    """Train the networks of an ensemble from notes, one after the other, in decibels.

    Args:
        expert: standardized already.
        notes: ``statistics`` (N, F) and what ``error`` needs.
        error: squared error (B,) of what a network says, on some of the notes.
        how: the recipe.
        floor: squared error that is good enough.
        seed: of the order and of the noise.
    """
    device = expert.center.device
    notes = {name: figures.to(device) for name, figures in notes.items()}
    standard = expert.standard(notes["statistics"])
    count = len(standard)
    steps = max(20, how.epochs * count // how.step)
    expert.requires_grad_(True).train()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(seed)
        for member in expert.members:
            assert isinstance(member, nn.Sequential)
            learning = (member[-1] if how.last else member).parameters()
            optimizer = torch.optim.AdamW(learning, how.rate, weight_decay=how.decay)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for _ in range(steps):
                rows = torch.randint(count, (min(how.step, count),)).to(device)
                seen = standard[rows]
                told = expert.told_by(member, seen + JITTER * torch.randn_like(seen))
                picked = {name: figures[rows] for name, figures in notes.items()}
                loss = (error(told, picked) + floor).log().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    expert.requires_grad_(False).eval()


def outcome(
    expert: Ensemble,
    notes: Notes,
    error: Callable[[Tensor, Notes], Tensor],
    plain: Tensor,
    floor: float,
    *,
    photos: int,
    files: Sequence[Path],
) -> Learnt:
    """What became of an ensemble that has learnt.

    Args:
        expert: a trained one.
        notes, error, floor: see `learn`; the gain is measured on them.
        plain: what an untrained network says of a photo, which broadcasts over them.
        photos: how many it has learnt from.
        files: of their notes.
    """
    with torch.no_grad():
        told = expert(expert.standard(notes["statistics"].to(expert.center.device))).cpu()
        after, before = (error(said, notes) for said in (told, plain.expand_as(told)))
    gained = 10 * float(((before + floor).log10() - (after + floor).log10()).mean())
    return Learnt(gained=gained, photos=photos, seconds=sum(map(seconds_of, files)))


def _count(kept: list[Notes]) -> int:
    return sum(len(next(iter(part.values()))) for part in kept)


def _save(kept: list[Notes], path: Path, seconds: float) -> Notes:
    together = {name: torch.cat([part[name] for part in kept]) for name in kept[0]}
    part = path.with_suffix(".tmp")
    save_file(together, part, metadata={"seconds": repr(seconds)})
    part.replace(path)
    return together
