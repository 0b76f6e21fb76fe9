"""Classical measures of how a photo looks: noise, sharpness, block grid, brightness, veil.

Apart from `diagnosis.severity`, which turns these numbers into physical units, because nothing here
is fitted.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.imaging.color import luma, rgb_to_ycbcr, srgb_to_linear
from autodir.imaging.neighborhoods import NORMAL_MEDIAN, darkest, diagonal_details, shrunk
from autodir.records import check_image

WINDOW = 256
"""Side of the native windows in pixels, a multiple of the block of JPEG."""

_BLOCK = 8
SMALL = 128
"""Longer side of the copy on which brightness and veil are measured."""
_PATCH = 9
"""Side of the dark channel's neighborhood on that copy (arXiv: He, Sun and Tang, CVPR 2009)."""
LEVEL = 1 / 255
"""One of 255 levels."""

_RINGS = (0.008, 0.02, 0.035, 0.055, 0.08, 0.11, 0.15, 0.2, 0.27, 0.36, 0.5)
"""Borders of the rings of frequencies, in cycles a pixel."""
_SECTORS = 8
_REACHES = (3, 7, 15)
"""Pixels to both sides of an edge within which its contrast is measured."""
_SAMPLE = 50_000
"""Values that a quantile is read from, about."""


def measure(pixels: Tensor) -> Tensor:
    """All measures of one photo as a vector; its length does not depend on the photo.

    Args:
        pixels: (1, 3, H, W) in [0, 1], sRGB-encoded.

    Returns:
        float32 (F,), finite.
    """
    check_image(pixels, "pixels")
    pixels = pixels.float()
    views = native_windows(pixels)
    gray = luma(views)
    parts = [
        *_noise(views, gray),
        *_sharpness(gray),
        *_blocks(gray),
        *_light(shrunk(pixels, SMALL)),
    ]
    return torch.nan_to_num(torch.cat([part.flatten() for part in parts]))


def native_windows(pixels: Tensor, most: int = 3) -> Tensor:
    """An even grid of native windows whose corners lie on the grid of 8 × 8 blocks.

    Args:
        pixels: (1, 3, H, W); sides below 32 pixels are repeated up to it.
        most: windows along each side, at most.

    Returns:
        (N, 3, h, w), h and w multiples of 8, at most `WINDOW`.
    """
    height, width = pixels.shape[-2:]
    least = 4 * _BLOCK
    if min(height, width) < least:
        fill = (0, max(0, least - width), 0, max(0, least - height))
        pixels = F.pad(pixels, fill, mode="replicate")
        height, width = pixels.shape[-2:]
    sides = [min(WINDOW, side // _BLOCK * _BLOCK) for side in (height, width)]
    tops, lefts = (
        _starts(length, side, most) for length, side in zip((height, width), sides, strict=True)
    )
    windows = [pixels[..., t : t + sides[0], le : le + sides[1]] for t in tops for le in lefts]
    return torch.cat(windows)


def _starts(length: int, side: int, most: int) -> list[int]:
    count = min(most, max(1, round(length / side)))
    last = length - side
    places = [last // 2] if count == 1 else [round(i * last / (count - 1)) for i in range(count)]
    return [place // _BLOCK * _BLOCK for place in places]


def _noise(views: Tensor, gray: Tensor) -> list[Tensor]:
    """Deviation of the diagonal details in flat and in busy blocks, in luma and chroma.

    In flat blocks the median of the diagonal details is the noise's.
    """
    halved = F.avg_pool2d(gray, 2)
    chroma = rgb_to_ycbcr(views)[:, 1:]
    measures = []
    for plane, shares in (
        (gray, (0.05, 0.2, 0.5, 0.8)),
        (halved, (0.05, 0.2, 0.5)),
        (chroma[:, :1], (0.05, 0.2, 0.5)),
        (chroma[:, 1:], (0.2,)),
        (F.avg_pool2d(chroma[:, :1], 2), (0.2,)),
    ):
        details = diagonal_details(plane)
        side = min(_BLOCK, *details.shape[-2:])
        blocks = F.unfold(details, side, stride=side).abs()  # (N, side², blocks)
        deviation = blocks.square().mean(1).sqrt().flatten()
        typical = (blocks.median(1).values / NORMAL_MEDIAN).flatten()
        measures.append((quantiles(typical, shares) / LEVEL + 0.1).log())
        measures.append((quantiles(deviation, (shares[1 % len(shares)],)) / LEVEL + 0.1).log())
    return measures


def _sharpness(gray: Tensor) -> list[Tensor]:
    """Steps over three scales, the power of frequencies, and the width of edges, by direction.

    A moving camera blurs along one direction: the dullest one and the one across it are told apart.
    """
    measures, plane = [], gray
    for _ in range(3):
        steps = [
            plane[..., 1:, 1:] - plane[..., :-1, 1:],
            plane[..., 1:, 1:] - plane[..., 1:, :-1],
            (plane[..., 1:, 1:] - plane[..., :-1, :-1]) / 2**0.5,
            (plane[..., 1:, :-1] - plane[..., :-1, 1:]) / 2**0.5,
        ]
        mean = torch.stack([step.abs().mean() for step in steps]).sort().values
        measures.append((mean + 0.1 * LEVEL).log())
        steep = (steps[0].square() + steps[1].square()).sqrt()
        measures.append((quantiles(steep, (0.9, 0.99, 0.999)) + 0.1 * LEVEL).log())
        plane = F.avg_pool2d(plane, 2)
    measures += [*_spectrum(gray), _edge_widths(gray)]
    return measures


def _spectrum(gray: Tensor) -> list[Tensor]:
    """Log power of rings of frequencies, along the dullest direction, across it, and in all."""
    height, width = gray.shape[-2:]
    window = torch.outer(torch.hann_window(height), torch.hann_window(width))
    power = torch.fft.rfft2((gray - gray.mean((-2, -1), keepdim=True)) * window, norm="ortho")
    mean = power.abs().square().mean((0, 1))
    rows = torch.fft.fftfreq(height)[:, None].expand_as(mean)
    columns = torch.fft.rfftfreq(width)[None].expand_as(mean)
    radius = (rows.square() + columns.square()).sqrt()
    ring = torch.bucketize(radius, torch.tensor(_RINGS))
    sector = (torch.atan2(rows, columns) / torch.pi * _SECTORS).round().long() % _SECTORS
    place = (ring * _SECTORS + sector).flatten()
    bins = (len(_RINGS) + 1) * _SECTORS
    total = torch.zeros(bins).scatter_add_(0, place, mean.flatten())
    count = torch.zeros(bins).scatter_add_(0, place, torch.ones(place.shape))
    table = (total / count.clamp_min(1)).view(-1, _SECTORS)[1:-1]  # without the mean, the corners
    bands = (table + 1e-3 * LEVEL**2).log()
    dull = int(bands[2:].mean(0).argmin())
    across = (dull + _SECTORS // 2) % _SECTORS
    return [bands[:, dull], bands[:, across], bands.mean(1)]


def _edge_widths(gray: Tensor) -> Tensor:
    """Contrast over steepness of the strongest edges, down and across, sorted: (6,)."""
    smooth = F.avg_pool2d(gray, 3, stride=1)  # so that noise makes no edges
    widths = []
    for plane in (smooth, smooth.transpose(-1, -2)):
        steep = (plane[..., 2:] - plane[..., :-2]).abs() / 2
        inner = plane[..., 1:-1]
        strong = steep >= quantiles(steep, (0.98,)).clamp_min(LEVEL)
        # Only the strong edges' own neighborhoods are looked at, out to both sides.
        far = max(_REACHES)
        beside = F.pad(inner, (far, far, 0, 0), mode="replicate")
        around, steepness = beside.unfold(-1, 2 * far + 1, 1)[strong], steep[strong]
        for reach in _REACHES:
            near = around[:, far - reach : far + reach + 1]
            contrast = near.amax(1) - near.amin(1) if len(near) else steepness
            found = (contrast / steepness).clamp_min(1e-3).log()
            widths.append(quantiles(found, (0.3,)) if len(found) else gray.new_zeros(1))
    return torch.cat(widths).view(2, 3).sort(0).values


def _blocks(gray: Tensor) -> list[Tensor]:
    """The grid of JPEG: steps between blocks, and how many of their frequencies are empty."""
    measures, offsets = [], []
    for plane in (gray, gray.transpose(-1, -2)):
        steps = (plane[..., 1:, :] - plane[..., :-1, :]).abs()
        second = (steps[..., 1:-1, :] - (steps[..., :-2, :] + steps[..., 2:, :]) / 2).mean(
            (0, 1, 3)
        )
        whole = len(second) // _BLOCK * _BLOCK
        phases = second[:whole].view(-1, _BLOCK).mean(0)
        best = int(phases.argmax())
        offsets.append((best + 2) % _BLOCK)  # the first pixel of a block
        rest = (phases.sum() - phases[best]) / (_BLOCK - 1)
        level = steps.mean() + 0.5 * LEVEL
        measures.append(((phases[best] - rest) / level)[None])
        measures.append(((phases[7 - 1] - rest) / level)[None])  # of a file that was not cropped
    for shift in (0, _BLOCK // 2):
        moved = gray[..., (offsets[0] + shift) % _BLOCK :, (offsets[1] + shift) % _BLOCK :]
        measures.append(_empty_frequencies(moved))
    return measures


def _empty_frequencies(gray: Tensor) -> Tensor:
    """Share of DCT coefficients near 0, from low to high frequencies: (N, 1, h, w) → (8,)."""
    rows, columns = (side // _BLOCK * _BLOCK for side in gray.shape[-2:])
    blocks = F.unfold(gray[..., :rows, :columns], _BLOCK, stride=_BLOCK)
    blocks = blocks.transpose(1, 2).reshape(-1, _BLOCK, _BLOCK)
    basis = _dct_basis().to(gray)
    coefficients = (basis @ blocks @ basis.T).abs() / LEVEL
    order = torch.arange(_BLOCK)
    diagonal = order[:, None] + order[None]
    groups = [(1, 1), (2, 2), (3, 4), (5, 6), (7, 14)]
    masks = [(diagonal >= low) & (diagonal <= high) for low, high in groups]
    near = [(coefficients[:, mask] < 1.5).float().mean() for mask in masks]
    size = [(coefficients[:, mask].mean() + 0.1).log() for mask in masks]
    return torch.stack([*near, *size])


def _dct_basis() -> Tensor:
    """The orthonormal DCT-II of 8 samples, (8, 8)."""
    n = torch.arange(_BLOCK, dtype=torch.float32)
    basis = torch.cos(torch.pi / _BLOCK * (n + 0.5)[None] * n[:, None]) * math.sqrt(2 / _BLOCK)
    basis[0] /= math.sqrt(2)
    return basis


def _light(small: Tensor) -> list[Tensor]:
    """Brightness in stops, saturation, and the dark channel of the whole scene."""
    shares = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    light = luma(srgb_to_linear(small)).flatten()
    high, low = small.amax(1, keepdim=True), small.amin(1, keepdim=True)
    saturation = ((high - low) / high.clamp_min(0.02)).flatten()
    dark = darkest(low, _PATCH)
    gray = luma(small)
    contrast = (F.avg_pool2d(gray.square(), 7, 1, 3) - F.avg_pool2d(gray, 7, 1, 3).square()).clamp(
        0
    )
    return [
        (quantiles(light, shares) + 1e-4).log2(),
        (light.mean()[None] + 1e-4).log2(),
        quantiles(saturation, (0.1, 0.5, 0.9)),
        quantiles(dark.flatten(), (0.05, 0.25, 0.5, 0.75, 0.95)),
        quantiles(low.flatten(), (0.005, 0.05, 0.25, 0.5)),
        quantiles(high.flatten(), (0.05, 0.5, 0.95, 0.995)),
        (quantiles(contrast.sqrt().flatten(), (0.1, 0.5, 0.9)) + LEVEL).log(),
        gray.std(correction=0)[None],
    ]


def quantiles(values: Tensor, shares: tuple[float, ...]) -> Tensor:
    """Quantiles of an even sample of the values, in their order."""
    values = values.flatten()
    sample = values[:: max(1, len(values) // _SAMPLE)].detach().numpy()
    ordered = torch.from_numpy(np.sort(sample))  # torch sorts places too, which takes longer
    return ordered[[round(share * (len(ordered) - 1)) for share in shares]]
