"""Classifier-free guidance by text and by image, as a function from denoiser to denoiser.

Apart from the samplers, which never ask how an x̂0 came about.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodir.diffusion.conditioning import concatenate
from autodir.diffusion.denoiser import Denoise
from autodir.errors import ContractError
from autodir.records import Conditioning


def classifier_free(
    denoise: Denoise, text: float = 1.0, image: float = 1.0, batched: bool = False
) -> Denoise:
    """Push the prediction away from the unconditioned ones (as in arXiv:2211.09800, Eq. 3).

    With A = D(text, image), B = D(null, image), C = D(null, 0) the result is C + s_text·(A − B) +
    s_image·(B − C) = s_text·A + (s_image − s_text)·B + (1 − s_image)·C. A branch with weight zero
    is not computed, so scales 1 / 1 cost one evaluation. The weights sum to 1, hence guiding x̂0 is
    the same as guiding ε or v.

    Args:
        denoise: the denoiser to guide.
        text: s_text, at least 0; 1 is no guidance.
        image: s_image, at least 0; 1 is no guidance.
        batched: evaluate the branches in one call with a larger batch: more memory, fewer calls.

    Raises:
        ContractError: a scale is negative or not finite.
    """
    if not (0 <= text < float("inf") and 0 <= image < float("inf")):
        raise ContractError(
            f"guidance scales must be at least 0 and finite, got text {text}, image {image}"
        )
    weights = (text, image - text, 1 - image)
    if weights == (1, 0, 0):
        return denoise

    def guided(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        branches = [
            (weight, condition)
            for weight, condition in zip(weights, (cond, *_nulls(cond)), strict=True)
            if weight != 0
        ]
        if batched and len(branches) > 1:
            outputs = denoise(
                torch.cat([x] * len(branches)),
                sigma.expand(x.shape[0]).repeat(len(branches)),
                concatenate([condition for _, condition in branches], x.shape[0]),
            ).chunk(len(branches))
        else:
            outputs = tuple(denoise(x, sigma, condition) for _, condition in branches)
        total = torch.zeros_like(outputs[0])
        for (weight, _), output in zip(branches, outputs, strict=True):
            total = total + weight * output
        return total

    return guided


def _nulls(cond: Conditioning) -> tuple[Conditioning, Conditioning]:
    """The conditions of branches B and C."""
    without_text = cond.without_text()
    return without_text, without_text.without_image()
