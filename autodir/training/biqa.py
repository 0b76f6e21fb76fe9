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
from autodir.training.batches import Batches, Drawn, least_severity
from autodir.training.loop import LoopOptions, fit
from autodir.training.losses import clean_target_loss, fidelity_loss, presence_loss

SIZES = (160, 192, 256)
"""Sides of the training photos in pixels, one drawn for each batch."""
SCALE = (0.35, 1.25)
"""Range of the photos' shrinking before the crop. Slightly enlarged ones are soft and yet clean."""
CROPS_PER_SIDE = (1, 1, 1, 2)
"""Limits of the grid of crops, one drawn for each batch: the head must not count crops."""
BATCH = 16
TARGETS = 4
"""One degraded photo in so many brings its clean target along: targets are learnt faster."""
LEARNING_RATE = 1e-3
SHARE = (0.77, 0.15, 0.08)
"""One degradation, several, none: which of several is the main one is a matter of taste."""
EMPHASIS = {
    "rain": 1.3, "blur": 1.6, "raindrop": 1.7, "underexposure": 1.3, "haze": 1.2,
    "low_resolution": 0.7, "compression": 0.8,
}  # fmt: skip
"""What is learnt slowly comes more often: scattered, or seen only where the photo has edges."""
LEAST_SEVERITY = (0.5, 0.4, 0.08)
"""Smallest severity at the start, the share of the budget in which it sinks, and to what.

What can hardly be seen is noise in the labels until the plain cases are learnt, and below the last
figure always.
"""
GRAY = 0.06
"""Share of photos without color, old ones among them."""
CLEAN_TARGET_WEIGHT = 1.0
"""λ of the clean-target term."""
PRESENCE_WEIGHT = 4.0
ENTROPY_WEIGHT = (1.0, 0.25)
"""Weight of the cross-entropy at the start and at the end. Where a true label has nearly no
probability the fidelity loss has nearly no gradient (it goes with sqrt(p)): alone, from random
weights, it never left "no" for everything."""
LOCAL_WEIGHT = 2.0
"""Weight of the loss on where in the picture each degradation is."""
LOCAL_LAYER = "layer3"
"""The tower's layer from which that is read, of one feature for each 16 × 16 pixels."""
VISIBLE = 0.03
"""Mean absolute change of a cell, of the range [0, 1], that counts as fully degraded."""
CLEAN_CELLS = 0.3
"""Weight of the clean targets' cells, where nothing is to be found, beside the degraded ones'."""


class Located(nn.Module):
    """The quality model with a map of each degradation, read from an inner layer of its tower.

    For the training alone: what is scattered over a picture is learnt from every cell of it, not
    from one label. A tower without such a layer (a vision transformer) is trained without maps.

    Args:
        quality: the quality model.
    """

    def __init__(self, quality: QualityModel) -> None:
        super().__init__()
        self.quality = quality
        self.where: nn.Conv2d | None = None
        self._kept: Tensor | None = None
        layer = getattr(quality.clip.towers.visual, LOCAL_LAYER, None)
        if layer is None:
            return
        self.where = nn.Conv2d(layer[-1].bn3.num_features, len(quality.taxonomy.keys) - 1, 1)
        nn.init.zeros_(self.where.weight)
        assert self.where.bias is not None
        nn.init.constant_(self.where.bias, -3.0)
        self._hook = layer.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        self._kept = output

    def forward(self, image: Tensor, per_side: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Photos → logits, presence logits, and maps (B, N + 1, K, h, w) of the views, logits."""
        logits, presence = self.quality(image, per_side, whole=False)
        if self.where is None or self._kept is None:
            return logits, presence, None
        maps, self._kept = self.where(self._kept), None
        return logits, presence, maps.unflatten(0, (len(image), -1)).float()

    def release(self) -> QualityModel:
        """The quality model, without the hook."""
        if self.where is not None:
            self._hook.remove()
        return self.quality


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
        least = least_severity(LEAST_SEVERITY, progress)
        drawn = batches.draw(batch, size, generator, scale=SCALE, least=least)
        gray = (torch.rand(batch, generator=generator) < GRAY).to(drawn.label.device)
        for photos in (drawn.degraded, drawn.target):
            photos[gray] = photos[gray].mean(1, keepdim=True).expand(-1, 3, -1, -1)
        per_side = CROPS_PER_SIDE[int(torch.randint(len(CROPS_PER_SIDE), (), generator=generator))]
        left = presence_left(drawn, model)[:beside]
        images = torch.cat([drawn.degraded, drawn.target[:beside]])
        logits, presence, maps = network(images, per_side)
        local = logits.new_zeros(())
        if maps is not None:
            local = _local_loss(maps, drawn, left, model, per_side)
        probabilities = logits.softmax(-1)
        degraded, target = probabilities.split([batch, beside])
        truth = F.one_hot(drawn.label, labels).float()
        nothing = F.one_hot(torch.full_like(drawn.label[:beside], clean), labels).float()
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
            faithful
            + CLEAN_TARGET_WEIGHT * unlike
            + PRESENCE_WEIGHT * present
            + weight * entropy
            + LOCAL_WEIGHT * local
        )
        return total, {
            "fidelity": faithful, "clean_target": unlike, "presence": present, "accuracy": right,
            "local": local,
            "clean_accuracy": (target.argmax(-1) == clean)[is_clean].float().mean(),
        }  # fmt: skip

    taught = Located(model).to(model.prompts.device)
    fit(taught, loss, options, run_dir)
    return taught.release()


def _local_loss(
    maps: Tensor, drawn: Drawn, left: Tensor, model: QualityModel, per_side: int
) -> Tensor:
    """Cross-entropy of the maps against where the photo was changed, and how visibly.

    Args:
        maps: (B + C, N, K, h, w) logits: of the degraded photos, then of the first C targets.
        drawn: the batch; only photos of one degradation say where it is.
        left: (C, K) what is still present in those targets.
        model: cuts the same views.
        per_side: of the views.
    """
    count = len(drawn.label)
    change = (drawn.degraded - drawn.target).abs().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    views = model.head.views(change, model.clip.image_size, per_side)[:, :, :1]
    cells = F.adaptive_avg_pool2d(views.flatten(0, 1), (maps.shape[-2], maps.shape[-1]))
    cells = cells.unflatten(0, views.shape[:2])
    truth = (cells / VISIBLE).clamp(0, 1) * drawn.presence[:, None, :, None, None]
    loss = F.binary_cross_entropy_with_logits(maps[:count], truth, reduction="none")
    single = drawn.presence.sum(1) <= 1
    found = loss[single].sum(2).mean() if bool(single.any()) else loss.new_zeros(())
    spare = maps[count:][left.sum(1) == 0]
    if len(spare):
        found = found + CLEAN_CELLS * F.softplus(spare).sum(2).mean()
    return found


def presence_left(drawn: Drawn, model: QualityModel) -> Tensor:
    """(B, K) 0/1: what is still present in the target, that is all but the main degradation."""
    keys = [degradation.key for degradation in model.taxonomy]
    left = drawn.presence.clone()
    for index, label in enumerate(drawn.label.tolist()):
        key = model.taxonomy.keys[label]
        if key in keys:
            left[index, keys.index(key)] = 0
    return left
