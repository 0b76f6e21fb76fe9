"""Convolution with one kernel per sample, at any image size.

Apart because blur, noise, rain and drops all need it; large kernels go through the FFT, which keeps
the cost of a 60 px motion path near that of a 3 px one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


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
        start, size = 2 * reach, [_fast_length(n) for n in x.shape[-2:]]
    else:
        start, size = reach, [_fast_length(n + reach) for n in x.shape[-2:]]
    spectrum = torch.fft.rfft2(x, s=size) * torch.fft.rfft2(kernels.to(x), s=size)[:, None]
    full: Tensor = torch.fft.irfft2(spectrum, s=size)
    return full[..., start : start + height, start : start + width]


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur each sample of (B, C, H, W) with a Gaussian of its own ``sigma`` (B,) in pixels."""
    if not len(x):
        return x
    taps = gaussian_taps(sigma.to(x))
    reach = taps.shape[-1] // 2
    batch, channels, height, width = x.shape
    weight = taps.repeat_interleave(channels, 0)
    flat = mirror(x, reach, reach, reach, reach).reshape(
        1, batch * channels, height + 2 * reach, -1
    )
    flat = functional.conv2d(flat, weight[:, None, :, None], groups=batch * channels)
    flat = functional.conv2d(flat, weight[:, None, None, :], groups=batch * channels)
    return flat.view(batch, channels, height, width)


def gaussian_taps(sigma: Tensor) -> Tensor:
    """(B, k) one-dimensional Gaussian weights that sum to 1; ``sigma`` 0 gives a pulse."""
    reach = max(1, int(torch.ceil(3 * sigma.max()).item())) if sigma.numel() else 1
    offsets = torch.arange(-reach, reach + 1, device=sigma.device, dtype=sigma.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3)[:, None]) ** 2)
    return weights / weights.sum(1, keepdim=True)


def smooth_field(values: Tensor, height: int, width: int) -> Tensor:
    """Stretch coarse random values (B, C, h, w) to (B, C, height, width), smoothly."""
    return functional.interpolate(values, (height, width), mode="bicubic", align_corners=True)


def _reflected(length: int, before: int, after: int, device: torch.device) -> Tensor:
    index = torch.arange(-before, length + after, device=device)
    if length == 1:
        return torch.zeros_like(index)
    period = 2 * (length - 1)
    index = index.remainder(period)
    return torch.where(index < length, index, period - index)


def _fast_length(length: int) -> int:
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
