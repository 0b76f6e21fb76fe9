"""Blind deconvolution: which kernels are found, how they are undone, and when none is believed."""

import pytest
import torch
from skimage import data
from torch import Tensor

from autodir.correction import deconvolution
from autodir.correction.deconvolution import (
    FILTER_REACH,
    REACH,
    deconvolved,
    find_kernel,
    inverse_filter,
    penalty_of,
    reach_of,
    sharpest_window,
    sparsity,
)
from autodir.errors import ContractError
from autodir.imaging import convolution
from autodir.imaging.convolution import convolve

SIDE = 160


def scene(height: int = SIDE, width: int = SIDE, count: int = 60) -> Tensor:
    """Overlapping rectangles, (1, 3, height, width): few and strong edges."""
    generator = torch.Generator().manual_seed(3)
    image = torch.full((1, 3, height, width), 0.5)
    for _ in range(count):
        top, left = (
            int(torch.randint(side - 8, (), generator=generator)) for side in (height, width)
        )
        rows, columns = torch.randint(8, 50, (2,), generator=generator).tolist()
        color = torch.rand(3, 1, 1, generator=generator)
        image[0, :, top : top + rows, left : left + columns] = 0.1 + 0.8 * color
    return image


def corner() -> Tensor:
    """A hand that moved to the right, and then down: not even, so that its phase matters."""
    kernel = torch.zeros(2 * REACH + 1, 2 * REACH + 1)
    kernel[REACH - 3, REACH - 6 : REACH + 3] = 1
    kernel[REACH - 3 : REACH + 6, REACH + 2] = 1
    return kernel / kernel.sum()


def decibels(image: Tensor, truth: Tensor) -> float:
    margin = 2 * REACH
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    return float(-10 * (image[inner] - truth[inner]).square().mean().log10())


def alike(one: Tensor, other: Tensor) -> float:
    """The largest correlation of two kernels, wherever they lie."""
    shifts = [
        (one * other.roll((down, across), (0, 1))).sum()
        for down in range(-3, 4) for across in range(-3, 4)
    ]  # fmt: skip
    return float(max(shifts) / (one.norm() * other.norm()))


def test_the_kernel_of_a_photo_is_found() -> None:
    blurred = convolve(scene(), corner()[None])
    kernel = find_kernel(blurred.mean(1, keepdim=True))
    assert kernel is not None
    assert kernel.shape == (2 * REACH + 1, 2 * REACH + 1)
    assert float(kernel.min()) >= 0
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-4)
    assert alike(kernel, corner()) > 0.7
    axis = torch.arange(-REACH, REACH + 1).float()
    assert abs(float((kernel.sum(0) * axis).sum())) <= 0.51
    assert abs(float((kernel.sum(1) * axis).sum())) <= 0.51


def test_the_search_that_explains_a_photo_best_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    gray = convolve(scene(), corner()[None]).mean(1, keepdim=True)
    every = deconvolution._BEGINNINGS
    alone = []
    for beginning in every:
        monkeypatch.setattr(deconvolution, "_BEGINNINGS", (beginning,))
        kernel = find_kernel(gray)
        assert kernel is not None
        alone.append(kernel)
    assert not torch.equal(alone[0], alone[-1])
    best = []
    for order in (every, every[::-1]):
        monkeypatch.setattr(deconvolution, "_BEGINNINGS", order)
        kernel = find_kernel(gray)
        assert kernel is not None
        best.append(kernel)
    assert torch.equal(best[0], best[1])
    assert any(torch.equal(best[0], one) for one in alone)


def test_the_true_kernel_costs_less_than_another() -> None:
    gray = convolve(scene(), corner()[None]).mean(1, keepdim=True)
    seen = deconvolution._wrapped(gray, 2 * REACH + 2)
    true, turned = (deconvolution._cost(seen, one) for one in (corner(), corner().flip(0)))
    assert true < turned


def test_a_kernel_is_undone() -> None:
    photo = torch.from_numpy(data.astronaut()[100:324, 100:324])
    truth = photo.permute(2, 0, 1)[None] / 255
    blurred = convolve(truth, corner()[None]).clamp(0, 1)
    result = deconvolved(blurred, blurred)
    best = max(
        decibels(result.roll((down, across), (2, 3)), truth)
        for down in (-1, 0, 1) for across in (-1, 0, 1)
    )  # fmt: skip
    assert best > decibels(blurred, truth) + 4


def test_dim_photos_have_kernels_too() -> None:
    dim = 0.04 * convolve(scene(), corner()[None])
    kernel = find_kernel(dim.mean(1, keepdim=True))
    assert kernel is not None
    assert alike(kernel, corner()) > 0.7


def test_what_rings_is_not_believed() -> None:
    noise = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    otherwise = torch.zeros_like(noise)
    assert deconvolved(noise, otherwise) is otherwise


@pytest.mark.parametrize("size", [(1, 1), (40, 300), (90, 59)])
def test_small_photos_tell_no_kernel(size: tuple[int, int]) -> None:
    photo, otherwise = torch.rand(1, 3, *size), torch.zeros(1, 3, *size)
    assert deconvolved(photo, otherwise) is otherwise


def test_flat_photos_tell_no_kernel() -> None:
    assert find_kernel(torch.full((1, 1, 90, 90), 0.3)) is None


def test_only_photos_are_taken() -> None:
    with pytest.raises(ContractError):
        deconvolved(torch.zeros(1, 1, 90, 90), torch.zeros(1, 1, 90, 90))


@pytest.mark.parametrize("size", [(224, 224), (171, 397)])
def test_borders_keep_the_other_answer(size: tuple[int, int]) -> None:
    photo = torch.from_numpy(data.astronaut()[: size[0], 100 : 100 + size[1]])
    blurred = convolve(photo.permute(2, 0, 1)[None] / 255, corner()[None]).clamp(0, 1)
    before, otherwise = blurred.clone(), torch.full_like(blurred, 0.25)
    result = deconvolved(blurred, otherwise)
    assert torch.equal(blurred, before)
    assert bool((otherwise == 0.25).all())
    assert result.shape == blurred.shape
    torch.testing.assert_close(result[..., 0], torch.full_like(result[..., 0], 0.25))
    torch.testing.assert_close(result[..., -1, :], torch.full_like(result[..., -1, :], 0.25))
    inner = (..., slice(60, -60), slice(60, -60))
    assert float((result[inner] - 0.25).abs().mean()) > 0.05
    assert torch.equal(result, deconvolved(blurred, otherwise))


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = torch.from_numpy(data.astronaut()[:200, 100:300]).permute(2, 0, 1)[None] / 255
    blurred = convolve(photo, corner()[None]).clamp(0, 1)
    whole = deconvolved(blurred, blurred)
    monkeypatch.setattr(deconvolution, "STRIP", 7 * 200)
    monkeypatch.setattr(convolution, "STRIP", 7 * 200)
    torch.testing.assert_close(deconvolved(blurred, blurred), whole, atol=1e-4, rtol=0)


def test_the_window_lies_where_the_edges_are() -> None:
    photo = torch.full((1, 1, 400, 600), 0.5)
    photo[..., 200:400, 400:600] = scene(200, 200).mean(1, keepdim=True)
    window = sharpest_window(photo, 200)
    assert window.shape == (1, 1, 200, 200)
    assert float(window.std()) > 0.8 * float(photo[..., 200:, 400:].std())
    assert torch.equal(sharpest_window(photo, 600), photo)
    assert sharpest_window(photo, 500).shape == (1, 1, 400, 500)


def test_noise_raises_the_penalty() -> None:
    smooth = scene().mean(1, keepdim=True)
    grain = torch.randn(smooth.shape, generator=torch.Generator().manual_seed(1))
    penalties = [penalty_of(smooth + deviation * grain) for deviation in (0, 0.003, 0.006, 0.1)]
    assert penalties == sorted(set(penalties))
    assert penalties[0] == 4e-3
    assert penalties[-1] == 4e-2


def test_a_point_needs_hardly_a_filter() -> None:
    point = torch.zeros(5, 5)
    point[2, 2] = 1
    inverse = inverse_filter(point, 1e-4)
    assert inverse.shape == (2 * FILTER_REACH + 1, 2 * FILTER_REACH + 1)
    expected = torch.zeros_like(inverse)
    expected[FILTER_REACH, FILTER_REACH] = 1
    torch.testing.assert_close(inverse, expected, atol=1e-3, rtol=0)


def test_filters_move_nothing() -> None:
    beside = torch.zeros(5, 5)
    beside[2, 3] = beside[3, 3] = 0.5
    across = torch.zeros(5, 5)
    across[1, 2] = across[2, 2] = 0.5
    # Half a pixel remains of neither: where in its window a kernel lies makes no difference.
    torch.testing.assert_close(
        inverse_filter(beside, 1e-2), inverse_filter(across, 1e-2), atol=1e-5, rtol=0
    )


def test_filters_leave_the_mean_and_undo_the_kernel() -> None:
    motion = torch.zeros(9, 9)
    motion[4, 1:8] = 1 / 7
    inverse = inverse_filter(motion, 1e-3)
    assert float(inverse.sum()) == pytest.approx(1, abs=1e-4)
    blurred = convolve(scene(), motion[None])
    assert decibels(convolve(blurred, inverse[None]), scene()) > decibels(blurred, scene()) + 8


def test_edges_are_sparser_than_noise() -> None:
    noise = torch.rand(1, 3, 90, 90, generator=torch.Generator().manual_seed(0))
    assert sparsity(scene()) < 0.7 * sparsity(noise) <= 0.7
    assert sparsity(torch.zeros(1, 3, 8, 8)) == 0


def test_the_reach_of_a_kernel() -> None:
    assert reach_of(corner()) == 6


def test_a_point_is_no_blur(monkeypatch: pytest.MonkeyPatch) -> None:
    point = torch.zeros(2 * REACH + 1, 2 * REACH + 1)
    point[REACH, REACH : REACH + 2] = 0.5
    monkeypatch.setattr(deconvolution, "find_kernel", lambda window: point)
    otherwise = torch.zeros(1, 3, SIDE, SIDE)
    assert deconvolved(scene(), otherwise) is otherwise
    point[REACH, REACH + 2] = 0.5
    monkeypatch.setattr(deconvolution, "sparsity", lambda image: 0.5)
    assert deconvolved(scene(), otherwise) is not otherwise
