"""The trial stage: a suspicion learns from what the correction takes out of photos.

Apart from the head stage, because it needs the finished correction, and speaks up only where the
head is in doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.diagnosis.residue import LARGEST, MULTIPLE
from autodir.diagnosis.trial import Suspicion, Trial
from autodir.imaging.neighborhoods import box_mean
from autodir.synthesis.codec import jpeg
from autodir.synthesis.drawing import draw_pencil
from autodir.synthesis.operators import quantize_8bit
from autodir.training.batches import Batches, as_found
from autodir.training.notes import Notes, collect

SHARE = (0.62, 0.12, 0.26)
EMPHASIS = 9.0
"""What is suspected, as many other degradations, and clean photos."""
COUNTED = {"raindrop": 0.05}
"""What a photo with the degradation counts, where few of those that are suspected have it."""
LEAST_SEVERITY = 0.05
SIZES = (224, 320, LARGEST)
SCALE = (0.35, 1.25)
BATCH = 4
SHOWN = 0.5
"""Share of the photos that come from the web: shrunk, sharpened, in files of these qualities."""
SHRUNK, QUALITY = (0.55, 1.0), (55, 92)
DRAWN = 0.06
"""Share of the photos without it that are drawings: hatching is as straight as rain."""
BEHIND = 0.35
"""Share of the photos with something of `REPAIRED` that were repaired of it before they are tried:
later looks see photos without their grain, with edges sharper than a lens draws them."""
REPAIRED = ("noise", "blur", "compression")
COLLECTING = 0.97
"""Share of the budget in which photos are noted; the rest is for learning."""
EPOCHS, STEP = 60, 128
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 5e-2
JITTER = 0.05
"""Noise on the standardized figures, so that few photos are not learnt by heart."""
NOTES = "notes.safetensors"
Repair = Callable[[Tensor], Tensor]
"""(1, 3, H, W) in [0, 1], H and W multiples of `MULTIPLE` → the same shape, near [0, 1]."""


def train_trial(
    suspicion: Suspicion,
    batches: Batches,
    budget: float,
    run_dir: Path,
    *,
    before: Mapping[str, Repair] | None = None,
    seed: int = 0,
    resume: bool = False,
) -> dict[str, Any]:
    """Train the networks of a trial in place, from notes on repairs of what is suspected.

    Args:
        suspicion: its trial is of fresh weights, or is trained anew.
        batches: source of degraded and clean photos. None is turned on its side, since rain falls.
        budget: seconds, most of them to note what repairs take away.
        run_dir: gets the notes.
        before: the repairs that come before some trials, by degradation (`REPAIRED`).
        seed: of photos, weights and steps.
        resume: add to the notes that are there already.

    Returns:
        Figures of the training: photos noted, and the shares of those with the degradation and of
        other ones among them that are told rightly.
    """
    key, tried = suspicion.key, suspicion.trial
    batches = batches.with_share(SHARE, {key: EMPHASIS}).upright()
    of_key = batches.keys.index(key)
    repairs = before or {}

    def note(generator: torch.Generator, index: int) -> Notes:
        size = SIZES[index % len(SIZES)]
        drawn = batches.draw(BATCH, size, generator, scale=SCALE, least=LEAST_SEVERITY)
        figures = []
        photos = as_found(drawn.degraded, generator).split(1)
        for photo, present in zip(photos, drawn.presence, strict=True):
            pencil = float(torch.rand((), generator=generator)) < DRAWN and not present[of_key]
            picture = draw_pencil(photo, generator) if pencil else photo
            seen = shown(picture, generator)
            if not pencil:
                had = [other for other in repairs if present[batches.keys.index(other)]]
                seen = _repaired(seen, had, repairs, generator)
            evidence = suspicion.evidence(seen)
            assert evidence is not None
            figures.append(evidence)
        return {"figures": torch.stack(figures), "present": drawn.presence[:, of_key]}

    notes = collect(note, COLLECTING * budget, run_dir / NOTES, seed, resume=resume)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        _learn(tried, notes, COUNTED.get(key, 1.0))
    with torch.no_grad():
        right = (tried(notes["figures"]) > 0) == (notes["present"] > 0.5).to(tried.center.device)
    there = (notes["present"] > 0.5).to(right.device)
    shares = {"found": right[there], "spared": right[~there]}
    return {
        "noted": len(right),
        "measured": {name: round(float(part.float().mean()), 4) for name, part in shares.items()},
    }


def _repaired(
    photo: Tensor, had: Sequence[str], repairs: Mapping[str, Repair], generator: torch.Generator
) -> Tensor:
    """A photo (1, 3, H, W) as it is, or after a repair of something that it has: `BEHIND`."""
    if not had or float(torch.rand((), generator=generator)) >= BEHIND:
        return photo
    key = had[int(torch.randint(len(had), (), generator=generator))]
    height, width = (side // MULTIPLE * MULTIPLE for side in photo.shape[-2:])
    return quantize_8bit(repairs[key](photo[..., :height, :width]).clamp(0, 1))


def shown(photo: Tensor, generator: torch.Generator) -> Tensor:
    """A photo (1, 3, H, W) as the web shows it, or as it is: `SHOWN`."""
    web, sharp, side, much, quality = torch.rand(5, generator=generator).tolist()
    if web >= SHOWN:
        return photo
    scale = SHRUNK[0] + (SHRUNK[1] - SHRUNK[0]) * side
    size = [round(scale * length) for length in photo.shape[-2:]]
    small = F.interpolate(photo, size, mode="bicubic", antialias=True, align_corners=False)
    if sharp < SHOWN:
        small = small + much * (small - box_mean(small, 1))
    file = round(QUALITY[0] + (QUALITY[1] - QUALITY[0]) * quality)
    return jpeg(quantize_8bit(small.clamp(0, 1))[0], file)[None]


def _learn(tried: Trial, notes: Notes, counted: float) -> None:
    """Cross-entropy, each network with its own order of the photos."""
    device = tried.center.device
    figures, present = notes["figures"].to(device), notes["present"].float().to(device)
    weight = torch.tensor(counted, device=device)
    tried.standardize(figures)
    standard, count = tried.standard(figures), len(present)
    steps = max(20, EPOCHS * count // STEP)
    tried.members.requires_grad_(True)
    tried.train()
    with torch.enable_grad():
        for member in tried.members:
            optimizer = torch.optim.AdamW(
                member.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY
            )
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for _ in range(steps):
                rows = torch.randint(count, (min(STEP, count),), device=device)
                seen = standard[rows]
                logits = member(seen + JITTER * torch.randn_like(seen))[:, 0]
                loss = F.binary_cross_entropy_with_logits(logits, present[rows], pos_weight=weight)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    tried.requires_grad_(False).eval()
