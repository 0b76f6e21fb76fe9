"""The head stage: classical measures are blended into the trained quality model.

Apart from the BIQA stage, because the tower stands still here: what it sees in many photos is
noted once, and the small blend learns from the notes in seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.diagnosis import streaks
from autodir.diagnosis.biqa import QualityHead, QualityModel
from autodir.errors import CheckpointError, ConfigError
from autodir.training.batches import Batches, as_found
from autodir.training.notes import Notes, collect

SHARE = (0.48, 0.14, 0.38)
"""One degradation, several, none. "No" is the answer that most mistakes are made with."""
EMPHASIS = {
    "raindrop": 1.6, "noise": 1.6, "haze": 1.4, "underexposure": 1.4, "rain": 1.8, "blur": 1.2,
}  # fmt: skip
"""What is missed most comes more often."""
SIZES = (224, 288, 352)
"""Sides of the photos in pixels: large enough for the measures, small enough for thousands."""
SCALE = (0.35, 1.25)
LEAST_SEVERITY = 0.08
BATCH = 8
COLLECTING = 0.9
"""Share of the budget in which photos are noted; the rest is for learning."""
EPOCHS, STEP = 40, 128
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2
WIDENED = 0.5
"""Of both, for a blend that has learnt from other photos already and only reads more measures."""
MEMBERS = 4
"""Networks of the blend, each with its own beginning and its own order of the photos."""
SMOOTHING = 0.02
JITTER = 0.05
"""Noise on the standardized inputs, so that few photos are not learnt by heart."""
NOTES = "notes.safetensors"


def train_head(
    model: QualityModel,
    batches: Batches,
    budget: float,
    run_dir: Path,
    *,
    seed: int = 0,
    resume: bool = False,
) -> dict[str, Any]:
    """Give the head a blend of measures, or go on with the one it has, and train that alone.

    What a blend of before reads keeps its scale, but for the locator's evidence, whose maker may
    have been trained since, and for measures that are new.

    Args:
        model: a trained quality model; its tower, its fusion and its scores stay as they are.
        batches: source of degraded and clean photos; `SHARE` of each kind serves best. None is
            turned on its side, since rain falls.
        budget: seconds, most of them to note what photos look like.
        run_dir: gets the notes.
        seed: of photos, weights and steps.
        resume: add to the notes that are there already.

    Returns:
        Figures of the training: photos noted, and the share of them named rightly.

    Raises:
        ConfigError: the model's head has no place for measures.
        CheckpointError: the notes to add to are those of another model.
    """
    head = model.head
    if not isinstance(head, QualityHead):
        raise ConfigError(
            "the published head knows no classical measures", "train the head of small"
        )
    path = run_dir / NOTES

    def note(generator: torch.Generator, index: int) -> Notes:
        drawn = batches.draw(
            BATCH, SIZES[index % len(SIZES)], generator, scale=SCALE, least=LEAST_SEVERITY
        )
        seen = as_found(drawn.degraded, generator)
        return {
            "fused": head.fused(model.features(seen)).float(), "measures": head.measures(seen),
            "label": drawn.label, "presence": drawn.presence,
        }  # fmt: skip

    def check(notes: Notes) -> None:
        if notes["fused"].shape[1] != head.config["hidden"]:
            raise CheckpointError(f"{path} was noted from another model", "use an empty folder")

    model.eval()
    batches = batches.upright()
    notes = collect(note, COLLECTING * budget, path, seed, resume=resume, check=check)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        before, learnt = head.blend, len(head.blend.nets) if head.blend is not None else 0
        blend = head.add_blend(notes["measures"].shape[1], MEMBERS)
        known = 0
        if before is not None and before.measures <= blend.measures:
            settled = len(blend.center) - head.evidences - streaks.MEASURES
            known = min(len(before.center), settled)
        blend.standardize(notes["fused"], notes["measures"], known)
        for index in range(len(blend.nets)):
            head.blend = blend.member(index)
            _learn(model, head, notes, WIDENED if known and index < learnt else 1.0)
        head.blend = blend
    head.eval().requires_grad_(False)
    with torch.no_grad():
        named = _logits(model, head, notes["fused"], notes["measures"])[0].argmax(1)
    right = (named == notes["label"]).float().mean()
    return {"noted": len(named), "measured": {"named": round(float(right), 4)}}


def _learn(model: QualityModel, head: QualityHead, notes: dict[str, Tensor], share: float) -> None:
    """Cross-entropy over the labels and of each presence; only the blend has gradients.

    ``share`` of the usual rate and epochs.
    """
    blend = head.blend
    assert blend is not None
    device = model.prompts.device
    data = {key: value.to(device) for key, value in notes.items()}
    model.requires_grad_(False)
    blend.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(
        blend.parameters(), share * LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    count = len(data["label"])
    steps = max(100, int(share * EPOCHS * count) // STEP)
    jitter = {key: JITTER * data[key].std(0) for key in ("fused", "measures")}
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(count, (min(STEP, count),), device=device)
        fused, measures = (
            noted + spread * torch.randn_like(noted)
            for noted, spread in ((data[key][rows], jitter[key]) for key in jitter)
        )
        logits, presence = _logits(model, head, fused, measures)
        loss = F.cross_entropy(logits, data["label"][rows], label_smoothing=SMOOTHING)
        loss = loss + F.binary_cross_entropy_with_logits(presence, data["presence"][rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _logits(
    model: QualityModel, head: QualityHead, fused: Tensor, measures: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits over the prompts and presence logits, from notes."""
    embedding, presence = head(fused.to(model.prompts), measures.to(model.prompts))
    return head.scores(embedding, model.prompts), presence
