"""DreamClean: invert a photo to a noise level, and walk back with variance-preserving corrections.

Apart from the other samplers because it starts from a photo and not from noise (Xiao et al., ICLR
2024). It needs no training and knows no degradation: a degraded photo's inverted noise is not
standard normal, and the corrections push it to where the model's photos lie.

All in the variance-exploding convention, x = x0 + σ·ε, where x / sqrt(σ² + 1) is the paper's y and
e = (x − x̂0) / σ its noise prediction; a step of deterministic DDIM is then one of Euler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from autodir.diffusion.denoiser import Denoise
from autodir.diffusion.samplers import Callback, SamplingStep
from autodir.diffusion.schedule import Schedule
from autodir.errors import ConfigError, ContractError
from autodir.records import Conditioning, NoiseSource

Renewal = Literal["preserving", "langevin", "none"]
STEPS = 30
"""Levels visited on each way unless the caller says otherwise; about 90 evaluations."""
LEAST = 0.03
"""The level at which a network is asked about clean latents; the usual tables begin just below."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamClean:
    """The settings of the technique.

    Attributes:
        gamma: γ in [0, 1], the share of the noise prediction that a correction removes. Of the
            inverted noise (1 − γ) to the power of all corrections is left at the end: the budget of
            fidelity.
        corrections: M, corrections at each level; 0 is inversion and DDIM alone.
        depth: τ / T in (0, 1], how far the photo is inverted.
        fixed_point: iterations that solve each inversion step for the noise at its END.
        renewal: the noise that a correction adds: "preserving" of variance γ(2 − γ)σ²; the two
            others are the alternatives of the paper's ablation, "langevin" 2γσ² and "none".
    """

    gamma: float = 0.05
    corrections: int = 1
    depth: float = 0.2
    fixed_point: int = 0
    renewal: Renewal = "preserving"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (0 <= self.gamma <= 1 and 0 < self.depth <= 1):
            raise ContractError(
                f"γ must lie in [0, 1] and the depth in (0, 1], got {self.gamma} and {self.depth}"
            )
        if min(self.corrections, self.fixed_point) < 0:
            raise ContractError("corrections and fixed-point iterations are at least 0")

    def evaluations(self, steps: int) -> int:
        """Calls of the network for ``steps`` levels: K(1 + N) to invert and K(M + 1) to return."""
        corrections = self.corrections if self.gamma > 0 else 0
        return steps * (1 + self.fixed_point) + steps * (corrections + 1)


def levels(schedule: Schedule, depth: float, steps: int | None = None) -> Tensor:
    """The levels that are visited: float32 (steps + 1,), from σ(τ) down to 0.

    Args:
        schedule: where timesteps become levels.
        depth: τ / T in (0, 1].
        steps: number of levels on each way; None takes `STEPS`.

    Raises:
        ConfigError: there are more steps than timesteps up to that depth.
    """
    count = STEPS if steps is None else steps
    if not 1 <= count <= depth * len(schedule):
        raise ConfigError(
            f"{count} sampling steps do not fit into {depth * len(schedule):.0f} timesteps",
            "Choose fewer sampling steps or a greater inversion depth.",
        )
    timesteps = torch.linspace(depth * len(schedule) - 1, 0, count + 1, dtype=torch.float64)
    return torch.cat([schedule.t_to_sigma(timesteps[:-1]), torch.zeros(1)])


def invert(
    denoise: Denoise,
    x0: Tensor,
    sigmas: Tensor,
    cond: Conditioning,
    fixed_point: int = 0,
) -> Tensor:
    """Carry clean latents up to a noise level along the model's own trajectory (DDIM inversion).

    Args:
        denoise: the denoiser, without guidance: guidance cannot be inverted.
        x0: (B, C, h, w).
        sigmas: (N + 1,) decreasing and ending in 0, walked from the end.
        cond: handed to ``denoise`` untouched.
        fixed_point: iterations that solve each step for the noise at its end.

    Returns:
        (B, C, h, w) at level ``sigmas[0]``.
    """
    x = x0.float()
    for sigma, above in pairwise(reversed(sigmas.tolist())):
        eps = _eps(denoise, x, max(sigma, LEAST), cond)
        ahead = x + (above - sigma) * eps
        for _ in range(fixed_point):
            ahead = x + (above - sigma) * _eps(denoise, ahead, above, cond)
        x = ahead
    return x


def correct(
    x: Tensor,
    x0: Tensor,
    sigma: float,
    gamma: float,
    noise: NoiseSource,
    renewal: Renewal = "preserving",
) -> Tensor:
    """One variance-preserving correction: x' = x̂0 + (1 − γ)(x − x̂0) + sqrt(γ(2 − γ))·σ·g.

    Args:
        x: latents at level ``sigma`` (B, C, h, w).
        x0: the denoiser's estimate for them.
        sigma: the level; the correction stays on it.
        gamma: γ in [0, 1]: 0 is the identity, 1 gives x̂0 with noise that is wholly fresh.
        noise: where g is drawn.
        renewal: see `DreamClean`.
    """
    kept = x0 + (1 - gamma) * (x - x0)
    variance = {"preserving": gamma * (2 - gamma), "langevin": 2 * gamma, "none": 0.0}[renewal]
    if variance == 0:
        return kept
    return kept + math.sqrt(variance) * sigma * noise.normal(x.shape, like=x)


def sample_dreamclean(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    cond: Conditioning,
    noise: NoiseSource,
    callback: Callback | None = None,
    *,
    settings: DreamClean | None = None,
    guided: Denoise | None = None,
) -> Tensor:
    """Invert the photo's latents to ``sigmas[0]``, and come back level by level, correcting.

    Args:
        denoise: the denoiser, without guidance.
        x: latents of the degraded PHOTO (B, C, h, w) in the space of diffusion, not noise.
        sigmas: from `levels`.
        cond: what both ways are conditioned on; the caller drops text and photo for the blind case.
        noise: of the corrections.
        callback: sees each step of the way back and may end it.
        settings: γ, M and the rest; the depth is that of ``sigmas``.
        guided: what estimates x̂0 in the DDIM steps, where guidance towards a target is wanted.

    Returns:
        Latents (B, C, h, w), float32.
    """
    chosen = settings or DreamClean()
    x = invert(denoise, x, sigmas, cond, chosen.fixed_point)
    total = len(sigmas) - 1
    for index, (sigma, below) in enumerate(pairwise(sigmas.tolist())):
        level = torch.full((x.shape[0],), sigma, device=x.device)
        for _ in range(chosen.corrections if chosen.gamma > 0 else 0):
            estimate = denoise(x, level, cond)
            x = correct(x, estimate, sigma, chosen.gamma, noise, chosen.renewal)
        x0 = (guided or denoise)(x, level, cond)
        if callback is not None:
            step = SamplingStep(index=index, total=total, sigma=sigma, x=x, x0=x0)
            if callback(step) is False:
                return x0
        x = x0 + (x - x0) * (below / sigma)
    return x


def unconditional(denoise: Denoise) -> Denoise:
    """The denoiser that hears neither the instruction nor the photo: the prior alone."""

    def blind(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        return denoise(x, sigma, cond.without_text().without_image())

    return blind


def _eps(denoise: Denoise, x: Tensor, sigma: float, cond: Conditioning) -> Tensor:
    """The noise prediction (x − x̂0) / σ."""
    level = torch.full((x.shape[0],), sigma, device=x.device)
    return (x - denoise(x, level, cond)) / sigma
