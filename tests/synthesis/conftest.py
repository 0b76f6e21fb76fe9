"""Small stand-ins for photos: soft light, texture and edges, drawn and not read."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional


def draw_photos(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """(count, 3, height, width) in [0, 1] with a spectrum like a photo's."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(count, 3, height, width)
    for cells in (2, 4, 8, 16, 32):
        coarse = torch.randn(count, 3, cells, cells, generator=generator)
        coarse = 0.5 * coarse + 0.5 * coarse.mean(1, keepdim=True)
        image += functional.interpolate(coarse, (height, width), mode="nearest") / cells**0.6
    return torch.sigmoid(1.5 * image)


@pytest.fixture(scope="session")
def photos() -> Tensor:
    return draw_photos(6, 64, 64)
