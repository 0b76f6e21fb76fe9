"""The BIQA stage: image tower and head learn to name degradations; the text tower is frozen.

Apart from the text stage, which must be over before: the prompts' embeddings are the fixed targets
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.diagnosis.biqa import QualityModel
from autodir.training.batches import Batches, Drawn
from autodir.training.loop import LoopOptions, fit
from autodir.training.losses import clean_target_loss, fidelity_loss, presence_loss

SIZES = (144, 176, 224)
"""Sides of the training photos in pixels, one drawn for each batch."""
CROPS_PER_SIDE = (1, 1, 1, 2)
"""Limits of the grid of crops, one drawn for each batch: the head must not count crops."""
BATCH = 16
TARGETS = 4
"""One degraded photo in so many brings its clean target along: targets are learnt faster."""
LEARNING_RATE = 1e-3
SHARE = (0.77, 0.15, 0.08)
"""One degradation, several, none: which of several is the main one is a matter of taste."""
EMPHASIS = {"rain": 1.5, "blur": 1.5}
"""What is learnt slowly comes more often: scattered, or seen only where the photo has edges."""
LEAST_SEVERITY = (0.5, 0.4)
"""Smallest severity at the start, and the share of the budget in which it sinks to 0.

What can hardly be seen is noise in the labels until the plain cases are learnt.
"""
CLEAN_TARGET_WEIGHT = 1.0
"""λ of the clean-target term."""
PRESENCE_WEIGHT = 4.0
ENTROPY_WEIGHT = (1.0, 0.25)
"""Weight of the cross-entropy at the start and at the end. Where a true label has nearly no
probability the fidelity loss has nearly no gradient (it goes with sqrt(p)): alone, from random
weights, it never left "no" for everything."""


def train_biqa(
    model: QualityModel,
    batches: Batches,
    options: LoopOptions,
    run_dir: Path,
    batch: int = BATCH,
    sizes: Sequence[int] | None = None,
) -> QualityModel:
    """Train image tower and head in place (fidelity loss and clean-target term, AutoDIR §2).

    Args:
        model: the text tower inside is frozen here.
        batches: source of degraded photos and their targets.
        options: schedule and budget.
        run_dir: logs and resumable state.
        batch: degraded photos in a step; each brings its target along.
        sizes: sides of the photos in pixels; `SIZES` by default.

    Returns:
        The averaged model.
    """
    for parameter in model.clip.text_parameters():
        parameter.requires_grad_(False)
    clean = model.taxonomy.clean_index
    labels = len(model.taxonomy.keys)
    beside = max(1, batch // TARGETS)
    sides = sizes or SIZES

    def loss(
        network: nn.Module, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        size = sides[int(torch.randint(len(sides), (), generator=generator))]
        least = LEAST_SEVERITY[0] * max(0.0, 1 - progress / LEAST_SEVERITY[1])
        drawn = batches.draw(batch, size, generator, scale=(0.35, 1.0), least=least)
        per_side = CROPS_PER_SIDE[int(torch.randint(len(CROPS_PER_SIDE), (), generator=generator))]
        logits, presence = network(torch.cat([drawn.degraded, drawn.target[:beside]]), per_side)
        probabilities = logits.softmax(-1)
        degraded, target = probabilities.split([batch, beside])
        truth = F.one_hot(drawn.label, labels).float()
        nothing = F.one_hot(torch.full_like(drawn.label[:beside], clean), labels).float()
        left = presence_left(drawn, model)[:beside]
        is_clean = left.sum(1) == 0
        faithful = fidelity_loss(degraded, truth).mean()
        if bool(is_clean.any()):
            faithful = faithful + fidelity_loss(target[is_clean], nothing[is_clean]).mean()
        dirty = drawn.label[:beside] != clean
        unlike = (
            clean_target_loss(target[dirty], truth[:beside][dirty]).mean()
            if bool(dirty.any())
            else faithful.new_zeros(())
        )
        present = presence_loss(presence, torch.cat([drawn.presence, left])).mean()
        entropy = F.cross_entropy(logits[: len(degraded)], drawn.label)
        if bool(is_clean.any()):
            entropy = entropy + F.cross_entropy(
                logits[len(degraded) :][is_clean], nothing[is_clean]
            )
        weight = ENTROPY_WEIGHT[0] + (ENTROPY_WEIGHT[1] - ENTROPY_WEIGHT[0]) * progress
        right = (degraded.argmax(-1) == drawn.label).float().mean()
        total = (
            faithful + CLEAN_TARGET_WEIGHT * unlike + PRESENCE_WEIGHT * present + weight * entropy
        )
        return total, {
            "fidelity": faithful, "clean_target": unlike, "presence": present, "accuracy": right,
            "clean_accuracy": (target.argmax(-1) == clean)[is_clean].float().mean(),
        }  # fmt: skip

    return fit(model, loss, options, run_dir)  # type: ignore[return-value]


def presence_left(drawn: Drawn, model: QualityModel) -> Tensor:
    """(B, K) 0/1: what is still present in the target, that is all but the main degradation."""
    keys = [degradation.key for degradation in model.taxonomy]
    left = drawn.presence.clone()
    for index, label in enumerate(drawn.label.tolist()):
        key = model.taxonomy.keys[label]
        if key in keys:
            left[index, keys.index(key)] = 0
    return left
