"""Noise: Gaussian in color and gray, of a sensor, of a camera's files, spatially correlated.

Apart because its parameters are photometric: deviations in 8-bit units and ISO speeds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodir.imaging.color import (
    linear_to_srgb,
    luma,
    rgb_to_ycbcr,
    srgb_to_linear,
    ycbcr_to_rgb,
)
from autodir.synthesis.draws import Draws, Fixed, Parameters, column, mask
from autodir.synthesis.filters import gaussian, gaussian_taps

# White color noise is what the denoising benchmarks add, so it has the largest share.
_KINDS = {"gaussian": 0.4, "gray": 0.08, "sensor": 0.17, "correlated": 0.1, "camera": 0.25}

# Of 65 crops of the PolyU pairs (training data), median and middle four fifths in flat parts: luma
# 3.1 (1.8 to 4.9) levels, alike in neighbors by 0.35 (0.24 to 0.54), chroma half of that and alike
# by 0.82; deviation greatest at a brightness of 0.3, three quarters of it in black, half in white.
_BRIGHTEST_NOISE = 0.3
_IN_BLACK, _IN_WHITE = 0.7, 0.45


def noise(
    clean: Tensor, severity: Tensor, generator: torch.Generator, fixed: Fixed | None = None
) -> tuple[Tensor, Parameters]:
    """Add noise.

    Args:
        clean: (B, 3, H, W) in [0, 1], sRGB-encoded.
        severity: (B,) in [0, 1].
        generator: source of all randomness.
        fixed: ``kind`` (gaussian, gray, sensor, correlated, camera), ``sigma`` (8-bit units;
            implies gaussian; of camera noise, in luma where it is greatest), ``iso`` (implies
            sensor), ``shot`` and ``read`` (of a measured camera, in linear light; imply sensor),
            ``spread`` (px, of correlated, sensor and camera noise), ``chroma`` (0-2, share of
            camera noise in both color differences) and ``chroma_spread`` (px; imply camera).

    Returns:
        Noisy image in [0, 1] and the parameters per sample.
    """
    draw = Draws(severity, generator, fixed)
    implied = {
        "chroma": "camera", "chroma_spread": "camera", "sigma": "gaussian", "iso": "sensor",
        "shot": "sensor", "read": "sensor",
    }  # fmt: skip
    kinds = draw.kind(_KINDS, implied=implied)
    sensor, gray = mask(kinds, "sensor"), mask(kinds, "gray")
    correlated, camera = mask(kinds, "correlated"), mask(kinds, "camera")
    sigma = torch.where(camera, draw.logarithmic(2.5, 14), draw.linear(3, 50))
    sigma = draw.named("sigma", sigma, ~sensor, (0, 255))
    iso = draw.named("iso", draw.logarithmic(400, 25600), sensor, (25, 819200))
    spread = torch.where(correlated, draw.uniform(0.5, 1.6), draw.uniform(0, 0.9))
    spread = torch.where(sensor & draw.happens(0.5), torch.zeros(1), spread)
    shot, read = sensor_noise(iso, draw.randn(draw.count))
    if fixed and "shot" in fixed:
        shot = draw.named("shot", shot, sensor, (0, 1))
    if fixed and "read" in fixed:
        read = draw.named("read", read, sensor, (0, 1))
    standard = draw.randn(*clean.shape)
    standard[gray] = standard[gray][:, :1].expand(-1, 3, -1, -1)
    spread = torch.where(camera, draw.uniform(0.4, 0.7), spread)
    spread = draw.named("spread", spread, correlated | sensor | camera, (0, 8))
    chroma = draw.named("chroma", draw.uniform(0.3, 0.7), camera, (0, 2))
    coarse = draw.named("chroma_spread", draw.uniform(1.0, 1.8), camera, (0, 8))
    alike = torch.where(correlated | sensor | camera, spread, torch.zeros(1))
    differences = standard[camera, 1:]
    standard = _correlate(standard, alike)
    standard[camera, 1:] = _correlate(differences, coarse[camera])
    standard = standard.to(clean)
    result = clean + standard * column(sigma / 255, clean)
    rows = camera.nonzero().flatten().to(clean.device)
    if len(rows):
        size = torch.stack([sigma, chroma * sigma, chroma * sigma], 1)[camera] / 255
        result[rows] = add_camera_noise(clean[rows], standard[rows], size.to(clean))
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


def add_camera_noise(clean: Tensor, standard: Tensor, size: Tensor) -> Tensor:
    """Noise as a camera's tone curve and noise reduction leave it.

    Mostly of luma, coarse in color, strongest in the darker middle tones.

    Args:
        clean: (B, 3, H, W) in [0, 1], sRGB-encoded.
        standard: noise of unit deviation in luma and both color differences, the same shape.
        size: its deviations at the brightness where they are greatest, (B, 3).
    """
    away = luma(clean) - _BRIGHTEST_NOISE
    white = (1 - _IN_WHITE) * (away / (1 - _BRIGHTEST_NOISE)).square()
    black = (1 - _IN_BLACK) * (away / _BRIGHTEST_NOISE).square()
    envelope = 1 - torch.where(away > 0, white, black)
    return ycbcr_to_rgb(rgb_to_ycbcr(clean) + envelope * size[..., None, None] * standard)


def _correlate(standard: Tensor, spread: Tensor) -> Tensor:
    """Blur unit noise by ``spread`` pixels and restore its unit deviation."""
    rows = (spread > 0.05).nonzero().flatten()
    if not len(rows):
        return standard
    energy = gaussian_taps(spread[rows]).square().sum(1)
    standard[rows] = gaussian(standard[rows], spread[rows]) / energy.view(-1, 1, 1, 1)
    return standard
