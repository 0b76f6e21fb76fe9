"""Region-adaptive restoration guidance: flat parts of the estimate are drawn towards a target.

Apart from classifier-free guidance because it looks at pictures, not at conditions (DiffBIR,
arXiv:2308.15070). Flat regions should stay as faithful as the target is, while texture is left to
the prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from autodir.diffusion.denoiser import Denoise
from autodir.diffusion.schedule import Schedule
from autodir.errors import ContractError
from autodir.imaging.resize import pad_to_multiple
from autodir.records import Conditioning

SCALE = 3000.0
"""What the published scale s is multiplied with, for pictures of `REFERENCE` pixels."""
REFERENCE = 512 * 512
_GRAY = (0.2989, 0.5870, 0.1140)
_PATCH = 2
_PROBE = 1e-2


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionGuidance:
    """The settings of the guidance.

    Attributes:
        strength: s; 0 is none, 1 the most faithful of the published range.
        space: "pixel" compares decoded estimates, "latent" the latents themselves, which is
            cheaper.
        repeat: pulls in each sampling step.
        start, until: shares of the timesteps, the noisiest and the cleanest at which it pulls.
    """

    strength: float = 0.0
    space: str = "pixel"
    repeat: int = 1
    start: float = 1.0
    until: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.strength < math.inf or self.repeat < 1:
            raise ContractError(
                f"guidance needs a strength of at least 0 and a repeat of at least 1, got {self}"
            )
        if self.space not in ("pixel", "latent"):
            raise ContractError(f"the guidance space is pixel or latent, got {self.space!r}")


def flatness(picture: Tensor) -> Tensor:
    """How flat each patch of 2 × 2 pixels is: W = 1 − tanh(Σ |∇ gray|), by Sobel's operator.

    Args:
        picture: (B, 3, H, W) in [0, 1], of any size.

    Returns:
        (B, 1, H, W) in [0, 1]; 1 where nothing changes, near 0 on texture.
    """
    weights = picture.new_tensor(_GRAY).view(1, 3, 1, 1)
    padded, _ = pad_to_multiple((picture * weights).sum(1, keepdim=True), _PATCH)
    across = picture.new_tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    kernels = torch.stack([across, across.T])[:, None]
    edges = functional.conv2d(functional.pad(padded, (1, 1, 1, 1), mode="replicate"), kernels)
    magnitude = edges.square().sum(1, keepdim=True).sqrt()
    density = torch.tanh(functional.avg_pool2d(magnitude, _PATCH) * _PATCH**2)
    whole = 1 - density.repeat_interleave(_PATCH, 2).repeat_interleave(_PATCH, 3)
    return whole[..., : picture.shape[-2], : picture.shape[-1]]


def posterior_weight(sigma: float, below: float) -> float:
    """The weight of x̂0 in DDPM's posterior mean for a step from ``sigma`` to ``below``.

    c1 = β sqrt(ᾱ') / (1 − ᾱ) with β = 1 − ᾱ / ᾱ' (arXiv:2006.11239, Eq. 7); 1 for the last step.
    """
    alpha, after = 1 / (1 + sigma**2), 1 / (1 + below**2)
    return (1 - alpha / after) * math.sqrt(after) / (1 - alpha)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the estimate is drawn to, and how the two are compared.

    Attributes:
        values: pixels (B, 3, H, W) in [-1, 1], or latents (B, C, h, w).
        weight: W of the same height and width, (B, 1, H, W).
        decode: from scaled latents to the space of ``values``.
        reference: elements that ``values`` would have in a photo of `REFERENCE` pixels.
    """

    values: Tensor
    weight: Tensor
    decode: Callable[[Tensor], Tensor]
    reference: float

    def loss(self, seen: Tensor) -> Tensor:
        """L = mean of W · (seen − values)², (B,), of a decoded estimate."""
        return (self.weight * (seen - self.values).square()).mean((1, 2, 3))


def pixel_target(picture: Tensor, decode: Callable[[Tensor], Tensor]) -> Target:
    """Compare decoded pixels.

    Args:
        picture: (B, 3, H, W) in [0, 1].
        decode: scaled latents to (B, 3, H, W) in [0, 1], not clamped, differentiable.
    """
    return Target(
        values=picture * 2 - 1,
        weight=flatness(picture),
        decode=lambda x0: decode(x0) * 2 - 1,
        reference=3.0 * REFERENCE,
    )


def latent_target(picture: Tensor, latents: Tensor) -> Target:
    """Compare latents, without decoding; W is averaged over the pixels of each latent.

    Args:
        picture: (B, 3, H, W) in [0, 1].
        latents: of that picture, scaled (B, C, h, w).
    """
    size = (int(latents.shape[-2]), int(latents.shape[-1]))
    area = picture.shape[-2] * picture.shape[-1]
    return Target(
        values=latents,
        weight=functional.adaptive_avg_pool2d(flatness(picture), size),
        decode=lambda x0: x0,
        reference=latents[0].numel() * REFERENCE / area,
    )


def region_adaptive(
    denoise: Denoise, target: Target, settings: RegionGuidance, schedule: Schedule, sigmas: Tensor
) -> Denoise:
    """Move each estimate down the gradient of `Target.loss` (DiffBIR, Eq. 13 to 17).

    The published step is 3000·s / c1 times the gradient of a mean over all elements, which fades
    with the number of pixels. Here the gradient is counted as in a photo of 512 × 512, so that s
    means the same at any size; and no step goes beyond the minimum along its own direction, so that
    a large s cannot diverge.

    Args:
        denoise: what gives the estimate, other guidance and tiles included.
        target: see `pixel_target` and `latent_target`.
        settings: a strength of 0 gives ``denoise`` itself.
        schedule: where levels become shares of the chain.
        sigmas: the levels that the sampler visits, (N + 1,), decreasing to 0.
    """
    if settings.strength == 0:
        return denoise
    below = dict(pairwise(sigmas.tolist()))

    def guided(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        x0 = denoise(x, sigma, cond)
        share = float(schedule.sigma_to_t(sigma)[0]) / (len(schedule) - 1)
        if not settings.until <= share <= settings.start:
            return x0
        level = min(below, key=lambda known: abs(known - float(sigma[0])))
        factor = SCALE * settings.strength / posterior_weight(level, below[level])
        for _ in range(settings.repeat):
            x0 = _descend(x0, target, factor)
        return x0

    return guided


def _descend(x0: Tensor, target: Target, factor: float) -> Tensor:
    """``x0`` − step · ∇L, the step at most the one to the minimum along the gradient."""
    # A caller may be in inference mode, whose tensors take part in no gradient: copies may.
    with torch.inference_mode(False), torch.enable_grad():
        start = x0.detach().clone().requires_grad_(True)
        own = replace(target, values=target.values.clone(), weight=target.weight.clone())
        seen = target.decode(start)
        (gradient,) = torch.autograd.grad(own.loss(seen).sum(), start)
    # How the picture changes along the gradient, from a step too small to leave the straight part.
    squared = gradient.square().sum((1, 2, 3), keepdim=True)
    probe = _PROBE * x0.square().sum((1, 2, 3), keepdim=True).clamp_min(1e-12).sqrt()
    probe = probe / squared.sqrt().clamp_min(1e-12)
    change = (target.decode(x0 + probe * gradient) - seen.detach()) / probe
    curvature = (target.weight * change.square()).mean((1, 2, 3)).view(-1, 1, 1, 1)
    limit = squared / (2 * curvature).clamp_min(1e-20)
    count = target.values[0].numel()
    return x0 - (limit.clamp_max(factor * count / target.reference)) * gradient
