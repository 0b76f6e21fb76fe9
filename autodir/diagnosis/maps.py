"""Where a degradation is: the quality model on a sliding grid of native windows.

Apart from `biqa`, which gives one answer for the whole photo.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.diagnosis.biqa import BiqaDiagnoser
from autodir.records import check_image

_OVERLAP = 4
"""Windows that cover each pixel along a side, where the photo is not too large."""
_MOST = 400
"""Windows of one photo, about; of a larger photo they lie further apart."""
_BATCH = 32
_EVEN = 1.0
"""Spread of the logits below which a degradation counts as the same everywhere."""
_RAMP = 0.2
"""Width of the soft border between clean and degraded, as a share of that spread."""
_BORDER = 0.45
"""Where the border lies between the two, as a share of that spread: the presence of a window that
is half clean is nearer to that of a clean one."""
_CERTAIN = 2.0
"""The border's logit, at most: what is found with certainty is never taken for clean."""
_BLUR = 0.4
"""Deviation of the Gaussian that smooths the scores, in sides of a window: a window's score depends
on what it shows, and its neighbors, which overlap it, show something else."""


@dataclass(frozen=True, kw_only=True)
class PresenceMap:
    """Calibrated presence logits of one degradation at the centers of windows.

    Attributes:
        logits: (R, C).
        rows, columns: the centers, (R,) and (C,), in pixels.
        size: (height, width) of the photo.
    """

    logits: Tensor
    rows: Tensor
    columns: Tensor
    size: tuple[int, int]

    def presence(self, size: tuple[int, int] | None = None) -> Tensor:
        """Presence in [0, 1] as a picture (H, W) of the photo's size, or of a smaller ``size``."""
        return torch.sigmoid(self._smooth(size or self.size))

    def where(self) -> Tensor:
        """How much of a repair belongs to each pixel: (H, W) in [0, 1], exactly 0 where clean.

        The border lies about half way between the cleanest and the most degraded tenth of the
        photo, for the presence of a window that is half clean says little by itself.
        """
        smooth = self._smooth(self.size)
        ordered = self.logits.flatten().sort().values
        tenth = (len(ordered) - 1) / 10
        low, high = float(ordered[round(tenth)]), float(ordered[round(9 * tenth)])
        if high - low < _EVEN:
            return torch.ones_like(smooth)
        middle, width = low + _BORDER * (high - low), _RAMP * (high - low)
        middle = min(middle, _CERTAIN)
        return ((smooth - middle) / width + 0.5).clamp(0, 1)

    def _smooth(self, size: tuple[int, int]) -> Tensor:
        """Logits (H, W), linear between the centers and constant beyond them."""
        scales = [there / here for there, here in zip(self.size, size, strict=True)]
        down = _weights(self.rows, size[0], scales[0])
        across = _weights(self.columns, size[1], scales[1])
        return down @ self.logits @ across.T


@torch.inference_mode()
def presence_maps(diagnoser: BiqaDiagnoser, pixels: Tensor) -> dict[str, PresenceMap]:
    """Look at every part of a photo by itself.

    Args:
        diagnoser: its model scores the windows, its calibration scales the scores.
        pixels: (1, 3, H, W) in [0, 1].

    Returns:
        One map for each degradation, by key.
    """
    check_image(pixels, "pixels")
    model, calibration = diagnoser.model, diagnoser.calibration
    side, size = model.clip.image_size, (int(pixels.shape[-2]), int(pixels.shape[-1]))
    fill = [max(0, side - length) for length in size]
    if any(fill):
        pixels = F.pad(pixels, (0, fill[1], 0, fill[0]), mode="replicate")
    height, width = pixels.shape[-2:]
    stride = max(side / _OVERLAP, math.sqrt(height * width / _MOST))
    tops, lefts = _starts(height, side, stride), _starts(width, side, stride)
    places = [(top, left) for top in tops for left in lefts]
    scores = []
    for first in range(0, len(places), _BATCH):
        windows = [
            pixels[..., top : top + side, left : left + side]
            for top, left in places[first : first + _BATCH]
        ]
        scores.append(model(torch.cat(windows), 1, whole=False)[1].float().cpu())
    raw = torch.cat(scores).view(len(tops), len(lefts), -1)
    centers = [torch.tensor(starts) + side / 2 for starts in (tops, lefts)]
    down, across = (_neighbors(places, _BLUR * side) for places in centers)
    return {
        degradation.key: PresenceMap(
            logits=down @ calibration.logit(degradation.key, raw[..., index]) @ across.T,
            rows=centers[0],
            columns=centers[1],
            size=size,
        )
        for index, degradation in enumerate(model.taxonomy)
    }


def limit(diagnoser: BiqaDiagnoser, image: Tensor, candidate: Tensor, key: str) -> Tensor:
    """A repair where its degradation is, and the photo bit for bit where it is not.

    Args:
        diagnoser: says where.
        image: (1, 3, H, W) before the repair.
        candidate: (1, 3, H, W) after it.
        key: of the degradation.
    """
    share = presence_maps(diagnoser, image)[key].where().to(image)
    return torch.where(share > 0, torch.lerp(image, candidate.to(image), share), image)


def _starts(length: int, side: int, stride: float) -> list[int]:
    """First pixels of the windows along one side, evenly spaced from border to border."""
    count = math.ceil((length - side) / stride) + 1
    return [round(i * (length - side) / (count - 1)) for i in range(count)] if count > 1 else [0]


def _neighbors(centers: Tensor, deviation: float) -> Tensor:
    """(N, N): how much each window's score counts at the center of each; the rows sum to 1."""
    apart = (centers[:, None] - centers[None]) / deviation
    near = torch.exp(-0.5 * apart.square())
    return near / near.sum(1, keepdim=True)


def _weights(centers: Tensor, length: int, scale: float) -> Tensor:
    """(length, N): how much each center counts for each pixel, linear between two of them."""
    if len(centers) == 1:
        return torch.ones(length, 1)
    place = (torch.arange(length) + 0.5) * scale
    right = torch.searchsorted(centers, place).clamp(1, len(centers) - 1)
    share = (place - centers[right - 1]) / (centers[right] - centers[right - 1])
    share = share.clamp(0, 1)[:, None]
    table = torch.eye(len(centers))
    return table[right - 1] * (1 - share) + table[right] * share
