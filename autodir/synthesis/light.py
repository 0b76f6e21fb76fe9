"""Too little and veiled light: underexposure and haze.

Apart because both change the radiance of the whole scene and neither touches its sharpness.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from autodir.imaging.color import linear_to_srgb, srgb_to_linear
from autodir.imaging.neighborhoods import guided_map
from autodir.synthesis.draws import Draws, Fixed, Parameters, column, mask
from autodir.synthesis.filters import smooth_field
from autodir.synthesis.noise import add_sensor_noise, sensor_noise

_CURVES = {"exposure": 0.5, "gamma": 0.5}
_DEPTHS = {"ground": 0.3, "planes": 0.2, "fractal": 0.15, "brightness": 0.2, "constant": 0.15}
_GUIDE_SIDE = 192


def underexposure(
    clean: Tensor, severity: Tensor, generator: torch.Generator, fixed: Fixed | None = None
) -> tuple[Tensor, Parameters]:
    """Darken by a shorter exposure in linear light, or by a curve I = b · J^g, noise included.

    The range follows the pairs of LOL: median exposure 1/47, g 1.3-3.2, mean value 0.05-0.1.

    Args:
        clean: (B, 3, H, W) in [0, 1], sRGB-encoded.
        severity: (B,) in [0, 1].
        generator: source of all randomness.
        fixed: ``kind`` (exposure, gamma), ``exposure`` (0-1, linear light; implies exposure),
            ``gamma`` and ``gain`` (imply gamma), ``iso`` (0: no noise), ``cast`` (0-1, deviation of
            the channel gains), ``uneven`` (0-1, how far the light falls off across the frame).

    Returns:
        Dark image in [0, 1] and the parameters per sample.
    """
    draw = Draws(severity, generator, fixed)
    kinds = draw.kind(_CURVES, {"exposure": "exposure", "gamma": "gamma", "gain": "gamma"})
    by_gamma = mask(kinds, "gamma")
    exposure = draw.named("exposure", draw.logarithmic(0.5, 1 / 48), ~by_gamma, (0, 1))
    middle = draw.logarithmic(0.34, 0.045)
    steepest = (torch.log(middle) / math.log(0.5)).clamp(1.1, 3.2)
    gamma = draw.named("gamma", draw.uniform(1.1, steepest), by_gamma, (0.1, 10))
    gain = draw.named("gain", middle / 0.5**gamma, by_gamma, (0, 1))
    noisy = draw.happens(0.55)
    iso = draw.logarithmic(40, 260) * draw.log_uniform(0.4, 2.0)
    iso = draw.named("iso", torch.where(noisy, iso, torch.zeros(1)), None, (0, 102400))
    cast = draw.named("cast", torch.where(draw.happens(0.5), draw.uniform(0, 0.1), torch.zeros(1)))
    uneven = torch.where(draw.happens(0.25), draw.uniform(0.2, 0.8), torch.zeros(1))
    uneven = draw.named("uneven", uneven, None, (0, 1))
    height, width = clean.shape[-2:]
    field = smooth_field(draw.rand(draw.count, 1, 3, 3), height, width).clamp(0, 1).to(clean)
    curved = column(gain, clean) * clean ** column(gamma, clean)
    light = torch.where(
        column(by_gamma, clean) > 0,
        srgb_to_linear(curved),
        srgb_to_linear(clean) * column(exposure, clean),
    )
    light = light * (1 - column(uneven, clean) * field)
    light = light * (1 + cast.view(-1, 1, 1, 1) * draw.randn(draw.count, 3, 1, 1)).clamp(
        0.7, 1.3
    ).to(clean)
    shot, read = sensor_noise(iso.clamp_min(1), draw.randn(draw.count))
    standard = draw.randn(*clean.shape).to(clean) * column(iso > 0, clean)
    light = add_sensor_noise(light, standard, shot, read)
    return linear_to_srgb(light.clamp(0, 1)), draw.parameters()


def haze(
    clean: Tensor, severity: Tensor, generator: torch.Generator, fixed: Fixed | None = None
) -> tuple[Tensor, Parameters]:
    """Veil the scene: I = J t + A (1 - t) with t = exp(-beta d), in sRGB for most samples.

    Depth d in [0, 1] comes from one of several simple scenes, so that no single cue gives it away.

    Args:
        clean: (B, 3, H, W) in [0, 1], sRGB-encoded.
        severity: (B,) in [0, 1].
        generator: source of all randomness.
        fixed: ``beta`` (≥ 0; 0 leaves the photo unchanged), ``airlight`` (0-1), ``tint`` (blue
            minus red of the airlight), ``near`` (0-1, smallest depth), ``linear_light`` (0 or 1),
            ``kind`` (ground, planes, fractal, brightness, constant).

    Returns:
        Hazy image in [0, 1] and the parameters per sample.
    """
    draw = Draws(severity, generator, fixed)
    kinds = draw.kind(_DEPTHS)
    beta = draw.named("beta", draw.logarithmic(0.5, 2.2) * draw.uniform(0.85, 1.15), None, (0, 1e9))
    airlight = draw.named("airlight", draw.uniform(0.6 + 0.15 * draw.severity, 1.0), None, (0, 1))
    tint = draw.named("tint", draw.randn(draw.count) * 0.025, None, (-0.5, 0.5))
    near = draw.named("near", draw.uniform(0.05, 0.35), None, (0, 1))
    in_light = draw.named("linear_light", draw.happens(0.15).float(), None, (0, 1)) > 0
    depth = _depth(kinds, clean, draw)
    start = column(near, clean)
    depth = start + (1 - start) * depth
    transmission = torch.exp(-column(beta, clean) * depth)
    air = column(airlight, clean) + column(tint, clean) * torch.tensor(
        [-0.5, 0, 0.5], device=clean.device, dtype=clean.dtype
    ).view(1, 3, 1, 1)
    result = add_haze(clean, transmission, air.clamp(0, 1))
    rows = in_light.nonzero().flatten().to(clean.device)
    if len(rows):
        lit = add_haze(
            srgb_to_linear(clean[rows]), transmission[rows], srgb_to_linear(air[rows].clamp(0, 1))
        )
        # At beta = 0 the curve's round trip would move the last bits.
        result[rows] = torch.where(transmission[rows] < 1, linear_to_srgb(lit), clean[rows])
    return result.clamp(0, 1), draw.parameters()


def add_haze(scene: Tensor, transmission: Tensor, airlight: Tensor) -> Tensor:
    """Koschmieder's law, J t + A (1 - t)."""
    return scene * transmission + airlight * (1 - transmission)


def _depth(kinds: list[str], clean: Tensor, draw: Draws) -> Tensor:
    """Depth (B, 1, H, W) in [0, 1]; built small and stretched, since a scene's depth is smooth."""
    height, width = clean.shape[-2:]
    shrink = max(1.0, max(height, width) / _GUIDE_SIDE)
    rows, columns = max(1, round(height / shrink)), max(1, round(width / shrink))
    gray = clean.mean(1, keepdim=True)
    if shrink > 1:
        gray = functional.interpolate(gray, (rows, columns), mode="area")
    y = torch.linspace(0, 1, rows, device=clean.device).view(1, 1, -1, 1)
    x = torch.linspace(0, 1, columns, device=clean.device).view(1, 1, 1, -1)
    horizon = column(draw.uniform(-0.3, 0.6), clean)
    foot = column(draw.uniform(0.06, 0.3), clean)
    ground = (foot / (y - horizon).clamp_min(1e-3)).clamp(0, 1) + 0 * x
    octaves = [
        smooth_field(draw.rand(draw.count, 1, n, n), rows, columns) / (n - 1) for n in (2, 4, 8, 16)
    ]
    fractal = torch.stack(octaves).sum(0).to(clean)
    low, high = fractal.amin((2, 3), keepdim=True), fractal.amax((2, 3), keepdim=True)
    fractal = (fractal - low) / (high - low).clamp_min(1e-6)
    planes = _planes(draw, ground, x, y)
    # Bright, high pixels are sky more often than not.
    brightness = (0.65 * gray + 0.35 * (1 - y)).clamp(0, 1)
    constant = column(draw.uniform(0.4, 1), clean).expand_as(ground)
    sources = {
        "ground": ground,
        "planes": planes,
        "fractal": fractal,
        "brightness": brightness,
        "constant": constant,
    }
    depth = (
        torch.cat([sources[kind][i : i + 1] for i, kind in enumerate(kinds)]) if kinds else ground
    )
    depth = (depth + column(draw.uniform(0, 0.2), clean) * (fractal - 0.5)).clamp(0, 1)
    # Boxes and bright pixels know nothing of the scene: the guide moves their edges to its own.
    guided = draw.happens(0.6) | mask(kinds, "brightness", "planes")
    flat = mask(kinds, "constant")
    slope, offset = guided_map(gray, depth, max(1, max(rows, columns) // 14))
    smooth = slope * gray + offset
    depth = torch.where(column(guided & ~flat, clean) > 0, smooth, depth).clamp(0, 1)
    if shrink > 1:
        depth = functional.interpolate(depth, (height, width), mode="bilinear", align_corners=False)
    return depth


def _planes(draw: Draws, ground: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """A street: a ground with walls at its sides and up to three flat-fronted boxes on it."""
    side = column(draw.uniform(0.1, 0.5), ground)
    walls = (side / torch.minimum(x, 1 - x).clamp_min(1e-3)).clamp(0, 1)
    depth = torch.minimum(ground, torch.where(side > 0.25, 1.0, walls))
    for _ in range(3):
        left, top = column(draw.uniform(-0.2, 0.9), ground), column(draw.uniform(0, 0.8), ground)
        across, tall = (
            column(draw.uniform(0.1, 0.5), ground),
            column(draw.uniform(0.2, 0.8), ground),
        )
        distance = column(draw.uniform(0.1, 0.9), ground)
        inside = (x > left) & (x < left + across) & (y > top) & (y < top + tall)
        depth = torch.where(inside, torch.minimum(depth, distance), depth)
    return depth
