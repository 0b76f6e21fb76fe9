"""Grids of tiles and their blend."""

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from autodir.errors import ContractError
from autodir.imaging.tiles import Tile, blend, cores, grid, map_cores, map_tiles, weights


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(4, 32).flatmap(lambda t: st.tuples(st.just(t), st.integers(0, t - t // 4))),
)
def test_every_pixel_lies_in_a_tile_and_every_tile_in_the_image(height, width, sides):
    tile, overlap = sides
    covered = torch.zeros(height, width)
    for t in grid((height, width), tile, overlap):
        assert t.top + t.height <= height
        assert t.left + t.width <= width
        assert (t.height, t.width) == (min(tile, height), min(tile, width))
        t.crop(covered).add_(1)
    assert covered.min() >= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(33, 200), st.integers(0, 31))
def test_neighbors_share_at_least_the_overlap(length, overlap):
    tops = [t.top for t in grid((length, 8), 32, overlap)]
    assert all(b - a <= 32 - overlap for a, b in pairwise(tops))


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 30), st.integers(0, 31))
def test_aligned_tiles_start_at_multiples(blocks, overlap):
    tiles = grid((blocks * 8, 64), 32, overlap, align=8)
    assert all(t.top % 8 == 0 and t.left % 8 == 0 for t in tiles)
    covered = torch.zeros(blocks * 8, 64)
    for t in tiles:
        t.crop(covered).add_(1)
    assert covered.min() >= 1


@pytest.mark.parametrize("weighting", ["cosine", "gaussian"])
@pytest.mark.parametrize("size", [(1, 1), (7, 40), (50, 33), (64, 64)])
@pytest.mark.parametrize("overlap", [0, 5, 11])
def test_tiled_equals_whole_for_a_pointwise_function(weighting, size, overlap):
    x = noise(2, 3, *size)
    tiled = map_tiles(x, lambda t: t.square() + 0.1, 16, overlap, weighting=weighting)
    assert torch.allclose(tiled, x.square() + 0.1, atol=1e-6)


@pytest.mark.parametrize("weighting", ["cosine", "gaussian"])
def test_the_weights_of_each_pixel_sum_to_one(weighting):
    ones = torch.ones(1, 1, 47, 61, dtype=torch.float64)
    tiled = map_tiles(ones, lambda t: t, 16, 6, weighting=weighting)
    assert (tiled - 1).abs().max() < 1e-6


def test_each_tile_is_seen_by_the_blend():
    tiles = grid((8, 20), 8, 4)
    values = [torch.full((1, 1, 8, 8), float(i)) for i in range(len(tiles))]
    row = blend(tiles, values, (8, 20), 4)[0, 0, 3]
    assert row[0] == 0
    assert row[-1] == len(tiles) - 1
    assert bool((row.diff() >= 0).all())  # a ramp, no seam that jumps back
    assert row.diff().max() < 0.6


def test_an_enlarging_function_is_tiled_in_its_own_scale():
    x = noise(1, 3, 20, 31)

    def double(t: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(t, scale_factor=2, mode="nearest")

    assert torch.allclose(map_tiles(x, double, 8, 3), double(x), atol=1e-6)


def test_a_shrinking_function_is_tiled_in_its_own_scale():
    x = noise(1, 4, 48, 64)

    def halve(t: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(t, 2)

    assert torch.allclose(map_tiles(x, halve, 16, 4, align=2), halve(x), atol=1e-6)


def test_the_number_of_channels_may_change():
    assert map_tiles(noise(1, 3, 20, 20), lambda t: t[:, :1], 8, 2).shape == (1, 1, 20, 20)


def test_half_precision_is_blended_in_single_and_returned_in_half():
    x = noise(1, 3, 40, 40).to(torch.bfloat16)
    y = map_tiles(x, lambda t: t, 16, 4)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, x)


def test_an_image_within_one_tile_goes_through_unblended():
    x = noise(1, 3, 9, 12)
    assert torch.equal(map_tiles(x, lambda t: t, 16, 4), x)


def test_weights_are_positive_symmetric_and_highest_in_the_middle():
    for weighting in ("cosine", "gaussian"):
        w = weights(17, 6, weighting)
        assert w.min() > 0
        assert torch.allclose(w, w.flip(0))
        assert w.argmax() in range(5, 12)


def test_unknown_weights_are_refused():
    with pytest.raises(ContractError):
        weights(8, 2, "flat")


@pytest.mark.parametrize(
    "arguments",
    [((0, 8), 4, 1), ((8, 8), 0, 0), ((8, 8), 4, 4), ((8, 8), 4, -1), ((8, 8), 4, 1, 0)],
)
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(ContractError):
        grid(*arguments)


def test_unaligned_sizes_are_refused():
    with pytest.raises(ContractError):
        grid((30, 31), 16, 4, align=2)
    with pytest.raises(ContractError):
        grid((32, 32), 15, 4, align=2)


def test_a_window_between_two_pixels_is_refused():
    with pytest.raises(ContractError):
        Tile(1, 0, 4, 4).scaled(Fraction(1, 2))


def test_values_of_another_size_are_refused():
    tiles = grid((8, 20), 8, 4)
    with pytest.raises(ContractError):
        blend(tiles, [torch.zeros(1, 1, 8, 16) for _ in tiles], (8, 20), 4)
    mixed = [torch.zeros(1, 1, 8 * (1 + i % 2), 8 * (1 + i % 2)) for i in range(len(tiles))]
    with pytest.raises(ContractError):
        blend(tiles, mixed, (8, 20), 4)


def test_a_missing_value_is_refused():
    tiles = grid((8, 20), 8, 4)
    with pytest.raises(ContractError):
        blend(tiles, [torch.zeros(1, 1, 8, 8)], (8, 20), 4)


def test_a_gap_is_refused():
    tiles = [Tile(0, 0, 4, 4), Tile(0, 6, 4, 4)]
    with pytest.raises(ContractError):
        blend(tiles, [torch.zeros(1, 1, 4, 4)] * 2, (4, 10), 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 4), st.integers(0, 9))
def test_cores_cover_every_pixel_once_and_lie_in_their_windows(height, width, blocks, context):
    align = 4
    covered = torch.zeros(height, width)
    for part in cores((height, width), blocks * align, context, align):
        part.inner.crop(covered).add_(1)
        inner, outer = part.inner, part.outer
        assert max(inner.height, inner.width) <= blocks * align
        assert inner.top % align == outer.top % align == inner.left % align == 0
        assert outer.top in (0, inner.top - -(-context // align) * align)
        assert outer.top + outer.height >= min(inner.top + inner.height + context, height)
        assert outer.left + outer.width >= min(inner.left + inner.width + context, width)
    assert bool((covered == 1).all())


@pytest.mark.parametrize("size", [(7, 9), (16, 16), (40, 33), (17, 70)])
def test_cores_with_enough_context_equal_the_whole_bit_for_bit(size):
    x = noise(1, 2, *size)

    def spread(t: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(t, 7, 1, 3)  # looks three pixels far

    assert torch.equal(map_cores(x, spread, cores(size, 16, 3)), spread(x))
    if max(size) > 16:
        assert not torch.equal(map_cores(x, spread, cores(size, 16, 2)), spread(x))


def test_closer_cores_see_less_and_cut_the_same():
    x = torch.arange(40.0 * 48).view(1, 1, 40, 48)
    for part in cores((40, 48), 16, 10, 2):
        closer = part.closer(3)
        assert closer.inner == part.inner
        assert torch.equal(
            closer.outer.within(part.outer).crop(part.outer.crop(x)), closer.outer.crop(x)
        )
        assert torch.equal(closer.cut(closer.outer.crop(x)), part.inner.crop(x))
        assert part.closer(99) == part
        assert closer.outer.height <= 16 + 2 * 3


@pytest.mark.parametrize("ratio", [2, 0.5])
def test_cores_are_computed_in_the_scale_of_the_function(ratio):
    x = noise(1, 3, 40, 48)

    def resized(t: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(t, scale_factor=ratio, mode="bilinear")

    parts = cores((40, 48), 16, 2, align=2)
    assert torch.allclose(map_cores(x, resized, parts), resized(x), atol=1e-6)


@pytest.mark.parametrize(
    ("size", "tile", "context", "align"),
    [((0, 4), 4, 0, 1), ((4, 4), 0, 0, 1), ((4, 4), 6, 0, 4), ((4, 4), 4, -1, 1)],
)
def test_impossible_cores_are_refused(size, tile, context, align):
    with pytest.raises(ContractError):
        cores(size, tile, context, align)
