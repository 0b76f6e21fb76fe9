"""Convolution with one kernel per image, at any image size.

Apart because degradations are made with it and undone with it; large kernels go through the FFT,
which keeps the cost of a 60 px motion path near that of a 3 px one.
"""

from __future__ import annotations

import torch
from torch import Tensor

STRIP = 2**20
"""Pixels of a large image that are filtered at a time."""


def mirror(x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Pad (..., H, W) by reflection about the edge pixels, by any amount."""
    rows = _reflected(x.shape[-2], top, bottom, x.device)
    columns = _reflected(x.shape[-1], left, right, x.device)
    return x.index_select(-2, rows).index_select(-1, columns)


def convolve(x: Tensor, kernels: Tensor, padding: str = "mirror") -> Tensor:
    """Filter each sample with its own kernel.

    Args:
        x: (B, C, H, W).
        kernels: (B, k, k), k odd; true convolution (the kernel is flipped).
        padding: "mirror" for photos, "zero" for layers that start empty.

    Returns:
        (B, C, H, W).
    """
    height, width = x.shape[-2:]
    reach = kernels.shape[-1] // 2
    # A circular convolution wraps into the margin alone, which is cut off below.
    if padding == "mirror":
        x = mirror(x, reach, reach, reach, reach)
        start, size = 2 * reach, [fast_length(n) for n in x.shape[-2:]]
    else:
        start, size = reach, [fast_length(n + reach) for n in x.shape[-2:]]
    spectrum = torch.fft.rfft2(x, s=size) * torch.fft.rfft2(kernels.to(x), s=size)[:, None]
    full: Tensor = torch.fft.irfft2(spectrum, s=size)
    return full[..., start : start + height, start : start + width]


def convolve_in_strips(image: Tensor, kernel: Tensor) -> Tensor:
    """Filter a photo (1, C, H, W) of any size with one kernel (k, k), mirrored at its edges.

    A strip of rows at a time: a spectrum of 24 megapixels would take three times their memory.
    """
    height, width = image.shape[-2:]
    reach = kernel.shape[-1] // 2
    rows = _reflected(height, reach, reach, image.device)
    result = torch.empty_like(image)
    step = max(1, STRIP // width)
    for top in range(0, height, step):
        count = min(step, height - top)
        seen = image.index_select(-2, rows[top : top + count + 2 * reach])
        part = convolve(seen, kernel[None])[..., reach : reach + count, :]
        result[..., top : top + count, :] = part
    return result


def _reflected(length: int, before: int, after: int, device: torch.device) -> Tensor:
    index = torch.arange(-before, length + after, device=device)
    if length == 1:
        return torch.zeros_like(index)
    period = 2 * (length - 1)
    index = index.remainder(period)
    return torch.where(index < length, index, period - index)


def fast_length(length: int) -> int:
    """The next length with prime factors 2, 3 and 5 alone, even, for which the FFT is fast."""
    candidate = length + length % 2
    while True:
        rest = candidate
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return candidate
        candidate += 2
