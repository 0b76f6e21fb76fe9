"""Color spaces, and moving the colors of one image onto another.

Apart because light adds up in linear space, benchmarks count in Y, and files speak sRGB.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from autodir.errors import ContractError

WAVELET_LEVELS = 5
"""Low band of the wavelet color fix: details up to about 2 * 2**5 pixels stay the result's."""

COLOR_FIXES = ("none", "adain", "wavelet")

_SRGB_KNEE, _LINEAR_KNEE = 0.04045, 0.0031308
_MIN_DEVIATION = 1e-5
_KR, _KG, _KB = 0.299, 0.587, 0.114  # ITU-R BT.601


def _check_rgb(x: Tensor, name: str = "image") -> None:
    """Raise `ContractError` unless ``x`` is float (..., 3, H, W)."""
    if x.ndim < 3 or x.shape[-3] != 3 or not x.is_floating_point():
        raise ContractError(f"{name} must be float (..., 3, H, W), got {x.dtype} {tuple(x.shape)}")


def _planes(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three channels of (..., 3, H, W), each (..., 1, H, W)."""
    return x[..., 0:1, :, :], x[..., 1:2, :, :], x[..., 2:3, :, :]


def srgb_to_linear(x: Tensor) -> Tensor:
    """Decode sRGB into linear light (IEC 61966-2-1); any shape, [0, 1] to [0, 1]."""
    power = ((x.clamp(min=_SRGB_KNEE) + 0.055) / 1.055) ** 2.4
    return torch.where(x <= _SRGB_KNEE, x / 12.92, power)


def linear_to_srgb(x: Tensor) -> Tensor:
    """Encode linear light as sRGB (IEC 61966-2-1); any shape, [0, 1] to [0, 1]."""
    power = 1.055 * x.clamp(min=_LINEAR_KNEE) ** (1 / 2.4) - 0.055
    return torch.where(x <= _LINEAR_KNEE, x * 12.92, power)


def luma(x: Tensor) -> Tensor:
    """BT.601 luma (..., 1, H, W) in [0, 1] of sRGB (..., 3, H, W): 0.299 R + 0.587 G + 0.114 B."""
    _check_rgb(x)
    r, g, b = _planes(x)
    return _KR * r + _KG * g + _KB * b


def studio_luma(x: Tensor) -> Tensor:
    """BT.601 luma in studio range, as MATLAB's ``rgb2ycbcr`` gives it and benchmarks count it.

    Args:
        x: sRGB (..., 3, H, W) in [0, 1].

    Returns:
        (..., 1, H, W) in [16/255, 235/255].
    """
    _check_rgb(x)
    r, g, b = _planes(x)
    return (65.481 * r + 128.553 * g + 24.966 * b + 16) / 255


def rgb_to_ycbcr(x: Tensor) -> Tensor:
    """BT.601 full range, as JPEG uses it.

    Args:
        x: sRGB (..., 3, H, W) in [0, 1].

    Returns:
        (..., 3, H, W): Y, Cb, Cr in [0, 1]; gray has Cb = Cr = 0.5.
    """
    y = luma(x)
    r, b = x[..., 0:1, :, :], x[..., 2:3, :, :]
    cb = (b - y) / (2 * (1 - _KB)) + 0.5
    cr = (r - y) / (2 * (1 - _KR)) + 0.5
    return torch.cat([y, cb, cr], dim=-3)


def ycbcr_to_rgb(x: Tensor) -> Tensor:
    """The inverse of `rgb_to_ycbcr`; not clamped, since not every Y, Cb, Cr is a color."""
    _check_rgb(x, "Y, Cb, Cr")
    y, cb, cr = _planes(x)
    r = y + 2 * (1 - _KR) * (cr - 0.5)
    b = y + 2 * (1 - _KB) * (cb - 0.5)
    g = (y - _KR * r - _KB * b) / _KG
    return torch.cat([r, g, b], dim=-3)


def _adain(result: Tensor, reference: Tensor) -> Tensor:
    """Give each channel the mean and deviation of the reference (arXiv:1703.06868, Eq. 8)."""
    mean, reference_mean = result.mean((-2, -1), True), reference.mean((-2, -1), True)
    # correction=0: a single pixel has the deviation 0, not NaN
    deviation = result.std((-2, -1), correction=0, keepdim=True).clamp(min=_MIN_DEVIATION)
    reference_deviation = reference.std((-2, -1), correction=0, keepdim=True)
    return (result - mean) * (reference_deviation / deviation) + reference_mean


def low_band(x: Tensor, levels: int = WAVELET_LEVELS) -> Tensor:
    """What remains of (B, C, H, W) after ``levels`` à-trous smoothings with [1 2 1] / 4.

    Level i spreads the taps by 2**i pixels; borders are replicated, so any size works.
    """
    kernel = x.new_tensor([0.25, 0.5, 0.25])
    channels = x.shape[-3]
    down = kernel.view(1, 1, 3, 1).expand(channels, 1, 3, 1)
    across = kernel.view(1, 1, 1, 3).expand(channels, 1, 1, 3)
    for level in range(levels):
        step = 2**level
        x = functional.pad(x, (step, step, step, step), mode="replicate")
        x = functional.conv2d(x, down, groups=channels, dilation=(step, 1))
        x = functional.conv2d(x, across, groups=channels, dilation=(1, step))
    return x


def match_color(result: Tensor, reference: Tensor, method: str) -> Tensor:
    """Give ``result`` the colors of ``reference``, and leave it its details.

    Args:
        result: float (B, 3, H, W) in [0, 1].
        reference: of the same shape.
        method: "none" returns ``result``; "adain" matches mean and deviation of each channel;
            "wavelet" takes the low band (5 levels) from the reference and the rest from the result.

    Returns:
        (B, 3, H, W) in [0, 1].

    Raises:
        ContractError: the shapes differ, or the method is unknown.
    """
    if method not in COLOR_FIXES:
        raise ContractError(f"color fix must be one of {', '.join(COLOR_FIXES)}, got {method}")
    if result.shape != reference.shape:
        raise ContractError(f"{tuple(result.shape)} and {tuple(reference.shape)} differ")
    _check_rgb(result, "result")
    if method == "none":
        return result
    if method == "adain":
        return _adain(result, reference).clamp(0, 1)
    return (result - low_band(result) + low_band(reference)).clamp(0, 1)
