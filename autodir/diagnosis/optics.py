"""Measures of what lens and air have done: how far light is spread, and how thick the veil is.

Apart from `appearance`, whose measures trained heads know by their places: these serve the severity
alone, and may change with its figures.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.diagnosis.appearance import LEVEL, SMALL, native_windows, quantiles
from autodir.imaging.color import luma
from autodir.imaging.neighborhoods import box_mean, darkest, shrunk
from autodir.records import check_image

_LAGS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 28)
"""Distances in pixels at which a point is compared with itself."""
_DIRECTIONS = 8
_TAPER = 0.2
"""Deviation of the low pass before that, in cycles a pixel: noise is as like itself anywhere."""
_OCTAVES = 3
_POWERS = (2, 6)
"""Of the means over steps: all of them, and the steepest alone."""
_PATCHES = (3, 9, 21)
"""Sides of the neighborhoods of the dark channel on the small copy."""
_FAR = 0.02
"""Squared distance from the airlight below which a color says nothing about the veil."""


def measure(pixels: Tensor) -> Tensor:
    """All measures of one photo as a vector; its length does not depend on the photo.

    Args:
        pixels: (1, 3, H, W) in [0, 1], sRGB-encoded.

    Returns:
        float32 (F,), finite.
    """
    check_image(pixels, "pixels")
    pixels = pixels.float()
    gray = luma(native_windows(pixels))
    parts = [*_spread(gray), *_softness(gray), *_veil(shrunk(pixels, SMALL))]
    return torch.nan_to_num(torch.cat([part.flatten() for part in parts]))


def _spread(gray: Tensor) -> list[Tensor]:
    """How like itself a point's image is at some distance: along its widest axis, across, in all.

    Scenes have a power of about 1 / f²; what is left of it times f² is the power of the point
    spread, and its transform the autocorrelation, whose width is √2 times the blur's.
    """
    height, width = gray.shape[-2:]
    window = torch.outer(torch.hann_window(height), torch.hann_window(width))
    scene = torch.fft.rfft2((gray - gray.mean((-2, -1), keepdim=True)) * window, norm="ortho")
    power = scene.abs().square().mean((0, 1))
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    square = rows.square() + columns.square()
    noise = power[square > 0.2].median()
    white = (power - noise).clamp_min(0) * square * torch.exp(-square / (2 * _TAPER**2))
    alike = torch.fft.irfft2(white, s=(height, width))
    alike = alike / alike[0, 0].clamp_min(1e-12)
    angle = torch.arange(_DIRECTIONS)[:, None] * (math.pi / _DIRECTIONS)
    lags = torch.tensor(_LAGS)
    down = (angle.sin() * lags).round().long() % height
    table = alike[down, (angle.cos() * lags).round().long() % width]  # (directions, lags)
    wide = int(table[:, 1:6].sum(1).argmax())
    return [table[wide], table[(wide + _DIRECTIONS // 2) % _DIRECTIONS], table.mean(0)]


def _softness(gray: Tensor) -> list[Tensor]:
    """How much less steep a little more blur makes the steps, by direction, over three octaves.

    A sharp edge loses by it, a blurred one hardly (Zhuo and Sim, Pattern Recognition 2011).
    """
    measures, plane = [], gray
    for _ in range(_OCTAVES):
        sharp = _smoothed(plane, 1.0)
        dull = _smoothed(sharp, 3**0.5)  # deviation 2 in all
        ratios = []
        for fine, coarse in zip(_steps(sharp), _steps(dull), strict=True):
            ratios.append(_strengths(fine) - _strengths(coarse))
        measures.append(torch.stack(ratios).sort(0).values)
        plane = F.avg_pool2d(plane, 2)
    return measures


def _strengths(steps: Tensor) -> Tensor:
    """Logarithms of the power means of steps, (len(_POWERS),)."""
    size = steps.abs() + 0.1 * LEVEL
    means = [size.pow(power).mean() for power in _POWERS]
    return torch.stack(means).log() / torch.tensor(_POWERS)


def _steps(plane: Tensor) -> list[Tensor]:
    """Differences along the four directions: down, to the right, and both diagonals."""
    return [
        plane[..., 1:, :] - plane[..., :-1, :],
        plane[..., 1:] - plane[..., :-1],
        (plane[..., 1:, 1:] - plane[..., :-1, :-1]) / 2**0.5,
        (plane[..., 1:, :-1] - plane[..., :-1, 1:]) / 2**0.5,
    ]


def _smoothed(plane: Tensor, deviation: float) -> Tensor:
    """(N, 1, h, w) under a Gaussian, the borders repeated."""
    reach = math.ceil(2.5 * deviation)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation).square())
    taps = taps / taps.sum()
    plane = F.pad(plane, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(plane, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))


def _veil(small: Tensor) -> list[Tensor]:
    """The dark channel beside the airlight, at several scales, and what pales with distance."""
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    dark = darkest(small, _PATCHES[-1]).flatten()
    thickest = dark >= quantiles(dark, (0.99,))
    air = small.flatten(2)[..., thickest].mean(-1).clamp_min(0.05)[..., None, None]
    relative = (small / air).amin(1, keepdim=True).clamp_max(1)
    thick = [darkest(relative, patch) for patch in _PATCHES]
    reach = _PATCHES[1] // 2
    mean, square = box_mean(relative, reach), box_mean(relative.square(), reach)
    lower = mean - (square - mean.square()).clamp_min(0).sqrt()
    known = (small - air).square().sum(1, keepdim=True) > _FAR
    seen = thick[1][known] if bool(known.any()) else torch.ones(1)
    high = small.amax(1)
    saturation = (high - small.amin(1)) / high.clamp_min(0.02)
    parts = F.adaptive_avg_pool2d(thick[1], 3).flatten().sort().values
    return [
        *(quantiles(plane, shares) for plane in (*thick, lower)),
        torch.stack([plane.mean() for plane in (*thick, lower, seen, saturation, high)]),
        quantiles(high - saturation, (0.1, 0.5, 0.9)),
        parts[[0, 4, 8]],
        torch.stack([air.mean(), air.amax() - air.amin()]),
    ]
