"""Features of grain: one for each cell, of any photo, fine enough for what eight bits hide."""

import pytest
import torch

from autodir.imaging.grain import CELL, GrainTrunk


@pytest.fixture
def trunk() -> GrainTrunk:
    torch.manual_seed(0)
    return GrainTrunk(width=8, inner=6, dilations=(1, 2)).eval().requires_grad_(False)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (32, 40), (65, 33)])
def test_features_have_a_place_for_each_cell(trunk: GrainTrunk, size: tuple[int, int]) -> None:
    features = trunk.features(torch.rand(2, 3, *size))
    assert features.shape == (2, 6, *(-(-side // CELL) for side in size))
    assert features.isfinite().all()


def test_half_a_level_of_grain_is_seen(trunk: GrainTrunk) -> None:
    photo = torch.full((1, 3, 32, 32), 0.8)
    grainy = photo.clone()
    grainy[..., ::2, ::2] += 0.5 / 255
    moved = (trunk.features(grainy) - trunk.features(photo)).abs().amax()
    level = (trunk.features(photo + 0.125 / 255) - trunk.features(photo)).abs().amax()
    assert moved > 20 * level  # the same light, evenly added
