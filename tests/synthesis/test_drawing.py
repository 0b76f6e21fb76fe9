"""Drawings: paper where a photo is even and light, outlines, and strokes in its dark parts."""

from __future__ import annotations

import torch

from autodir.synthesis.drawing import draw_pencil


def half_dark() -> torch.Tensor:
    photo = torch.full((1, 3, 64, 96), 0.9)
    photo[..., 48:] = 0.1
    return photo


def test_even_light_parts_are_paper_and_dark_ones_are_hatched() -> None:
    generator = torch.Generator().manual_seed(0)
    pages = draw_pencil(half_dark().expand(12, -1, -1, -1), generator)
    assert pages.shape == (12, 3, 64, 96)
    assert torch.equal(pages[:, 0], pages[:, 2])
    assert float(pages[..., 4:20].min()) > 0.97
    inked = pages[..., 76:92].flatten(1).amin(1) < 0.8
    assert 5 <= int(inked.sum()) < 12  # some are outlines alone
    assert float(pages.min()) >= 0
    assert float(pages.max()) <= 1


def test_an_edge_leaves_an_outline_on_its_dark_side() -> None:
    page = draw_pencil(half_dark(), torch.Generator().manual_seed(3))[0, 0, 32]
    assert float(page[48]) < 0.7
    assert float(page[46]) > 0.95


def test_one_seed_gives_one_drawing() -> None:
    photo = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(5))
    first, second = (draw_pencil(photo, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first[0], draw_pencil(photo[:1], torch.Generator().manual_seed(2))[0])
