"""Notes on photos: what frozen parts make of many of them, kept as figures to learn from.

Apart from the stages that take them, because all collect alike: until the time is over, saved now
and then, and added to on resuming.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

logger = logging.getLogger(__name__)

SAVE_EVERY = 120.0
"""Seconds between saved states."""
LEAST = 2
"""Batches that are noted whatever the budget."""

Notes = dict[str, Tensor]
"""Figures by name, one row for each photo."""


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
    if resume and path.is_file():
        kept.append(load_file(path))
        if check is not None:
            check(kept[0])
        seed += _count(kept)  # photos that are new
    generator = torch.Generator().manual_seed(seed)
    started, saved, index = time.monotonic(), time.monotonic(), 0
    while index < LEAST or time.monotonic() - started < budget:
        kept.append({name: figures.cpu() for name, figures in note(generator, index).items()})
        index += 1
        if time.monotonic() - saved > SAVE_EVERY:
            saved = time.monotonic()
            _save(kept, path)
            logger.info("%d photos noted", _count(kept))
    return _save(kept, path)


def _count(kept: list[Notes]) -> int:
    return sum(len(next(iter(part.values()))) for part in kept)


def _save(kept: list[Notes], path: Path) -> Notes:
    together = {name: torch.cat([part[name] for part in kept]) for name in kept[0]}
    part = path.with_suffix(".tmp")
    save_file(together, part)
    part.replace(path)
    return together
