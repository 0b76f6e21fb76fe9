"""Colors of the photo onto the result, unless that would bring the degradation back.

Apart from the color arithmetic, which knows no degradations.
"""

from __future__ import annotations

import logging

from torch import Tensor

from autodir.imaging.color import match_color

logger = logging.getLogger(__name__)

RECOLORED = frozenset({"underexposure", "haze"})
"""Degradations whose repair is a change of color: the degraded photo is no reference for it."""


def keep_colors(
    corrected: Tensor, current: Tensor, first: Tensor | None, degradation: str, method: str
) -> tuple[Tensor, str]:
    """Match the colors of a result to its reference.

    Args:
        corrected: the result, (B, 3, H, W) in [0, 1].
        current: the degraded photo.
        first: the result of stage 1, where there was one: it is the better reference.
        degradation: what was repaired, its key.
        method: of `match_color`.

    Returns:
        The picture, and a sentence where a color fix was asked for and left out (it is logged as a
        warning too); else "".
    """
    if method != "none" and first is None and degradation in RECOLORED:
        why = f"no {method} color fix: it would bring the {degradation} back"
        logger.warning("%s", why)
        return corrected, why
    return match_color(corrected, current if first is None else first, method), ""
