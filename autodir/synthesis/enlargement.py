"""How small photos are made large again: each program has its kernel, and each leaves its trace.

Apart from the operators that use it: what learns from one kernel alone sharpens the overshoot of
another, as if it were detail.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from autodir.imaging.resize import resize

ENLARGEMENTS: dict[str, float] = {
    "bicubic": 0.45, "lanczos": 0.2, "sharp_bicubic": 0.2, "bilinear": 0.15,
}  # fmt: skip
"""Kernels by name, and how often they are drawn: the cubic of a = -0.5 is Pillow's, MATLAB's and
`autodir.imaging.resize.enlarge`'s, the sharp one of a = -0.75 is OpenCV's and PyTorch's."""
_LOBES = 3


def enlarged(small: Tensor, size: tuple[int, int], kind: str) -> Tensor:
    """Enlarge (B, C, h, w) to ``size`` by a kernel of `ENLARGEMENTS`; its overshoot is clamped.

    Args:
        small: in [0, 1].
        size: (height, width) in pixels, each at least that of ``small``.
        kind: a key of `ENLARGEMENTS`.

    Returns:
        (B, C, *size) in [0, 1].
    """
    if kind == "lanczos":
        rows, columns = (
            lanczos_weights(old, new).to(small)
            for old, new in zip(small.shape[-2:], size, strict=True)
        )
        return (rows @ small @ columns.T).clamp(0, 1)
    if kind == "bicubic":
        return resize(small, size)
    mode = "bilinear" if kind == "bilinear" else "bicubic"
    return functional.interpolate(small, size, mode=mode, align_corners=False).clamp(0, 1)


def lanczos_weights(old: int, new: int) -> Tensor:
    """The (new, old) matrix that enlarges a row by sinc(x) sinc(x / 3), as Pillow does.

    Args:
        old: samples of the row.
        new: at least as many. What lies beyond the ends is left out of the sums.
    """
    centers = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5
    offsets = centers[:, None] - torch.arange(old, dtype=torch.float64)
    weights = torch.sinc(offsets) * torch.sinc(offsets / _LOBES)
    weights = torch.where(offsets.abs() < _LOBES, weights, 0.0)
    return (weights / weights.sum(1, keepdim=True)).float()
