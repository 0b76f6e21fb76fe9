"""What the spectrum of a photo tells of its blur, and filters made of a few figures.

Apart from the experts that go from the one to the other: here is only arithmetic. Blur multiplies
the spectrum of a scene by that of its kernel; scenes are alike enough (power falls with frequency)
that what is missing, and in which directions, shows (Field, JOSA A 1987).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from autodir.imaging.convolution import mirror

SIDE = 256
"""Of the windows that spectra are taken of, in pixels; a smaller photo is mirrored."""
ANGLES = 8
"""Directions, half a turn in all."""
RADII = (0.008, 0.016, 0.027, 0.04, 0.057, 0.08, 0.11, 0.15, 0.2, 0.27, 0.36, 0.5)
"""Frequencies in cycles for each pixel; gains are interpolated between them, log-linearly."""
GAINS = len(RADII) * ANGLES
OFFSETS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40)
"""Distances in pixels at which the cepstrum is read: a motion shows at its length."""
FIGURES = 2 * len(RADII) + 2 * len(OFFSETS)
"""Statistics for each direction."""
STATISTICS = ANGLES * FIGURES + 2
REACH = 48
"""Pixels that a filter looks away."""

_WINDOWS = 3
_FLOOR = 1e-7
_CEPSTRUM = 30.0


def windows_of(photo: Tensor) -> Tensor:
    """Windows of photos (B, C, H, W), spread evenly: (B, n, C, 256, 256), n from 1 to 9."""
    height, width = photo.shape[-2:]
    down, across = max(0, SIDE - height), max(0, SIDE - width)
    if down or across:
        photo = mirror(photo, down // 2, down - down // 2, across // 2, across - across // 2)
        height, width = photo.shape[-2:]
    places = [
        (top, left)
        for top in _starts(height)
        for left in _starts(width)
    ]  # fmt: skip
    return torch.stack(
        [photo[..., top : top + SIDE, left : left + SIDE] for top, left in places], dim=1
    )


def hann(device: torch.device) -> Tensor:
    """The weight of each pixel of a window, (256, 256): its edges are no edges of the scene."""
    ramp = torch.hann_window(SIDE, periodic=False, device=device)
    return ramp[:, None] * ramp


def statistics(photo: Tensor) -> Tensor:
    """Spectrum and cepstrum of photos (B, 3, H, W) by direction, (B, 418).

    For each of 8 directions: the logarithm of the mean power and the mean logarithm of the power
    at 12 frequencies, and the cepstrum at 14 distances in two directions; at last the contrast and
    the brightness.
    """
    gray = windows_of(photo.float().mean(1, keepdim=True))[:, :, 0]
    mean = gray.mean((2, 3), keepdim=True)
    weight = hann(photo.device)
    power = torch.fft.rfft2((gray - mean) * weight).abs().square() / weight.square().sum()
    logarithm = (power + _FLOOR).log().mean(1)
    by_bin = [(_pooled(power.mean(1)) + _FLOOR).log(), _pooled(logarithm)]
    cepstrum = _CEPSTRUM * torch.fft.irfft2(logarithm, s=(SIDE, SIDE))
    y, x = (part.to(photo.device) for part in _offsets())
    read = cepstrum[:, y, x].unflatten(1, (len(OFFSETS), ANGLES, 2))
    figures = [figure.unflatten(1, (len(RADII), ANGLES)).transpose(1, 2) for figure in by_bin]
    figures += [read.permute(0, 2, 1, 3).flatten(2)]
    contrast = (gray - mean).square().mean((1, 2, 3)).sqrt().clamp_min(1e-3).log()
    ends = torch.stack([contrast, mean.mean((1, 2, 3))], dim=1)
    return torch.cat([torch.cat(figures, dim=2).flatten(1), ends], dim=1)


def kernel_of(raised: Tensor) -> Tensor:
    """The filter (B, 97, 97) that raises frequencies by ``raised`` (B, 96); 0 leaves a photo.

    It is even, so that nothing moves, and leaves the mean.
    """
    index, weight = (part.to(raised.device) for part in _bins())
    gains = (raised.float()[:, index] * weight).sum(1).unflatten(1, (SIDE, SIDE // 2 + 1))
    kernel = _cut(torch.fft.irfft2(gains, s=(SIDE, SIDE)))
    kernel[:, REACH, REACH] += 1
    return kernel


@lru_cache(maxsize=1)
def responses() -> Tensor:
    """What each of the 96 figures adds to the spectrum of the filter, (96, 256 · 129), real."""
    index, weight = _bins()
    gains = torch.zeros(GAINS, index.shape[1]).scatter_add_(0, index, weight)
    kernels = _cut(torch.fft.irfft2(gains.unflatten(1, (SIDE, SIDE // 2 + 1)), s=(SIDE, SIDE)))
    placed = torch.zeros(GAINS, SIDE, SIDE)
    placed[:, : 2 * REACH + 1, : 2 * REACH + 1] = kernels
    centered = placed.roll((-REACH, -REACH), (1, 2))
    spectra: Tensor = torch.fft.rfft2(centered).real.flatten(1).contiguous()
    return spectra


def _cut(kernels: Tensor) -> Tensor:
    """Kernels (N, 256, 256) around the corner → (N, 97, 97), faded out and without a mean."""
    middle = kernels.roll((REACH, REACH), (1, 2))[:, : 2 * REACH + 1, : 2 * REACH + 1]
    fading = fading_of(REACH).to(kernels)
    faded = middle * fading
    # What is left of the mean goes where the kernel is widest: near frequency 0 alone.
    return faded - faded.sum((1, 2), keepdim=True) * fading / fading.sum()


def fading_of(reach: int) -> Tensor:
    """How much of a filter stays where, (2 · reach + 1) along each side: 0 from its reach on."""
    axis = torch.arange(-reach, reach + 1).float()
    distance = (axis[:, None].square() + axis.square()).sqrt()
    return 0.5 + 0.5 * torch.cos(math.pi * (2 * distance / reach - 1).clamp(0, 1))


def _pooled(plane: Tensor) -> Tensor:
    """Mean of (B, 256, 129) around each frequency and direction, (B, 96)."""
    index, weight = _bins()
    flat = plane.flatten(1)
    sums = flat.new_zeros(len(flat), GAINS)
    for places, share in zip(index.to(flat.device), weight.to(flat), strict=True):
        sums.index_add_(1, places, flat * share)
    count = weight.new_zeros(GAINS).index_add_(0, index.flatten(), weight.flatten())
    return sums / count.to(flat)


@lru_cache(maxsize=1)
def _bins() -> tuple[Tensor, Tensor]:
    """The four figures that each frequency lies between, (4, 256 · 129), and their weights."""
    down = torch.fft.fftfreq(SIDE)[:, None]
    across = torch.fft.rfftfreq(SIDE)[None]
    radius = (down.square() + across.square()).sqrt().clamp_min(1e-4).log().flatten()
    turn = (torch.atan2(down.expand(-1, SIDE // 2 + 1), across.expand(SIDE, -1)) / math.pi) % 1
    turn = turn.flatten() * ANGLES
    known = torch.tensor(RADII).log()
    outer = torch.searchsorted(known, radius).clamp(1, len(RADII) - 1)
    further = ((radius - known[outer - 1]) / (known[outer] - known[outer - 1])).clamp(0, 1)
    first = turn.floor().long() % ANGLES
    second, rest = (first + 1) % ANGLES, turn - turn.floor()
    index, weight = [], []
    for ring, by_radius in ((outer - 1, 1 - further), (outer, further)):
        for angle, by_angle in ((first, 1 - rest), (second, rest)):
            index.append(ring * ANGLES + angle)
            weight.append(by_radius * by_angle)
    return torch.stack(index), torch.stack(weight)


@lru_cache(maxsize=1)
def _offsets() -> tuple[Tensor, Tensor]:
    """Where the cepstrum is read, (14 · 8 · 2) rows and columns."""
    angle = torch.arange(2 * ANGLES) * (math.pi / (2 * ANGLES))
    distance = torch.tensor(OFFSETS, dtype=torch.float32)[:, None]
    y, x = (distance * angle.sin()).round(), (distance * angle.cos()).round()
    return y.flatten().long() % SIDE, x.flatten().long() % SIDE


def _starts(length: int) -> list[int]:
    """First pixels of up to three windows along a side."""
    count = min(_WINDOWS, math.ceil(length / SIDE))
    return [round(i * (length - SIDE) / max(count - 1, 1)) for i in range(count)]
