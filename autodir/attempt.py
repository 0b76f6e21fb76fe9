"""What the correction alone would make of a photo: the repair that a suspicion is tested by.

Apart from the pipeline, because the training needs it too, and from the diagnosis, which knows no
correction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodir.builders import Model
from autodir.diagnosis.biqa import QualityHead
from autodir.diagnosis.trial import KEY, Suspicion
from autodir.diffusion.model import LatentDiffusion
from autodir.records import Mixture


class Attempt:
    """Repairs a photo against one degradation by the correction alone, its light as it is.

    Args:
        model: whose correction it is.
        diffusion: the model's, which reads the instruction.
        key: the degradation.
    """

    def __init__(self, model: Model, diffusion: LatentDiffusion, key: str = KEY) -> None:
        self._corrector, self._diffusion = model.scm, diffusion
        self._mixture = Mixture(phrases=(model.taxonomy.prompt(key),), weights=(1.0,))

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """(1, 3, H, W) in [0, 1], H and W multiples of 16 → the same shape, near [0, 1]."""
        told = self._diffusion.instruction(self._mixture)
        residual: Tensor = self._corrector(pixels, pixels, told.pooled)
        return pixels + residual


def suspicion_of(model: Model, diffusion: LatentDiffusion) -> Suspicion | None:
    """What a model tries where its diagnosis is in doubt; None where it has not learnt to."""
    tried = model.head.trial if isinstance(model.head, QualityHead) else None
    return None if tried is None else Suspicion(tried, Attempt(model, diffusion))
