"""Do fine bright lines run the same way everywhere? What tells rain from the texture of a scene.

Apart from `appearance`, whose measures trained heads know by their places: these come last, so that
a head which has not learnt to read them does not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.diagnosis.appearance import LEVEL, native_windows, quantiles
from autodir.imaging.color import luma
from autodir.records import check_image

MEASURES = 16
"""Length of the vector."""
_SCALES = (0.8, 1.6)
"""Deviations in pixels of the Gaussian second derivatives: lines of one to four pixels."""
_CELL = 32
"""Side in pixels of the neighborhoods, each of which says which way its own lines run."""
_DIRECTIONS = 16
_UPRIGHT = math.pi / 4 + 1e-6
"""Rain falls: its lines lean by no more than this."""
_FLOOR = (0.05 * LEVEL) ** 2
"""Power below which lines cannot be told from an even photo."""
_QUIET = 0.2
"""Share of the neighborhoods, those with the least lines, that are not asked."""


def measure(pixels: Tensor) -> Tensor:
    """All measures of one photo as a vector; its length does not depend on the photo.

    Second derivatives of Gaussians are steerable (Freeman and Adelson, PAMI 1991): the power of
    lines across a direction φ is that of cos²φ · I_xx + 2 cosφ sinφ · I_xy + sin²φ · I_yy, a
    quadratic form in six moments. The scene has its own directions here and there, and the median
    over neighborhoods those that are everywhere.

    Args:
        pixels: (1, 3, H, W) in [0, 1], sRGB-encoded, upright.

    Returns:
        float32 (`MEASURES`,), finite: for each scale the power along the strongest upright
        direction and along the strongest other one, over that of all; its lower quantile over the
        neighborhoods; the share of neighborhoods where it is the strongest, too; how much brighter
        its lines are than its gaps, in the median and in the upper quantile; its lean; and the
        power of all.
    """
    check_image(pixels, "pixels")
    gray = luma(native_windows(pixels.float()))
    return torch.nan_to_num(torch.cat([_of_scale(gray, deviation) for deviation in _SCALES]))


def _of_scale(gray: Tensor, deviation: float) -> Tensor:
    across, down, aslant = _second_derivatives(gray, deviation)
    side = min(_CELL, *gray.shape[-2:])
    moments = torch.stack([
        _mean(across * across, side), _mean(down * down, side), _mean(aslant * aslant, side),
        _mean(across * down, side), _mean(across * aslant, side), _mean(down * aslant, side),
    ])  # fmt: skip
    angle = torch.arange(_DIRECTIONS) * (math.pi / _DIRECTIONS)
    cc, ss, cs = angle.cos().square(), angle.sin().square(), 2 * angle.cos() * angle.sin()
    form = torch.stack([cc * cc, ss * ss, cs * cs, 2 * cc * ss, 2 * cc * cs, 2 * ss * cs], dim=1)
    power = (form @ moments).clamp_min(0) + _FLOOR  # directions, neighborhoods
    total = power.mean(0)
    asked = total >= quantiles(total, (_QUIET,))
    relative = (power / total)[:, asked]
    typical = relative.median(1).values
    lean = torch.minimum(angle, math.pi - angle)
    upright = lean <= _UPRIGHT
    best = int(torch.where(upright, typical, torch.zeros(())).argmax())
    away = (relative.argmax(0) - best).remainder(_DIRECTIONS)
    agreeing = torch.minimum(away, _DIRECTIONS - away) <= 1
    lines = -(cc[best] * across + cs[best] * aslant + ss[best] * down)
    bright, dark = (_mean(F.relu(sign * lines).square(), side) for sign in (1, -1))
    brighter = ((bright + _FLOOR) / (dark + _FLOOR)).log()[asked]
    return torch.cat([
        typical[best].log()[None],
        typical[~upright].max().log()[None],
        quantiles(relative[best], (0.2,)).log(),
        agreeing.float().mean()[None],
        quantiles(brighter, (0.5, 0.9)),
        lean[best][None],
        0.5 * total.median().log()[None],
    ])  # fmt: skip


def _mean(plane: Tensor, side: int) -> Tensor:
    """Mean of each neighborhood of (N, 1, h, w), all of them in one row."""
    return F.avg_pool2d(plane, side).flatten()


def _second_derivatives(gray: Tensor, deviation: float) -> tuple[Tensor, Tensor, Tensor]:
    """I_xx, I_yy and I_xy of the smoothed (N, 1, h, w), of the same size."""
    reach = math.ceil(3 * deviation)
    place = torch.arange(-reach, reach + 1, dtype=torch.float32)
    bell = torch.exp(-0.5 * (place / deviation).square())
    bell = bell / bell.sum()
    slope = -place / deviation**2 * bell
    bend = (place.square() / deviation**4 - 1 / deviation**2) * bell
    bend = bend - bend.mean()  # an even photo has no lines

    def filtered(rows: Tensor, columns: Tensor) -> Tensor:
        padded = F.pad(gray, (reach, reach, reach, reach), mode="reflect")
        return F.conv2d(F.conv2d(padded, columns.view(1, 1, 1, -1)), rows.view(1, 1, -1, 1))

    return filtered(bell, bend), filtered(bend, bell), filtered(slope, slope)
