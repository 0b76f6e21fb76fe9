"""The locator stage: every cell of a photo is told which degradation changed it, and how visibly.

Apart from the BIQA stage: nothing of it is needed here, and the head stage brings both together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.diagnosis.locator import Locator
from autodir.imaging.grain import CELL
from autodir.training.batches import Batches, as_found, least_severity
from autodir.training.loop import LoopOptions, fit

SIZES = (160, 208, 288)
"""Sides of the photos in pixels, one drawn for each batch."""
SCALE = (0.35, 1.25)
BATCH = 8
"""Degraded photos in a step; each brings its target along, so that the scene tells nothing."""
LEARNING_RATE = 3e-3
SHARE = (0.65, 0.3, 0.05)
"""One degradation, several, none: rain and drops have to be found under blocks and noise too."""
EMPHASIS = {
    "raindrop": 4.0, "rain": 4.0, "haze": 1.2, "noise": 0.7, "low_resolution": 0.5,
    "compression": 0.5,
}  # fmt: skip
"""Scattered things are what it is for; the others are there so as not to be taken for them."""
LEAST_SEVERITY = (0.3, 0.4, 0.1)
"""Smallest severity at the start, the share of the budget in which it sinks, and to what."""
VISIBLE = 0.04
"""Mean absolute change of a cell, of the range [0, 1], that counts as fully degraded."""
PHOTO_WEIGHT = 0.3
"""Weight of the loss on the strongest fiftieth of each map, against the label of the photo."""


def train_locator(
    locator: Locator,
    batches: Batches,
    keys: tuple[str, ...],
    options: LoopOptions,
    run_dir: Path,
    batch: int = BATCH,
) -> Locator:
    """Train the locator in place, on degraded photos and their targets side by side.

    Args:
        locator: maps of the degradations, in the order of ``keys``.
        batches: source of degraded photos and targets; `SHARE` and `EMPHASIS` serve best.
        keys: the degradations that presence speaks of.
        options: schedule and budget.
        run_dir: logs and resumable state.
        batch: degraded photos in a step.

    Returns:
        The averaged locator.
    """
    of_key = torch.tensor([batches.taxonomy.index(key) for key in keys])
    scattered = torch.tensor([EMPHASIS.get(key, 1.0) > 1 for key in keys])

    def loss(
        network: nn.Module, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        size = SIZES[int(torch.randint(len(SIZES), (), generator=generator))]
        least = least_severity(LEAST_SEVERITY, progress)
        drawn = batches.draw(batch, size, generator, scale=SCALE, least=least)
        # Of several, the target tells where the main one is, and nobody where the others are.
        main = (drawn.label[:, None] == of_key.to(drawn.label)).float()
        alone = (drawn.presence.sum(1, keepdim=True) <= 1).float()
        known = torch.maximum(alone.expand_as(main), main).repeat(2, 1)
        change = (drawn.degraded - drawn.target).abs().mean(1, keepdim=True)
        change = F.avg_pool2d(change, CELL, ceil_mode=True)
        truth = (change / VISIBLE).clamp(0, 1) * main[:, :, None, None]
        truth = torch.cat([truth, torch.zeros_like(truth)])
        present = torch.cat([main, torch.zeros_like(main)])
        seen = as_found(torch.cat([drawn.degraded, drawn.target]), generator)
        maps = network(seen).float()
        cells = F.binary_cross_entropy_with_logits(maps, truth, reduction="none").mean((2, 3))
        flat = maps.flatten(2)
        strongest = flat.topk(max(1, flat.shape[-1] // 50), dim=-1).values.mean(-1)
        photos = F.binary_cross_entropy_with_logits(strongest, present, reduction="none")
        cells, photos = (
            (part * known).sum(0) / known.sum(0).clamp_min(1) for part in (cells, photos)
        )
        figures = {
            f"found_{key}": right
            for key, right in zip(keys, _balanced(strongest, present, known), strict=True)
        }
        picked = scattered.to(cells.device)
        figures["scattered"] = cells[picked].mean()
        return cells.sum() + PHOTO_WEIGHT * photos.sum(), figures

    fit(locator, loss, options, run_dir)
    return locator


def _balanced(strongest: Tensor, present: Tensor, known: Tensor) -> Tensor:
    """Mean of the shares of photos with and without each degradation that are told rightly."""
    found, there = (strongest > 0).float(), present * known
    absent = (1 - present) * known
    hits = (found * there).sum(0) / there.sum(0).clamp_min(1)
    spared = ((1 - found) * absent).sum(0) / absent.sum(0).clamp_min(1)
    return (hits + spared) / 2
