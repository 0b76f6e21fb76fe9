"""PSNR and SSIM under the protocol of a test set, by torchmetrics; learned metrics by pyiqa.

Apart so that every published number is computed in one place. pyiqa is licensed
PolyForm-Noncommercial-1.0.0 and is therefore an extra, imported only when one of its metrics is
named.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from autodir.errors import ConfigError, ContractError, MissingExtraError
from autodir.records import check_image

PSNR_CEILING = 100.0
"""What an exact match scores, in dB, so that means stay finite."""

SSIM_WINDOW = 11
"""Side of the Gaussian window of SSIM; a smaller picture has no SSIM."""

# ITU-R BT.601, studio range: 16 ≤ 255·Y ≤ 235, as the super-resolution literature measures it.
_BT601 = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_BT601_OFFSET = 16 / 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How the numbers of one test set are taken.

    Attributes:
        color: "rgb", "y" (BT.601, studio range) or "gray" (the mean of three equal channels).
        crop: border left out on each side, in pixels.
        shift: largest whole-pixel displacement tried in each direction, for sets whose targets are
            aligned only up to an unknown shift; the best PSNR counts.
    """

    color: Literal["rgb", "y", "gray"] = "rgb"
    crop: int = 0
    shift: int = 0

    def __post_init__(self) -> None:
        if self.color not in ("rgb", "y", "gray"):
            raise ConfigError(f"unknown color protocol {self.color!r}", "use rgb, y or gray")
        if self.crop < 0 or self.shift < 0:
            raise ConfigError(f"crop {self.crop} and shift {self.shift} must be ≥ 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """PSNR in dB (at most `PSNR_CEILING`); SSIM in [-1, 1], None where the picture is too small."""

    psnr: float
    ssim: float | None


def quantize(image: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to the 256 levels that a file would hold."""
    return image.clamp(0, 1).mul(255).round().div(255)


def to_protocol_color(image: Tensor, color: Literal["rgb", "y", "gray"]) -> Tensor:
    """(B, 3, H, W) in [0, 1] → (B, C, H, W): three channels for "rgb", otherwise one."""
    if color == "rgb":
        return image
    if color == "gray":
        return image.mean(dim=1, keepdim=True)
    weights = torch.tensor(_BT601, dtype=image.dtype, device=image.device).view(1, 3, 1, 1)
    return (image * weights).sum(dim=1, keepdim=True) + _BT601_OFFSET


def measure(result: Tensor, target: Tensor, protocol: Protocol) -> Scores:
    """Score ``result`` against ``target``, both (1, 3, H, W), after rounding to 8 bits.

    Raises:
        ContractError: the shapes differ, or nothing is left after cropping.
    """
    check_image(result, "result")
    check_image(target, "target")
    if result.shape != target.shape:
        raise ContractError(f"result {tuple(result.shape)} and target {tuple(target.shape)} differ")
    first = to_protocol_color(quantize(result.float()), protocol.color)
    second = to_protocol_color(quantize(target.float()), protocol.color)
    first, second = _inside(first, protocol.crop), _inside(second, protocol.crop)
    if protocol.shift:
        first, second = _best_shift(first, second, protocol.shift)
    return Scores(psnr=psnr(first, second), ssim=ssim(first, second))


def psnr(result: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1]: -10 log10(MSE), capped."""
    value = float(peak_signal_noise_ratio(result, target, data_range=1.0))
    return min(value, PSNR_CEILING)


def ssim(result: Tensor, target: Tensor) -> float | None:
    """Structural similarity, Gaussian window 11, σ 1.5 (Wang et al. 2004); None below 11 pixels.

    torchmetrics averages over a mirrored border too; the mean here is over whole windows, as
    published.
    """
    if min(result.shape[-2:]) < SSIM_WINDOW:
        return None
    found = structural_similarity_index_measure(
        result, target, data_range=1.0, return_full_image=True
    )
    return float(_inside(found[1], SSIM_WINDOW // 2).mean())


def _inside(image: Tensor, border: int) -> Tensor:
    height, width = image.shape[-2:]
    if min(height, width) <= 2 * border:
        raise ContractError(f"{height}×{width} pixels leave nothing inside a border of {border}")
    return image[..., border : height - border, border : width - border]


def _best_shift(result: Tensor, target: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """The window of ``result`` that fits the inner part of ``target`` best, and that inner part."""
    inner = _inside(target, reach)
    height, width = inner.shape[-2:]
    best, best_error = result, float("inf")
    for top in range(2 * reach + 1):
        for left in range(2 * reach + 1):
            window = result[..., top : top + height, left : left + width]
            error = float((window - inner).square().mean())
            if error < best_error:
                best, best_error = window, error
    return best, inner


class PerceptualMetric:
    """One metric of pyiqa (LPIPS, NIQE, MUSIQ, CLIPIQA, ...), by its name there.

    pyiqa carries the PolyForm-Noncommercial-1.0.0 licence: what it computes is for non-commercial
    use. Its learned metrics fetch their weights on first use, which is why only a metric named by
    the user is ever built.

    Args:
        name: pyiqa's name, for example "lpips" or "niqe".
        device: where it runs.

    Raises:
        MissingExtraError: pyiqa is not installed.
        ConfigError: pyiqa knows no such metric or cannot build it.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        try:
            pyiqa = importlib.import_module("pyiqa")
        except ImportError as error:
            raise MissingExtraError(
                f"the metric {name!r} needs pyiqa (PolyForm-Noncommercial licence)",
                'pip install "autodir[iqa]"',
            ) from error
        try:
            self._metric: Any = pyiqa.create_metric(name, device=device)
        except Exception as error:  # pyiqa raises bare KeyError, OSError, URLError by metric
            raise ConfigError(f"pyiqa cannot build {name!r}: {error}") from error
        self.name = name
        self.needs_target = str(getattr(self._metric, "metric_mode", "FR")) == "FR"
        self.lower_is_better = bool(getattr(self._metric, "lower_better", False))

    def __call__(self, result: Tensor, target: Tensor | None) -> float | None:
        """The score of one picture; None where the metric needs a target and there is none."""
        if self.needs_target and target is None:
            return None
        with torch.inference_mode():
            value = self._metric(result, target) if self.needs_target else self._metric(result)
        return float(value)
