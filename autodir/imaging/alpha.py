"""Colors under transparency: nobody sees them, and no repair may carry them into what is seen.

Apart because a network looks around each pixel, so that what is hidden must be made harmless first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def fill_hidden(pixels: Tensor, alpha: Tensor) -> Tensor:
    """Replace colors under full transparency by the mean of visible ones, the nearer the finer.

    Args:
        pixels: (3, H, W).
        alpha: (H, W), 0 where a pixel is hidden.

    Returns:
        (3, H, W), and ``pixels`` itself where nothing is hidden or nothing visible.
    """
    visible = alpha > 0
    if bool(visible.all()) or not bool(visible.any()):
        return pixels
    share = visible[None, None].to(pixels)
    levels = [(pixels[None] * share, share)]
    while max(levels[-1][0].shape[-2:]) > 1:
        # Only the ratio of the two means counts, so cells that reach over the border do no harm.
        smaller = [functional.avg_pool2d(x, 2, ceil_mode=True) for x in levels[-1]]
        levels.append((smaller[0], smaller[1]))
    filled = levels[-1][0] / levels[-1][1]
    for color, weight in reversed(levels[:-1]):
        around = functional.interpolate(filled, color.shape[-2:], mode="bilinear")
        filled = torch.where(weight > 0, color / weight.clamp(min=1e-12), around)
    return torch.where(visible, pixels, filled[0])
