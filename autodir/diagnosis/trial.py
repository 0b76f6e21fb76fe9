"""A suspicion is put to the test: is what its repair would take away what it should take away?

Apart from the head, which looks at the photo alone: a shower far away looks like texture, mist or a
bad file, but what the correction takes out of it are lines that run the same way everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.diagnosis import streaks
from autodir.records import check_image

KEY = "rain"
"""What is tried: its streaks are told by their directions."""
DOUBT = 0.004
"""Presence below which a photo is not suspected, so that most photos cost nothing."""
LARGEST = 416
"""Side in pixels of the middle of a photo that is tried: rain falls nearly everywhere, and larger
photos are none of those that the trial learns from."""
MULTIPLE = 16
"""The sides of it are multiples of so many pixels, which every correction takes."""
FIGURES = 7 + streaks.MEASURES
"""Length of the vector that `measure` returns."""

_NEAR, _WIDE = 15, 31
"""Radius in pixels of the neighborhoods whose mean is left out, and of those that are compared."""
_FAINT = 1e-4
_RAISED = 4.0
"""What was taken away is shown to the measures of streaks so many times stronger."""
_CERTAIN = 16.0
"""Logit of a suspicion that has proved right, at most."""
_FAR = 5.0
"""Standard deviations at which a figure is clipped: unheard-of photos must not run away."""


def middle(pixels: Tensor) -> Tensor | None:
    """What is tried of a photo (1, 3, H, W): its middle, or None where it is too small."""
    height, width = (min(side, LARGEST) // MULTIPLE * MULTIPLE for side in pixels.shape[-2:])
    if min(height, width) < 4 * _NEAR:
        return None
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[..., top : top + height, left : left + width]


def measure(photo: Tensor, repaired: Tensor) -> Tensor:
    """How a repair against streaks changed a photo.

    Args:
        photo: (1, 3, H, W) in [0, 1], sRGB-encoded, upright.
        repaired: the same without the streaks that were found in it.

    Returns:
        float32 (`FIGURES`,), finite, on the CPU: how much was taken away, how much brighter it was
        than what was added, its brightest fiftieth, its mean, how much it is of all detail, and how
        much there is in a typical and in a calm neighborhood; then `streaks.measure` of what was
        taken away.
    """
    check_image(photo, "photo")
    check_image(repaired, "repaired")
    photo, repaired = photo.float().cpu(), repaired.float().cpu()
    whole = (photo - repaired).mean(1, keepdim=True)
    taken, detail = _detail(whole), _detail(photo.mean(1, keepdim=True))
    bright, dark = taken.clamp_min(0), (-taken).clamp_min(0)
    around = F.avg_pool2d(taken.abs(), 2 * _WIDE + 1, 8, _WIDE, count_include_pad=False).flatten()
    amounts = torch.stack([
        _root(taken), _root(bright) / (_root(dark) + _FAINT), _upper(bright),
        _root(taken) / (_root(detail) + 10 * _FAINT), around.median(), around.quantile(0.1),
    ])  # fmt: skip
    shown = (0.5 + _RAISED * taken).clamp(0, 1).expand(-1, 3, -1, -1)
    return torch.nan_to_num(
        torch.cat([amounts.clamp_min(_FAINT).log(), whole.mean()[None], streaks.measure(shown)])
    )


class Trial(nn.Module):
    """What the measures of a tried repair say of a suspicion: their networks' mean.

    Args:
        hidden: width of the one hidden layer of each network.
        members: how many networks.
        dropout: share of the hidden figures left out in training.
    """

    def __init__(self, *, hidden: int = 32, members: int = 4, dropout: float = 0.3) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"hidden": hidden, "members": members, "dropout": dropout}
        # Parameters, though nothing learns them: a part moves to a device when its own are used.
        self.center = nn.Parameter(torch.zeros(FIGURES), requires_grad=False)
        self.spread = nn.Parameter(torch.ones(FIGURES), requires_grad=False)
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Linear(FIGURES, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, 1)
            )
            for _ in range(members)
        )

    def standardize(self, figures: Tensor) -> None:
        """Take center and spread from the figures (N, `FIGURES`) of photos."""
        self.center.copy_(figures.mean(0))
        self.spread.copy_(figures.std(0).clamp_min(1e-3))

    def standard(self, figures: Tensor) -> Tensor:
        """Figures (B, `FIGURES`) as the networks read them."""
        return ((figures.to(self.center) - self.center) / self.spread).clamp(-_FAR, _FAR)

    def forward(self, figures: Tensor) -> Tensor:
        """Figures (B, `FIGURES`) of `measure` → the logit (B,) that the suspicion is right."""
        seen = self.standard(figures)
        return torch.stack([member(seen)[:, 0] for member in self.members]).mean(0)


class Suspicion:
    """Tries a repair where a degradation is suspected and not found.

    Args:
        tried: says what the outcome means.
        attempt: the repair: (1, 3, H, W), H and W multiples of `MULTIPLE`, to the same shape.
    """

    def __init__(self, tried: Trial, attempt: Callable[[Tensor], Tensor]) -> None:
        self._trial, self._attempt = tried, attempt

    def presence(self, pixels: Tensor, presence: float, threshold: float) -> float:
        """The presence of `KEY` in a photo (1, 3, H, W): as it is, or higher after a trial.

        Args:
            pixels: in [0, 1], sRGB-encoded.
            presence: as the quality model sees it.
            threshold: the presence from which on it counts as found, and nothing is tried.
        """
        part = middle(pixels) if DOUBT <= presence < threshold else None
        if part is None:
            return presence
        figures = measure(part, self._attempt(part))[None]
        logit = float(self._trial(figures.to(pixels.device))[0])
        return max(presence, 1 / (1 + math.exp(-max(-_CERTAIN, min(_CERTAIN, logit)))))


def _detail(plane: Tensor) -> Tensor:
    return plane - F.avg_pool2d(plane, 2 * _NEAR + 1, 1, _NEAR, count_include_pad=False)


def _root(plane: Tensor) -> Tensor:
    return plane.square().mean().sqrt()


def _upper(plane: Tensor) -> Tensor:
    return plane.flatten().sort().values[-max(1, plane.numel() // 50)]
