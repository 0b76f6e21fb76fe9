"""Spectra by direction, and the filters that are made of their figures."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.correction.spectrum import (
    ANGLES,
    FIGURES,
    GAINS,
    RADII,
    REACH,
    SIDE,
    STATISTICS,
    kernel_of,
    responses,
    statistics,
    windows_of,
)
from autodir.imaging.convolution import convolve


def noise(*size: int, seed: int = 0) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed))


def motion(length: int, *, level: bool) -> Tensor:
    """The kernel of a straight motion, (1, 33, 33)."""
    kernel = torch.zeros(1, 33, 33)
    kernel[0, 16, 16 - length // 2 : 17 + length // 2] = 1 / (length // 2 * 2 + 1)
    return kernel if level else kernel.transpose(1, 2)


def by_angle(photo: Tensor) -> Tensor:
    """(8, FIGURES) of one photo."""
    return statistics(photo)[0, : ANGLES * FIGURES].unflatten(0, (ANGLES, FIGURES))


@pytest.mark.parametrize(
    ("size", "count"), [((1, 1), 1), ((100, 300), 2), ((256, 256), 1), ((600, 2000), 9)]
)
def test_windows_cover_a_photo_of_any_size(size: tuple[int, int], count: int) -> None:
    photo = noise(2, 3, *size)
    windows = windows_of(photo)
    assert windows.shape == (2, count, 3, SIDE, SIDE)
    if min(size) >= SIDE:
        assert torch.equal(windows[:, 0], photo[..., :SIDE, :SIDE])
        assert torch.equal(windows[:, -1], photo[..., -SIDE:, -SIDE:])
    assert bool(torch.isfinite(statistics(photo)).all())


def test_photos_of_a_batch_do_not_know_of_each_other() -> None:
    photos = noise(3, 3, 300, 280)
    noted = statistics(photos)
    assert noted.shape == (3, STATISTICS)
    for index in range(3):
        torch.testing.assert_close(
            statistics(photos[index : index + 1])[0], noted[index], atol=1e-3, rtol=1e-3
        )


def test_motion_takes_the_power_along_itself() -> None:
    sharp = noise(1, 3, SIDE, SIDE)
    lost = by_angle(sharp) - by_angle(convolve(sharp, motion(15, level=True)))
    # Direction 0 is the frequency along a row, direction 4 the one along a column.
    high = RADII.index(0.27)
    assert float(lost[0, high]) > float(lost[4, high]) + 2
    assert int(lost[:, high].argmax()) == 0


def test_a_photo_on_its_side_has_its_directions_exchanged() -> None:
    photo = convolve(noise(1, 3, SIDE, SIDE), motion(9, level=False))
    noted, turned = by_angle(photo), by_angle(photo.transpose(2, 3))
    spectrum = slice(0, 2 * len(RADII))
    for there, here in ((0, 4), (2, 2), (1, 3)):
        torch.testing.assert_close(turned[there, spectrum], noted[here, spectrum], atol=0.3, rtol=0)
    assert float((turned[0, spectrum] - noted[0, spectrum]).abs().max()) > 2


def test_the_cepstrum_shows_the_length_of_a_motion() -> None:
    sharp = noise(1, 3, SIDE, SIDE)
    gone = by_angle(convolve(sharp, motion(15, level=True))) - by_angle(sharp)
    cepstrum = gone[0, 2 * len(RADII) :].view(-1, 2)[:, 0]  # along the row
    assert int(cepstrum.argmin()) == 8  # at 15 pixels


def test_no_gain_is_no_filter() -> None:
    kernel = kernel_of(torch.zeros(1, GAINS))
    photo = noise(1, 3, 70, 90)
    torch.testing.assert_close(convolve(photo, kernel), photo, atol=1e-5, rtol=0)


def test_filters_are_even_and_leave_the_mean() -> None:
    kernels = kernel_of(noise(4, GAINS, seed=2) - 0.3)
    assert kernels.shape == (4, 2 * REACH + 1, 2 * REACH + 1)
    torch.testing.assert_close(kernels, kernels.flip(1, 2), atol=1e-6, rtol=0)
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(4), atol=1e-4, rtol=0)


def test_a_gain_raises_its_frequency_in_its_direction() -> None:
    place = torch.arange(512.0)
    wave = 0.5 + 0.1 * torch.cos(2 * torch.pi * 0.2 * place)
    along, across = wave.expand(1, 1, 512, 512), wave[:, None].expand(1, 1, 512, 512)
    raised = torch.zeros(1, GAINS)
    raised[0, RADII.index(0.2) * ANGLES] = 1.0
    kernel = kernel_of(raised)
    for photo, factor in ((along, 2.0), (across, 1.0)):
        result = convolve(photo, kernel)
        assert float(result.std() / photo.std()) == pytest.approx(factor, abs=0.1)


def test_responses_are_the_spectra_of_the_filters() -> None:
    raised = noise(1, GAINS, seed=4) - 0.5
    kernel = F.pad(kernel_of(raised)[0], (0, SIDE - 2 * REACH - 1) * 2)
    spectrum = torch.fft.rfft2(kernel.roll((-REACH, -REACH), (0, 1)))
    expected = 1 + raised[0] @ responses()
    torch.testing.assert_close(spectrum.real.flatten(), expected, atol=1e-4, rtol=0)
    assert float(spectrum.imag.abs().max()) < 1e-4
