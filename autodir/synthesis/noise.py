"""Noise: Gaussian in color and gray, Poisson-Gaussian sensor noise, spatially correlated noise.

Apart because its parameters are photometric: deviations in 8-bit units and ISO speeds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodir.imaging.color import linear_to_srgb, srgb_to_linear
from autodir.synthesis.draws import Draws, Fixed, Parameters, column, mask
from autodir.synthesis.filters import gaussian, gaussian_taps

# White color noise is what the denoising benchmarks add, so half of the samples have it.
_KINDS = {"gaussian": 0.5, "gray": 0.1, "sensor": 0.25, "correlated": 0.15}


def noise(
    clean: Tensor, severity: Tensor, generator: torch.Generator, fixed: Fixed | None = None
) -> tuple[Tensor, Parameters]:
    """Add noise.

    Args:
        clean: (B, 3, H, W) in [0, 1], sRGB-encoded.
        severity: (B,) in [0, 1].
        generator: source of all randomness.
        fixed: ``kind`` (gaussian, gray, sensor, correlated), ``sigma`` (8-bit units; implies
            gaussian), ``iso`` (implies sensor), ``shot`` and ``read`` (of a measured camera, in
            linear light; imply sensor), ``spread`` (px, of correlated and sensor noise).

    Returns:
        Noisy image in [0, 1] and the parameters per sample.
    """
    draw = Draws(severity, generator, fixed)
    implied = {"sigma": "gaussian", "iso": "sensor", "shot": "sensor", "read": "sensor"}
    kinds = draw.kind(_KINDS, implied=implied)
    sensor, gray = mask(kinds, "sensor"), mask(kinds, "gray")
    correlated = mask(kinds, "correlated")
    sigma = draw.named("sigma", draw.linear(3, 50), ~sensor, (0, 255))
    iso = draw.named("iso", draw.logarithmic(400, 25600), sensor, (25, 819200))
    spread = torch.where(correlated, draw.uniform(0.5, 1.6), draw.uniform(0, 0.9))
    spread = torch.where(sensor & draw.happens(0.5), torch.zeros(1), spread)
    spread = draw.named("spread", spread, correlated | sensor, (0, 8))
    shot, read = sensor_noise(iso, draw.randn(draw.count))
    if fixed and "shot" in fixed:
        shot = draw.named("shot", shot, sensor, (0, 1))
    if fixed and "read" in fixed:
        read = draw.named("read", read, sensor, (0, 1))
    standard = draw.randn(*clean.shape)
    standard[gray] = standard[gray][:, :1].expand(-1, 3, -1, -1)
    standard = _correlate(standard, torch.where(correlated | sensor, spread, torch.zeros(1)))
    standard = standard.to(clean)
    result = clean + standard * column(sigma / 255, clean)
    rows = sensor.nonzero().flatten().to(clean.device)
    if len(rows):
        light = srgb_to_linear(clean[rows])
        light = add_sensor_noise(light, standard[rows], shot[sensor], read[sensor])
        result[rows] = linear_to_srgb(light.clamp(0, 1))
    return result.clamp(0, 1), draw.parameters()


def sensor_noise(iso: Tensor, jitter: Tensor) -> tuple[Tensor, Tensor]:
    """Shot gain K and read variance s² in linear light [0, 1] at an ISO speed.

    K = 1e-4 · ISO / 100 and log s² = 2.18 log K + 1.20 + 0.26 · jitter (arXiv:1811.11127, 3.1).
    """
    shot = 1e-4 * iso / 100
    return shot, torch.exp(2.18 * torch.log(shot) + 1.20 + 0.26 * jitter)


def add_sensor_noise(light: Tensor, standard: Tensor, shot: Tensor, read: Tensor) -> Tensor:
    """Linear light plus noise of variance K · light + s².

    The Poisson part is drawn as the normal law of its variance: the same draw then serves the photo
    with and without another degradation, as the targets of a composite need.
    """
    variance = column(shot, light) * light + column(read, light)
    return light + standard * variance.sqrt()


def _correlate(standard: Tensor, spread: Tensor) -> Tensor:
    """Blur unit noise by ``spread`` pixels and restore its unit deviation."""
    rows = (spread > 0.05).nonzero().flatten()
    if not len(rows):
        return standard
    energy = gaussian_taps(spread[rows]).square().sum(1)
    standard[rows] = gaussian(standard[rows], spread[rows]) / energy.view(-1, 1, 1, 1)
    return standard
