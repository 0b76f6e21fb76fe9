"""Raindrops: where they cover, what they show, how many there are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autodir.synthesis.drops import raindrop

ALONE = {"film": 0.0, "beyond": 0.0}
"""Drops, and nothing between them."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_transparent_drops_leave_the_photo(photos: Tensor) -> None:
    severity = torch.full((len(photos),), 0.7)
    result, _ = raindrop(photos, severity, seeded(), {"opacity": 0.0, "film": 0.0})
    assert torch.equal(result, photos)


def test_a_film_lightens_what_is_dark_everywhere_and_by_its_thickness() -> None:
    dark = torch.full((6, 3, 64, 64), 0.1)
    severity, fixed = torch.full((6,), 0.7), {"opacity": 0.0, "beyond": 1.0}
    added = [
        raindrop(dark, severity, seeded(2), fixed | {"film": film})[0] - dark for film in (0.2, 0.4)
    ]
    assert float(added[0].min()) >= 0
    assert float((added[0] > 0.01).float().mean()) > 0.8
    assert torch.allclose(added[1], 2 * added[0], atol=1e-5)
    assert float(added[1].max()) < 0.4


def test_drops_are_bright_where_the_light_lies_beyond_the_frame() -> None:
    dark = torch.full((8, 3, 96, 96), 0.1)
    severity = torch.full((8,), 0.7)

    def lit(beyond: float) -> float:
        fixed = {"film": 0.0, "beyond": beyond}
        return float((raindrop(dark, severity, seeded(3), fixed)[0] - dark).mean())

    assert lit(1.0) > 3 * lit(0.0)


def test_one_drop_changes_a_disk_of_its_radius() -> None:
    clean = torch.rand(1, 3, 96, 96, generator=seeded())
    fixed = {"count": 1.0, "radius": 12.0, "blobs": 0.0, "opacity": 1.0, "defocus": 0.0} | ALONE
    areas = []
    for seed in range(6):
        result, _ = raindrop(clean, torch.tensor([0.5]), seeded(seed), fixed)
        areas.append(float(((result - clean).abs().amax(1) > 1e-3).sum()))
    assert 0.25 * 3.14 * 144 < max(areas) < 12 * 3.14 * 144
    assert max(areas) < 96 * 96 / 2


def test_a_drop_out_of_focus_is_larger_fainter_and_smooth() -> None:
    clean = torch.full((1, 3, 96, 96), 0.2)
    fixed = {"count": 1.0, "radius": 8.0, "blobs": 0.0, "opacity": 1.0, "softness": 0.05}
    fixed |= {"film": 0.0, "beyond": 1.0}
    # A drop that shows nothing but the darkness around it could not be seen.
    larger = fainter = smoother = 0
    for seed in range(8):
        sharp, soft = (
            raindrop(clean, torch.tensor([0.5]), seeded(seed), fixed | {"defocus": defocus})[0]
            - clean
            for defocus in (0.0, 0.8)
        )
        larger += int((soft.abs() > 1e-3).sum()) > int((sharp.abs() > 1e-3).sum())
        fainter += float(soft.abs().max()) < float(sharp.abs().max())
        steps = [float(image.diff(dim=-1).abs().max()) for image in (sharp, soft)]
        smoother += steps[1] < 0.5 * steps[0]
    assert min(larger, fainter, smoother) >= 7


def test_a_drop_shows_the_scene_upside_down() -> None:
    clean = torch.zeros(1, 3, 128, 128)
    clean[..., 64:, :] = 0.9
    fixed = {
        "count": 1.0,
        "radius": 30.0,
        "blobs": 0.0,
        "opacity": 1.0,
        "softness": 0.05,
        "defocus": 0.0,
    } | ALONE
    flipped = 0
    for seed in range(12):
        result, _ = raindrop(clean, torch.tensor([1.0]), seeded(seed), fixed)
        above, below = (
            result[..., :64, :] - clean[..., :64, :],
            clean[..., 64:, :] - result[..., 64:, :],
        )
        flipped += float(above.max()) > 0.3 or float(below.max()) > 0.3
    assert flipped >= 4


@pytest.mark.parametrize("radius", [3.0, 9.0])
def test_more_drops_cover_more(radius: float, photos: Tensor) -> None:
    severity = torch.full((len(photos),), 0.5)
    covered = []
    for count in (1.0, 10.0, 60.0):
        result, _ = raindrop(
            photos, severity, seeded(1), {"count": count, "radius": radius} | ALONE
        )
        covered.append(float(((result - photos).abs().amax(1) > 0.01).float().mean()))
    assert covered[0] < covered[1] < covered[2]


def test_a_small_frame_is_a_crop_with_fewer_drops() -> None:
    severity = torch.full((20,), 0.5)
    small = raindrop(torch.rand(20, 3, 32, 32), severity, seeded())[1]
    large = raindrop(torch.rand(1, 3, 512, 512), severity[:1], seeded())[1]
    assert max(float(str(record["count"])) for record in small) < float(str(large[0]["count"]))
