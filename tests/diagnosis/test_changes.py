"""What is measured of a change: tone, structure, veil, contrast and edges."""

import pytest
import torch
from torch import Tensor

from autodir.diagnosis.changes import (
    contrast,
    dark_channel,
    edge_strength,
    root_mean_square_change,
    structure_agreement,
    tone_distance,
)


def scene(seed: int = 0) -> Tensor:
    smooth = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(smooth, (60, 80), mode="bilinear")


IMAGE = scene()


def test_tone_distance_is_the_mean_of_low_frequencies() -> None:
    assert tone_distance(IMAGE, IMAGE) == 0
    assert tone_distance(torch.full((1, 3, 40, 40), 0.25), torch.full((1, 3, 40, 40), 0.75)) == 0.5


def test_tone_does_not_see_fine_noise() -> None:
    noise = torch.randn(IMAGE.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    assert tone_distance(IMAGE, IMAGE + noise) < 0.03


def test_structure_is_blind_to_contrast() -> None:
    assert structure_agreement(IMAGE, IMAGE) == pytest.approx(1, abs=1e-4)
    assert structure_agreement(IMAGE, IMAGE * 0.3 + 0.5) == pytest.approx(1, abs=1e-4)
    assert structure_agreement(IMAGE, 1 - IMAGE) == pytest.approx(-1, abs=1e-4)


def test_structure_of_another_scene_does_not_agree() -> None:
    assert abs(structure_agreement(IMAGE, scene(seed=5))) < 0.5


def test_flat_photo_has_no_structure_to_lose() -> None:
    flat = torch.full((1, 3, 20, 20), 0.4)
    assert structure_agreement(flat, flat) == 1
    assert structure_agreement(flat, torch.rand(1, 3, 20, 20)) == 1
    assert structure_agreement(torch.rand(1, 3, 20, 20), flat) == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 300)])
def test_measures_take_any_size(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size)
    assert tone_distance(image, image) == 0
    assert structure_agreement(image, image) == pytest.approx(1, abs=1e-4)


def test_dark_channel_is_the_mean_of_the_darkest_neighbors() -> None:
    flat = torch.full((1, 3, 40, 60), 0.8)
    assert dark_channel(flat) == pytest.approx(0.8)
    spotted = flat.clone()
    spotted[:, 1, ::8, ::8] = 0.1
    assert dark_channel(spotted) == pytest.approx(0.1)


def test_contrast_is_that_of_the_scene_and_not_of_its_grain() -> None:
    halves = torch.zeros(1, 3, 640, 640)
    halves[..., 320:] = 1.0
    assert contrast(halves) == pytest.approx(0.5, abs=1e-3)
    grainy = (torch.arange(640) % 2).float().expand(1, 3, 640, 640)
    assert contrast(grainy) < 0.05
    assert contrast(torch.full((1, 3, 1, 1), 0.3)) == pytest.approx(0, abs=1e-6)


def test_edge_strength_is_what_one_change_in_a_hundred_exceeds() -> None:
    ramp = torch.linspace(0, 1, 101).expand(1, 3, 80, 101).clone()
    assert edge_strength(ramp) == pytest.approx(0.01, rel=1e-3)
    ramp[..., 50:] += 0.5  # one column of 101, half of whose neighbors lie in a column
    assert edge_strength(ramp) == pytest.approx(0.01, rel=1e-3)
    ramp[..., 60:] -= 0.5
    ramp[..., 70:] += 0.5
    assert edge_strength(ramp) > 0.4
    assert edge_strength(torch.ones(1, 3, 1, 1)) == 0


def test_edges_of_a_large_photo_are_told_from_some_of_its_rows() -> None:
    fine = torch.rand(1, 3, 200, 300, generator=torch.Generator().manual_seed(1))
    large = fine.repeat(1, 1, 9, 11)
    assert edge_strength(large) == pytest.approx(edge_strength(fine), rel=0.02)


def test_change_is_the_root_of_the_mean_square() -> None:
    changed = IMAGE.clone()
    changed[:, 0] += 0.3
    assert root_mean_square_change(IMAGE, changed) == pytest.approx(0.3 / 3**0.5, rel=1e-4)
    assert root_mean_square_change(IMAGE, IMAGE) == 0
