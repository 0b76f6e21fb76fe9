"""Resizing and padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autodir.errors import ContractError
from autodir.imaging.resize import enlarge, pad_to_multiple, resize


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 7, 8, 16, 64]))
def test_undo_gives_back_every_size_bit_for_bit(height, width, multiple):
    x = noise(1, 3, height, width)
    padded, undo = pad_to_multiple(x, multiple)
    assert padded.shape[-2] % multiple == 0 == padded.shape[-1] % multiple
    assert padded.shape[-2] - height < multiple
    assert padded.shape[-1] - width < multiple
    assert torch.equal(undo(padded), x)


def test_padding_mirrors_without_repeating_the_border():
    x = torch.arange(4.0).view(1, 1, 1, 4)
    padded, _ = pad_to_multiple(x, 9)
    assert padded[0, 0, 0].tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]


def test_a_single_pixel_is_replicated():
    padded, _ = pad_to_multiple(torch.full((1, 3, 1, 1), 0.3), 8)
    assert torch.equal(padded, torch.full((1, 3, 8, 8), 0.3))


def test_nothing_is_copied_where_nothing_is_missing():
    x = noise(1, 3, 8, 16)
    assert pad_to_multiple(x, 8)[0] is x


def test_undo_crops_enlarged_images_too():
    padded, undo = pad_to_multiple(noise(1, 3, 5, 6), 8)
    assert undo(enlarge(padded, 2), scale=2).shape == (1, 3, 10, 12)


def test_undo_refuses_what_is_too_small():
    _, undo = pad_to_multiple(noise(1, 3, 5, 6), 8)
    with pytest.raises(ContractError):
        undo(noise(1, 3, 4, 6))


def test_resize_to_the_same_size_is_the_identity():
    x = noise(2, 3, 5, 7)
    assert resize(x, (5, 7)) is x


def test_resize_stays_within_the_range_at_hard_edges():
    x = torch.zeros(1, 3, 8, 8)
    x[..., 4:] = 1
    y = resize(x, (32, 32))
    assert y.min() == 0
    assert y.max() == 1


def test_shrinking_averages_a_checkerboard_to_gray():
    board = (torch.arange(64).view(-1, 1) + torch.arange(64)).remainder(2).float()
    small = resize(board.expand(1, 3, -1, -1), (8, 8))
    assert (small[..., 2:-2, 2:-2] - 0.5).abs().max() < 0.02


def test_resize_keeps_a_constant_from_one_pixel_up():
    y = resize(torch.full((1, 3, 1, 1), 0.25), (3, 5))
    assert torch.allclose(y, torch.full((1, 3, 3, 5), 0.25))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_enlarge_multiplies_both_sides(scale):
    assert enlarge(noise(1, 3, 3, 5), scale).shape == (1, 3, 3 * scale, 5 * scale)


def test_enlarge_refuses_other_scales():
    with pytest.raises(ContractError):
        enlarge(noise(1, 3, 3, 5), 3)


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_resize_refuses_empty_sizes(size):
    with pytest.raises(ContractError):
        resize(noise(1, 3, 4, 4), size)


@pytest.mark.parametrize(
    "x", [torch.zeros(3, 4, 4), torch.zeros(1, 3, 4, 4).byte(), torch.zeros(1, 3, 0, 4)]
)
def test_wrong_tensors_are_refused(x):
    with pytest.raises(ContractError):
        resize(x, (2, 2))
    with pytest.raises(ContractError):
        pad_to_multiple(x, 2)


def test_padding_to_a_multiple_of_nothing_is_refused():
    with pytest.raises(ContractError):
        pad_to_multiple(noise(1, 3, 4, 4), 0)
