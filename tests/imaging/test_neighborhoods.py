"""Figures of a pixel's surroundings and small copies."""

from __future__ import annotations

import pytest
import torch

from autodir.imaging.neighborhoods import (
    box_mean,
    connected_parts,
    darkest,
    guided_map,
    shrunk,
)


def noise(*size: int) -> torch.Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((100, 90), (100, 90)), ((1, 1), (1, 1)), ((3000, 4000), (96, 128)), ((20, 5000), (1, 128))],
)
def test_small_copies_keep_the_shape(size: tuple[int, int], expected: tuple[int, int]) -> None:
    image = torch.linspace(0, 1, size[1]).expand(1, 3, *size)
    small = shrunk(image, 128)
    assert small.shape[-2:] == expected
    assert abs(float(small.mean() - image.mean())) < 0.01


@pytest.mark.parametrize("side", [1, 3, 7])
def test_darkest_is_the_least_value_of_each_square(side: int) -> None:
    image, reach = noise(2, 3, 9, 11), side // 2
    dark = darkest(image, side)
    assert dark.shape == (2, 1, 9, 11)
    for y, x in [(0, 0), (4, 5), (8, 10)]:
        square = image[:, :, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        assert torch.equal(dark[:, 0, y, x], square.amin((1, 2, 3)))


def test_box_mean_counts_what_lies_in_the_image() -> None:
    image = noise(1, 2, 8, 9)
    mean = box_mean(image, 2)
    torch.testing.assert_close(mean[..., 0, 0], image[..., :3, :3].mean((2, 3)))
    torch.testing.assert_close(mean[..., 4, 4], image[..., 2:7, 2:7].mean((2, 3)))
    torch.testing.assert_close(box_mean(torch.ones(1, 1, 3, 3), 11), torch.ones(1, 1, 3, 3))


def test_guided_map_keeps_the_guides_edge_and_smooths_the_rest() -> None:
    guide = torch.zeros(1, 1, 32, 32)
    guide[..., 16:] = 1
    rough = guide + 0.2 * (noise(1, 1, 32, 32) - 0.5) * 12**0.5
    slope, offset = guided_map(guide, rough, 4)
    smooth = slope * guide + offset
    assert float((smooth[..., 16] - smooth[..., 15]).min()) > 0.7
    assert float(smooth[..., :12].std()) < 0.5 * float(rough[..., :12].std())


def test_parts_hang_together_by_their_corners() -> None:
    rows = ["##...#", "..#...", "......", "#....#"]
    mask = torch.tensor([[mark == "#" for mark in row] for row in rows])
    parts = connected_parts(mask)
    assert torch.equal(parts > 0, mask)
    assert parts.unique().tolist() == [0, 1, 2, 3, 4]
    assert int(parts[0, 0]) == int(parts[0, 1]) == int(parts[1, 2]) != int(parts[0, 5])
