"""The classical tool that a user would reach for, one for each degradation.

Apart because nothing here is part of the product: it is the column that a model has to beat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]

_DARK_WINDOW = 15
_HAZE_KEPT = 0.95
_LEAST_TRANSMISSION = 0.1
_MIDDLE_GRAY = 0.45


def restore_classically(image: Tensor, degradation: str) -> Tensor:
    """Apply the classical tool for ``degradation``; what has none comes back as it is.

    Args:
        image: (1, 3, H, W) in [0, 1].
        degradation: a key of the taxonomy.
    """
    tool = BASELINES.get(degradation)
    if tool is None:
        return image
    pixels = image[0].clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    result = torch.from_numpy(np.ascontiguousarray(tool(np.ascontiguousarray(pixels))))
    return result.permute(2, 0, 1)[None].float().div(255).to(image.device)


def noise_level(pixels: Pixels) -> float:
    """σ of white noise in 8-bit units: Immerkær's mask (1996), blind to planes, and a median."""
    gray = pixels.astype(np.float32).mean(axis=2)
    if min(gray.shape) < 3:
        return 0.0
    rows = gray[:-2] - 2 * gray[1:-1] + gray[2:]
    response = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    # The mask has norm 6, a normal deviate the median 0.6745; averaging channels divides by √3.
    return float(np.median(np.abs(response)) / 0.6745 / 6 * np.sqrt(3))


def denoise(pixels: Pixels) -> Pixels:
    """Non-local means, its strength a fixed multiple of the estimated noise (tuned on photos)."""
    level = max(noise_level(pixels), 1.0)
    result: Pixels = cv2.fastNlMeansDenoisingColored(pixels, None, 0.7 * level, 1.3 * level, 7, 21)
    return result


def sharpen(pixels: Pixels) -> Pixels:
    """Unsharp mask: radius 2, amount 0.5."""
    soft = cv2.GaussianBlur(pixels, (0, 0), 2.0)
    result: Pixels = cv2.addWeighted(pixels, 1.5, soft, -0.5, 0)
    return result


def remove_streaks(pixels: Pixels) -> Pixels:
    """Median of 5×5: bright thin streaks are outliers."""
    result: Pixels = cv2.medianBlur(pixels, 5)
    return result


def remove_drops(pixels: Pixels) -> Pixels:
    """Median of 9×9: as for streaks, for larger specks."""
    result: Pixels = cv2.medianBlur(pixels, 9)
    return result


def brighten(pixels: Pixels) -> Pixels:
    """A gamma that brings the mean luminance to middle gray, then CLAHE on the lightness."""
    values = pixels.astype(np.float32) / 255
    mean = float(np.clip(values.mean(), 1e-3, _MIDDLE_GRAY))
    gamma = np.log(_MIDDLE_GRAY) / np.log(mean)
    lab = cv2.cvtColor((np.power(values, gamma) * 255).round().astype(np.uint8), cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=1.0, tileGridSize=(8, 8)).apply(lab[..., 0])
    result: Pixels = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return result


def dehaze(pixels: Pixels) -> Pixels:
    """Dark channel prior with a guided filter (He, Sun, Tang 2009): J = (I - A) / t + A."""
    hazy = pixels.astype(np.float32) / 255
    window = cv2.getStructuringElement(cv2.MORPH_RECT, (_DARK_WINDOW, _DARK_WINDOW))
    dark = cv2.erode(hazy.min(axis=2), window)
    brightest = dark.ravel().argsort()[-max(dark.size // 1000, 1) :]
    air = np.maximum(hazy.reshape(-1, 3)[brightest].mean(axis=0), 1e-3)
    transmission = 1 - _HAZE_KEPT * cv2.erode((hazy / air).min(axis=2), window)
    transmission = _guided(hazy.mean(axis=2), transmission, radius=40, smoothing=1e-3)
    clear = (hazy - air) / np.maximum(transmission, _LEAST_TRANSMISSION)[..., None] + air
    result: Pixels = (clear.clip(0, 1) * 255).round().astype(np.uint8)
    return result


def deblock(pixels: Pixels) -> Pixels:
    """Bilateral filter, small and weak: blocks and ringing go, strong edges stay."""
    result: Pixels = cv2.bilateralFilter(pixels, 5, 20, 2)
    return result


def _guided(guide: Any, values: Any, *, radius: int, smoothing: float) -> Any:
    """The guided filter of a gray guide: a local linear model of ``values`` in ``guide``."""

    def mean(array: Any) -> Any:
        return cv2.boxFilter(array, cv2.CV_32F, (2 * radius + 1, 2 * radius + 1))

    mean_guide, mean_values = mean(guide), mean(values)
    slope = (mean(guide * values) - mean_guide * mean_values) / (
        mean(guide * guide) - mean_guide**2 + smoothing
    )
    offset = mean_values - slope * mean_guide
    return mean(slope) * guide + mean(offset)


BASELINES: dict[str, Callable[[Pixels], Pixels]] = {
    "noise": denoise,
    "blur": sharpen,
    "rain": remove_streaks,
    "raindrop": remove_drops,
    "underexposure": brighten,
    "haze": dehaze,
    # "low_resolution" has none: its inputs are the bicubic enlargement that a user would make.
    "compression": deblock,
}
