"""How much a repair has changed a photo: figures for the guard, each blind to something else.

Apart from the guard, which says how much of each is too much.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodir.imaging.color import luma
from autodir.imaging.neighborhoods import darkest, shrunk

VEIL_SIDE = 320
"""Longer side of the copies on which haze is looked for."""
_GRADIENT_SIDE = 256
"""Longer side of the copies on which structure is compared: noise is gone, objects are not."""
_TONE_SIDE = 16
"""Longer side of the copies on which tone is compared."""
_FLAT = 1e-3
"""Norm of the gradients below which a picture has no structure."""
_DARK_PATCH = 15
_LOOKED_AT = 2**20


def root_mean_square_change(first: Tensor, second: Tensor) -> float:
    """Of two images (1, 3, H, W); channel by channel, since a large photo fills the memory."""
    squares = [(a - b).square_().mean() for a, b in zip(first[0], second[0], strict=True)]
    return float(torch.stack(squares).mean().sqrt())


def tone_distance(first: Tensor, second: Tensor) -> float:
    """Mean absolute distance of the low frequencies of two images (1, 3, H, W), in [0, 1]."""
    small = [shrunk(image, _TONE_SIDE) for image in (first, second)]
    return float((small[0] - small[1]).abs().mean())


def structure_agreement(first: Tensor, second: Tensor) -> float:
    """Correlation of the gradients of two images (1, 3, H, W): 1 for the same, blind to contrast.

    A flat first image has no structure to lose: 1. A flat second one has lost it: 0.
    """
    gradients = []
    for image in (first, second):
        gray = shrunk(image, _GRADIENT_SIDE).mean(1)
        vertical, horizontal = gray.diff(dim=-2).flatten(), gray.diff(dim=-1).flatten()
        gradients.append(torch.cat([vertical, horizontal]))
    if not gradients[0].numel():
        return 1.0
    norms = [float(gradient.norm()) for gradient in gradients]
    if min(norms) < _FLAT:
        return 1.0 if norms[0] < _FLAT else 0.0
    return float(gradients[0] @ gradients[1]) / (norms[0] * norms[1])


def dark_channel(image: Tensor) -> float:
    """Mean over a photo (1, 3, H, W) of the darkest value around each pixel, in [0, 1].

    Airlight lifts it everywhere (He, Sun and Tang, CVPR 2009).
    """
    return float(darkest(shrunk(image, VEIL_SIDE), _DARK_PATCH).mean())


def contrast(image: Tensor) -> float:
    """Standard deviation of the luma of a photo (1, 3, H, W), whose grain does not count."""
    return float(luma(shrunk(image, VEIL_SIDE).clamp(0, 1)).std(correction=0))


def edge_strength(image: Tensor) -> float:
    """The change from pixel to pixel that one in a hundred exceeds, of a photo (1, 3, H, W).

    Of a large photo some rows and columns are looked at, evenly spread.
    """
    height, width = image.shape[-2:]
    step = max(1, height * width // _LOOKED_AT)
    steps = [
        luma(image[..., ::step, :]).diff(dim=-1), luma(image[..., :, ::step]).diff(dim=-2),
    ]  # fmt: skip
    changes = torch.cat([part.abs().flatten() for part in steps])
    if not len(changes):
        return 0.0
    return float(changes.kthvalue(max(1, round(0.99 * len(changes)))).values)
