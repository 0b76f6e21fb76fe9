"""Samplers: pure functions that walk noisy latents down a list of noise levels.

Apart so that each method is its paper's few lines: what denoises, which levels and which noise are
arguments.

All work in the variance-exploding convention, x = x0 + σ·ε, and keep x in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from autodir.diffusion.denoiser import Denoise
from autodir.errors import ContractError
from autodir.records import Conditioning, NoiseSource


@dataclass(frozen=True, kw_only=True)
class SamplingStep:
    """What a callback sees of one sampling step, before x moves on.

    Attributes:
        index: 0 for the first.
        total: number of sampling steps.
        sigma: the noise level of ``x``.
        x: noisy latents (B, C, h, w).
        x0: the denoiser's estimate of the clean latents, the same shape.
    """

    index: int
    total: int
    sigma: float
    x: Tensor
    x0: Tensor


Callback = Callable[[SamplingStep], object]
"""Called once a step; returning False ends sampling, and the last x̂0 is the result."""


class Sampler(Protocol):
    """The shape of every function in `SAMPLERS`."""

    def __call__(
        self,
        denoise: Denoise,
        x: Tensor,
        sigmas: Tensor,
        cond: Conditioning,
        noise: NoiseSource,
        callback: Callback | None = None,
    ) -> Tensor:
        """Integrate from ``x`` along ``sigmas``.

        Args:
            denoise: x̂0 from x.
            x: start latents (B, C, h, w), of standard deviation ``sigmas[0]``.
            sigmas: (N + 1,) strictly decreasing, in units of the latents' deviation; the last is 0.
            cond: handed to ``denoise`` untouched.
            noise: where random samplers draw from.
            callback: sees each step and may end the walk.

        Returns:
            Clean latents (B, C, h, w), float32.

        Raises:
            ContractError: ``sigmas`` does not decrease, or does not end in 0.
        """
        ...


# What carries x over one interval: (x, x0, σ, σ') → x at σ'.
_Advance = Callable[[Tensor, Tensor, float, float], Tensor]


def sample_euler(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    cond: Conditioning,
    noise: NoiseSource,
    callback: Callback | None = None,
) -> Tensor:
    """Euler's method on dx/dσ = (x − x̂0) / σ (arXiv:2206.00364, Algorithm 2, first order).

    Arguments, result and errors are those of `Sampler`; ``noise`` is not used.
    """

    def advance(x: Tensor, x0: Tensor, sigma: float, sigma_next: float) -> Tensor:
        # The same as x + (x − x0) / σ · (σ' − σ), without subtracting two large numbers where σ is
        # in the thousands.
        return x0 + (x - x0) * (sigma_next / sigma)

    return _walk(denoise, x, sigmas, cond, callback, advance)


def sample_euler_ancestral(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    cond: Conditioning,
    noise: NoiseSource,
    callback: Callback | None = None,
) -> Tensor:
    """Euler steps to σ_down, then fresh noise of deviation σ_up; σ_down² + σ_up² = σ'² (η = 1).

    Arguments, result and errors are those of `Sampler`. This is the sampler of AutoDIR's release.
    """

    def advance(x: Tensor, x0: Tensor, sigma: float, sigma_next: float) -> Tensor:
        sigma_up = _sigma_up(sigma, sigma_next)
        sigma_down = math.sqrt(max(sigma_next**2 - sigma_up**2, 0.0))
        x = x0 + (x - x0) * (sigma_down / sigma)
        return x + sigma_up * noise.normal(x.shape, like=x) if sigma_next > 0 else x

    return _walk(denoise, x, sigmas, cond, callback, advance)


def sample_ddim(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    cond: Conditioning,
    noise: NoiseSource,
    callback: Callback | None = None,
    eta: float = 0.0,
) -> Tensor:
    """DDIM steps (arXiv:2010.02502, Eq. 12 and 16), in the paper's variance-preserving terms.

    Arguments, result and errors are those of `Sampler`. With η = 0 it is deterministic and equals
    `sample_euler` up to rounding; with η = 1 it is ancestral (DDPM).
    """

    def advance(x: Tensor, x0: Tensor, sigma: float, sigma_next: float) -> Tensor:
        alpha, alpha_next = 1 / (1 + sigma**2), 1 / (1 + sigma_next**2)  # elsewhere written ᾱ
        x_t = x * math.sqrt(alpha)
        eps = (x_t - math.sqrt(alpha) * x0) / math.sqrt(1 - alpha)
        fresh = (1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next)
        sigma_t = eta * math.sqrt(fresh)
        x_t = math.sqrt(alpha_next) * x0 + math.sqrt(max(1 - alpha_next - sigma_t**2, 0.0)) * eps
        if sigma_t > 0:
            x_t = x_t + sigma_t * noise.normal(x.shape, like=x)
        return x_t / math.sqrt(alpha_next)

    return _walk(denoise, x, sigmas, cond, callback, advance)


def sample_dpmpp_2m(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    cond: Conditioning,
    noise: NoiseSource,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver++(2M), the multistep method in x0 (arXiv:2211.01095, Algorithm 2), λ = −log σ.

    Arguments, result and errors are those of `Sampler`; ``noise`` is not used. The first step and
    the one to σ = 0 are of first order.
    """
    previous: list[tuple[Tensor, float]] = []  # x̂0 and the width in λ of the interval before

    def advance(x: Tensor, x0: Tensor, sigma: float, sigma_next: float) -> Tensor:
        if sigma_next == 0:
            return x0
        ratio = sigma_next / sigma  # exp(−h)
        h = -math.log(ratio)
        direction = x0
        if previous:
            x0_before, h_before = previous.pop()
            direction = x0 + (x0 - x0_before) * (h / (2 * h_before))
        previous.append((x0, h))
        return direction + (x - direction) * ratio

    return _walk(denoise, x, sigmas, cond, callback, advance)


SAMPLERS: dict[str, Sampler] = {
    "euler_ancestral": sample_euler_ancestral,
    "euler": sample_euler,
    "ddim": sample_ddim,
    "dpmpp_2m": sample_dpmpp_2m,
}


def _walk(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    cond: Conditioning,
    callback: Callback | None,
    advance: _Advance,
) -> Tensor:
    """Denoise and advance over each interval of ``sigmas``."""
    levels = _checked(sigmas)
    x = x.float()
    for index, (sigma, sigma_next) in enumerate(pairwise(levels)):
        x0 = denoise(x, torch.full((x.shape[0],), sigma, device=x.device), cond)
        if callback is not None:
            step = SamplingStep(index=index, total=len(levels) - 1, sigma=sigma, x=x, x0=x0)
            if callback(step) is False:
                return x0
        x = advance(x, x0, sigma, sigma_next)
    return x


def _checked(sigmas: Tensor) -> list[float]:
    """The levels as numbers, or `ContractError`."""
    levels: list[float] = sigmas.detach().double().cpu().flatten().tolist()
    if sigmas.ndim != 1 or len(levels) < 2:
        raise ContractError(f"sigmas must be (N + 1,) with N ≥ 1, got {tuple(sigmas.shape)}")
    if levels[-1] != 0 or not levels[0] < float("inf"):
        raise ContractError(f"sigmas must be finite and end in 0, got {levels[0]} … {levels[-1]}")
    if not all(high > low for high, low in pairwise(levels)):
        raise ContractError(f"sigmas must strictly decrease, got {levels}")
    return levels


def _sigma_up(sigma: float, sigma_next: float) -> float:
    """The deviation of fresh noise in an ancestral step."""
    return min(sigma_next, sigma_next / sigma * math.sqrt(sigma**2 - sigma_next**2))
