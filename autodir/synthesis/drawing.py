"""Drawings made of photos: what a quality model is asked about and no degradation describes.

Apart from the degradations: nothing here is to be repaired, and none of it is ever a label.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodir.imaging.color import luma
from autodir.imaging.convolution import convolve
from autodir.synthesis.filters import gaussian
from autodir.synthesis.rain import streak_kernels

_TONES = (0.55, 0.4, 0.25)
"""Luma below which each layer of strokes shades a drawing."""
_OUTLINES = (1.0, 6.0)
"""Deviation in pixels of the surroundings that an outline is darker than."""
_LENGTH, _WIDTH = (8.0, 45.0), (0.8, 1.8)
"""Of the strokes, in pixels."""
_DENSITY = (0.1, 0.5)
"""Share of the paper under the strokes of one layer."""
_FLAT = 1e-3


def draw_pencil(photo: Tensor, generator: torch.Generator) -> Tensor:
    """A pencil drawing after each photo: outlines on paper, and hatching where it is dark.

    An outline is how much darker a pixel is than its surroundings, in terms of them; the strokes
    of one layer run the same way, those of the next ones across them.

    Args:
        photo: (B, 3, H, W) in [0, 1], sRGB-encoded.
        generator: source of all randomness, on the CPU.

    Returns:
        (B, 3, H, W) in [0, 1], all channels alike.
    """
    return torch.cat([_drawn(one, generator) for one in photo.split(1)])


def _drawn(photo: Tensor, generator: torch.Generator) -> Tensor:
    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    tone = luma(photo)[:, :1]
    around = gaussian(tone, torch.tensor([uniform(*_OUTLINES)]))
    page = ((tone + _FLAT) / (around + _FLAT)).clamp(0, 1) ** uniform(1, 3)
    layers = int(torch.randint(len(_TONES) + 1, (), generator=generator))
    first, ink = uniform(-90, 90), uniform(0.3, 0.9)
    for layer, limit in enumerate(_TONES[:layers]):
        length, width = uniform(*_LENGTH), uniform(*_WIDTH)
        angle = first + (uniform(50, 90) if layer % 2 else uniform(-6, 6))
        drops = torch.rand(tone.shape, generator=generator) < uniform(*_DENSITY) / (length * width)
        kernel = streak_kernels(*(torch.tensor([value]) for value in (length, width, angle)))
        strokes = convolve(drops.to(tone), kernel.to(tone), "zero").clamp(0, 1)
        page = page * (1 - ink * strokes * torch.sigmoid((limit - around) / 0.03))
    return page.expand_as(photo)
