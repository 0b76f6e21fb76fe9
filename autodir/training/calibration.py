"""The calibration stage: temperature, presence scaling and thresholds, on held-out photos.

Apart and last, because it measures the finished diagnosis as it will be used: on whole photos.
"""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.diagnosis.biqa import QualityModel
from autodir.imaging.color import luma
from autodir.synthesis.operators import OPERATORS, quantize_8bit
from autodir.training.data import PhotoPool

TOUCHED = 0.02
"""Largest share of clean photos that the thresholds let through as degraded.

The promise is that 98 % of the clean photos are left alone. With one threshold for all it cost too
many degraded photos to be kept; where each has its own it does not.
"""
GRAY = 0.1
"""Share of the photos without color."""
CLEAN_SHARE = 0.65
"""Share of clean photos among those measured; thresholds are tails of theirs and need many."""
LEAST, MOST = 0.1, 0.98
"""No threshold is below or above these."""


@torch.no_grad()
def _scores(
    model: QualityModel, photos: PhotoPool, budget: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, K + 1), presence logits (N, K) and true labels (N,) of whole photos.

    Photos are measured until the budget of seconds is spent.
    """
    keys = [degradation.key for degradation in model.taxonomy]
    logits, presence, labels = [], [], []
    end, index = time.monotonic() + budget, 0
    while index < 2 * len(keys) or time.monotonic() < end:
        clean = _variant(photos.photos[index % len(photos)], index // len(photos), generator)
        index += 1
        if float(torch.rand((), generator=generator)) < CLEAN_SHARE:
            label, image = model.taxonomy.clean_index, clean
        else:
            key = keys[int(torch.randint(len(keys), (), generator=generator))]
            severity = 0.1 + 0.9 * torch.rand(1, generator=generator)
            image = quantize_8bit(OPERATORS[key](clean, severity, generator)[0])
            label = model.taxonomy.index(key)
        scores, present = model.closely(image.to(model.prompts.device))
        logits.append(scores[0].cpu())
        presence.append(present[0].cpu())
        labels.append(label)
    return torch.stack(logits), torch.stack(presence), torch.tensor(labels)


def _variant(photo: Tensor, round_: int, generator: torch.Generator) -> Tensor:
    """A clean photo (1, 3, H, W): as it is first, then gray, shrunk, cropped, encoded."""
    image = photo[None].float() / 255
    if round_ == 0:
        return image
    if float(torch.rand((), generator=generator)) < GRAY:
        image = luma(image).expand_as(image)
    height, width = image.shape[-2:]
    scale = 0.5 + 0.5 * float(torch.rand((), generator=generator))
    if float(torch.rand((), generator=generator)) < 0.5:
        size = (max(64, round(height * scale)), max(64, round(width * scale)))
        image = F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)
    else:
        image = image[..., : max(64, round(height * scale)), : max(64, round(width * scale))]
    if float(torch.rand((), generator=generator)) < 0.5:
        quality = int(torch.randint(90, 99, (), generator=generator))
        array = (image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        buffer = io.BytesIO()
        PillowImage.fromarray(array).save(buffer, "JPEG", quality=quality)
        with PillowImage.open(buffer) as photo_again:
            image = (
                torch.from_numpy(np.asarray(photo_again).copy()).permute(2, 0, 1)[None].float()
                / 255
            )
    return image


def _platt(logits: Tensor, present: Tensor) -> tuple[float, float]:
    """Scale and shift that minimize one presence head's cross-entropy (Platt 1999); scale > 0."""
    with torch.enable_grad():
        log_scale, shift = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        optimizer = torch.optim.LBFGS(
            [log_scale, shift], max_iter=50, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = F.binary_cross_entropy_with_logits(log_scale.exp() * logits + shift, present)
            value = value + 1e-3 * (log_scale.square() + shift.square())
            value.backward()
            return value

        optimizer.step(closure)
    return float(log_scale.detach().exp()), float(shift.detach())


def _temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that minimizes the negative log-likelihood (arXiv:1706.04599), by search."""
    candidates = torch.logspace(-1, 1, 81)
    losses = [float(F.cross_entropy(logits / t, labels)) for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def calibrate(
    model: QualityModel, photos: PhotoPool, budget: float, seed: int = 0
) -> dict[str, Any]:
    """Choose the figures of `Calibration`.

    Args:
        model: the trained quality model, in eval mode.
        photos: held-out photos.
        budget: seconds to spend; at least two photos for each degradation are measured.
        seed: of the degradations.

    Returns:
        The fields of `Calibration`, and how they were chosen: numbers of photos, accuracy, the
            share of clean photos in which something is found with its 95 % Wilson interval.
    """
    logits, presence, labels = _scores(model, photos, budget, torch.Generator().manual_seed(seed))
    taxonomy = model.taxonomy
    scale, shift = {}, {}
    calibrated = torch.zeros_like(presence)
    for index, degradation in enumerate(taxonomy):
        present = (labels == taxonomy.index(degradation.key)).float()
        a, b = _platt(presence[:, index], present)
        scale[degradation.key], shift[degradation.key] = a, b
        calibrated[:, index] = torch.sigmoid(a * presence[:, index] + b)
    clean = labels == taxonomy.clean_index
    own = _thresholds(calibrated[clean])
    found = (calibrated >= own).any(1)
    touched = int(found[clean].sum())
    named = logits.argmax(1) == labels
    return {
        "temperature": _temperature(logits, labels),
        "thresholds": dict(zip(scale, own.tolist(), strict=True)),
        "presence_scale": scale,
        "presence_shift": shift,
        "chosen_on": {
            "clean_photos": int(clean.sum()),
            "degraded_photos": int((~clean).sum()),
            "clean_touched": touched,
            "clean_touched_interval": _wilson(touched, int(clean.sum())),
            "degraded_found": int(found[~clean].sum()),
            "degraded_named": int(named[~clean].sum()),
            "seed": seed,
        },
    }


def _thresholds(clean: Tensor) -> Tensor:
    """(K,) thresholds under which every degradation is found in equally many clean photos.

    A common one is the threshold of what is mistaken most: rain and drops raise nearly all false
    alarms, and haze would be missed for their sake.

    Args:
        clean: presences (N, K) in clean photos, any N.

    Returns:
        The lowest thresholds with which at most the share `TOUCHED` of the photos is touched.
    """
    if not len(clean):
        return torch.full(clean.shape[1:], 0.5)
    ranked = clean.sort(0, descending=True).values.clamp(LEAST, MOST)
    chosen = ranked[0]
    for values in ranked:
        if float((clean > values).any(1).float().mean()) > TOUCHED:
            break
        chosen = values
    return (chosen + 1e-6).clamp_max(MOST)


def _wilson(successes: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % Wilson interval of a share."""
    if count == 0:
        return 0.0, 1.0
    share, square = successes / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = (
        z * ((share * (1 - share) / count + square / (4 * count**2)) ** 0.5) / (1 + square / count)
    )
    return max(0.0, middle - half), min(1.0, middle + half)
