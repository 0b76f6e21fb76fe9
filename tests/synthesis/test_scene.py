"""Near and far: how much is near, and that it ends where things do."""

from __future__ import annotations

import pytest
import torch

from autodir.synthesis.scene import distant_part


@pytest.mark.parametrize("near", [0.2, 0.5])
def test_what_is_near_ends_at_the_edges_of_the_photo(near: float) -> None:
    sides = torch.cat([torch.full((1, 3, 96, 48), 0.1), torch.full((1, 3, 96, 48), 0.8)], dim=3)
    generator = torch.Generator().manual_seed(4)
    away = torch.cat([
        distant_part(sides, torch.rand(1, 1, 5, 5, generator=generator), near) for _ in range(8)
    ])  # fmt: skip
    assert 0 <= float(away.min()) < 0.1 < 0.9 < float(away.max()) <= 1
    assert abs(float((away < 0.5).float().mean()) - near) < 0.1
    steps = away.diff(dim=3).abs().mean((0, 1, 2))
    assert float(steps[47]) > 3 * float(torch.cat([steps[:44], steps[51:]]).mean())
