"""Gaussian smoothing with a width of its own for each sample, and smooth random fields.

Apart because noise, codecs and drops all need them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from autodir.imaging.convolution import mirror


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
