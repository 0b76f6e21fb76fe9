"""Figures of a pixel's surroundings: least value, mean, guided filter, parts; and small copies.

Apart because diagnosis, correction and synthesis all look at photos in this way, and none of them
knows another.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

NORMAL_MEDIAN = 0.6745
"""Median of the size of a normal variable of deviation 1."""


def shrunk(image: Tensor, longest: int) -> Tensor:
    """(B, C, H, W) with no side longer than ``longest`` pixels; a smaller one stays as it is."""
    height, width = image.shape[-2:]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(image, size, mode="area")


def darkest(image: Tensor, side: int) -> Tensor:
    """The least value in a square of ``side`` pixels (odd) around each one, over all channels.

    Of a photo (B, 3, H, W) that is its dark channel (He, Sun and Tang, CVPR 2009), (B, 1, H, W).
    """
    reach = side // 2
    highest = -image.amin(1, keepdim=True)
    # Rows first, then columns, is faster than the square at once.
    rows = F.max_pool2d(highest, (side, 1), 1, (reach, 0))
    return -F.max_pool2d(rows, (1, side), 1, (0, reach))


def box_mean(image: Tensor, radius: int) -> Tensor:
    """Mean over a square of side 2 · radius + 1, of which only what lies in the image counts."""
    side = 2 * radius + 1
    rows = F.avg_pool2d(image, (side, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, radius), count_include_pad=False)


def guided_map(
    guide: Tensor, image: Tensor, radius: int, epsilon: float = 1e-3
) -> tuple[Tensor, Tensor]:
    """The guided filter as its two maps, which may be enlarged (He and Sun, arXiv:1505.00996).

    Args:
        guide, image: (B, 1, H, W).
        radius: of the neighborhoods, in pixels.
        epsilon: variance of the guide below which it is no edge.

    Returns:
        ``slope`` and ``offset``: slope · guide + offset is the image, smoothed but for the edges of
        the guide.
    """
    mean_guide, mean_image = box_mean(guide, radius), box_mean(image, radius)
    variance = box_mean(guide * guide, radius) - mean_guide.square()
    covariance = box_mean(guide * image, radius) - mean_guide * mean_image
    slope = covariance / (variance + epsilon)
    return box_mean(slope, radius), box_mean(mean_image - slope * mean_guide, radius)


def diagonal_details(plane: Tensor) -> Tensor:
    """The diagonal Haar details (B, 1, h, w) of planes (B, 1, H, W), an odd row or column left out.

    They hold little of a scene, so that where it is flat they are noise, of its deviation.
    """
    rows, columns = (length // 2 * 2 for length in plane.shape[-2:])
    quads = F.pixel_unshuffle(plane[..., :rows, :columns], 2)
    return (quads[:, :1] - quads[:, 1:2] - quads[:, 2:3] + quads[:, 3:]) / 2


def connected_parts(mask: Tensor) -> Tensor:
    """Number the parts of a mask (H, W) of which each hangs together, corners included.

    Returns:
        (H, W), 0 where the mask is false, from 1 on elsewhere; on the mask's device.
    """
    _, labels = cv2.connectedComponents(mask.cpu().numpy().astype(np.uint8), connectivity=8)
    return torch.from_numpy(labels).to(mask.device).long()
