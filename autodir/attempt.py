"""What the correction alone would make of a photo: the evidence that a suspicion is tested by.

Apart from the pipeline, because the training needs it too, and from the diagnosis, which knows no
correction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from autodir.builders import Model
from autodir.correction.clearing import SEEN, Clearer
from autodir.diagnosis import cover, residue
from autodir.diagnosis.biqa import QualityHead
from autodir.diagnosis.trial import Evidence, Suspicion, Trial
from autodir.diffusion.model import LatentDiffusion
from autodir.imaging.neighborhoods import shrunk
from autodir.records import Mixture


class Attempt:
    """Repairs a photo against one degradation by the correction alone, its light as it is.

    Args:
        model: whose correction it is.
        diffusion: the model's, which reads the instruction.
        key: the degradation.
    """

    def __init__(self, model: Model, diffusion: LatentDiffusion, key: str) -> None:
        self._corrector, self._diffusion = model.scm, diffusion
        self._mixture = Mixture(phrases=(model.taxonomy.prompt(key),), weights=(1.0,))

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """(1, 3, H, W) in [0, 1], H and W multiples of 16 → the same shape, near [0, 1]."""
        told = self._diffusion.instruction(self._mixture)
        residual: Tensor = self._corrector(pixels, pixels, told.pooled)
        return pixels + residual


def _streaks(model: Model, diffusion: LatentDiffusion, key: str) -> Evidence:
    """What the repair takes out of the middle of a photo."""
    attempt = Attempt(model, diffusion, key)
    return lambda pixels: residue.tried(pixels, attempt)


def _cover(model: Model, diffusion: LatentDiffusion, key: str) -> Evidence | None:
    """What the clearing finds on the lens; None where the model has none for it."""
    clearing = model.scm.clearing
    if clearing is None or key not in clearing.experts:
        return None
    expert = clearing.experts[key]
    assert isinstance(expert, Clearer)

    @torch.no_grad()
    def evidence(pixels: Tensor) -> Tensor:
        hidden, _, color, _ = expert.maps(shrunk(pixels, SEEN).float())
        return cover.measure(hidden, hidden * color)

    return evidence


class _Kind(NamedTuple):
    """How much evidence there is of a degradation, and where a model has it from."""

    figures: int
    make: Callable[[Model, LatentDiffusion, str], Evidence | None]


_KINDS: Mapping[str, _Kind] = {
    "rain": _Kind(residue.FIGURES, _streaks),
    "raindrop": _Kind(cover.FIGURES, _cover),
}
FIGURES: Mapping[str, int] = {key: kind.figures for key, kind in _KINDS.items()}
"""How much evidence there is of each degradation that can be tried."""


def evidence_of(model: Model, diffusion: LatentDiffusion) -> dict[str, Evidence]:
    """What a model can try, by degradation."""
    kinds = {key: kind.make(model, diffusion, key) for key, kind in _KINDS.items()}
    return {key: evidence for key, evidence in kinds.items() if evidence is not None}


def suspicions_of(model: Model, diffusion: LatentDiffusion) -> list[Suspicion]:
    """What a model tries where its diagnosis is in doubt; nothing where it has not learnt to."""
    if not isinstance(model.head, QualityHead):
        return []
    evidence, suspicions = evidence_of(model, diffusion), list[Suspicion]()
    for key, tried in model.head.trials.items():
        assert isinstance(tried, Trial)
        if key in evidence:
            suspicions.append(Suspicion(key, tried, evidence[key]))
    return suspicions
