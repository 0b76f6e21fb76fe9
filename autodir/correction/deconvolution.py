"""Blind deconvolution: the kernel of a photo's blur, found from its edges and undone by a filter.

Apart from `correction.sharpening`, whose filter is even and learnt from the spectrum: which way a
camera moved, and how it came back, stands in the phase alone, and nothing here is learnt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.correction.spectrum import fading_of
from autodir.imaging.convolution import STRIP, convolve_in_strips, fast_length
from autodir.imaging.neighborhoods import NORMAL_MEDIAN, connected_parts, diagonal_details
from autodir.records import check_image

REACH = 20
"""Pixels to each side within which a kernel is looked for."""
LEAST_REACH = 2
"""Pixels that a kernel must reach to count as blur: where a scene tells none, a point is found."""
WINDOW = 282
"""Largest side in pixels of the window that it is looked for in; with its margins it has 324, for
which a Fourier transform is fast."""
FILTER_REACH = 96
"""Pixels that the filter which undoes a kernel looks away."""
SPARSER = 1.0
"""Ratio of l1 to l2 norm of the gradients, after over before, up to which an answer is believed: a
wrong kernel rings, and ringing is not sparse (Krishnan, Tay and Fergus, CVPR 2011)."""

_COARSEST = 5
_ROUNDS = 4
_SPARSITY = 1e-2
_LEAST_SPARSITY = 1e-4
_SPARSITY_FALLS = 1.1
_COUPLED, _COUPLING_GROWS = 1e3, 3.0
_BEGINNINGS = ((1, 0.05), (0, 0.05), (1, 0.2))
"""Of each search: the axis of the motion that it begins with, and what weights of the kernel cost.
Where it ends depends on both. 120 held-out photos, shaken or moved, gain 1.28 dB by one search, and
23 of them lose; with the best of these three it is 1.75 dB and 15."""
_DECIDED = 1
"""The scale behind which the best search goes on alone: the last one takes half of the time."""
_JUDGED, _STEP_COSTS, _NO_STEP = 3e-4, 3e-3, 1e-6
"""The sparsity that an answer is judged with, what each of its steps costs then, and the square up
to which there is none."""
_FAINTEST = 0.1
"""Of the largest weight of a kernel: what is fainter is noise."""
_SMALLEST_PART = 0.1
"""Of the sum of a kernel: what hangs together and is less is noise."""
_CONTRAST, _MOST_AMPLIFIED = 0.2, 8.0
_SPECTRUM_SIDE = 512
_FLAT = 0.02
_STEEPEST = 0.1
"""What a window gains by an edge, at most: one lamp at night tells no kernel."""
_NOISE_WEIGHT, _PENALTIES = 4.0, (4e-3, 4e-2)
_TINY = 1e-6


def deconvolved(photo: Tensor, otherwise: Tensor) -> Tensor:
    """Undo the blur of one photo, where one kernel explains it.

    Args:
        photo: (1, 3, H, W) in [0, 1].
        otherwise: the answer, the same shape, where no kernel is believed, and near the borders,
            beyond which the filter would have to know the scene.

    Returns:
        (1, 3, H, W) in [0, 1], float32.

    Raises:
        ContractError: the photo is no image.
    """
    check_image(photo, "photo")
    photo = photo.float()
    window = sharpest_window(photo)
    kernel = find_kernel(window)
    if kernel is None or reach_of(kernel) < LEAST_REACH:
        return otherwise
    undone = inverse_filter(kernel, penalty_of(window))
    if sparsity(convolve_in_strips(window, undone)) > SPARSER * sparsity(window):
        return otherwise
    result = convolve_in_strips(photo, undone).clamp_(0, 1)
    for rows, trusted in _inside(photo.shape[-2], photo.shape[-1], reach_of(kernel)):
        torch.lerp(
            otherwise[..., rows, :].float(), result[..., rows, :], trusted.to(photo),
            out=result[..., rows, :],
        )  # fmt: skip
    return result


def sharpest_window(photo: Tensor, side: int = WINDOW) -> Tensor:
    """Where a photo (1, C, H, W) has most edges, in gray: (1, 1, h, w), sides up to ``side``."""
    height, width = photo.shape[-2:]
    rows, columns = min(side, height), min(side, width)
    top = left = 0
    if (rows, columns) != (height, width):
        small = F.avg_pool2d(photo, 4, ceil_mode=True).mean(1, keepdim=True)  # edges, and not noise
        steep = torch.zeros_like(small)
        down, across = _steps(small)
        steep[..., 1:, 1:] = (down.abs() + across.abs()).clamp_max(_STEEPEST)
        found = F.avg_pool2d(steep, (max(1, rows // 4), max(1, columns // 4)), stride=8)
        place = int(found.argmax())
        top = min(place // found.shape[-1] * 32, height - rows)
        left = min(place % found.shape[-1] * 32, width - columns)
    return photo[..., top : top + rows, left : left + columns].mean(1, keepdim=True)


def find_kernel(gray: Tensor, reach: int = REACH) -> Tensor | None:
    """The kernel that made a photo from one of few and strong edges.

    From coarse to fine, and on each scale in turns: the sharp image is the one of fewest gradients
    that the kernel makes the photo of (Xu, Zheng and Jia, CVPR 2013, by half-quadratic splitting),
    the kernel the one that makes the photo's gradients of that image's, by least squares. That ends
    in one of many places, so that several searches are begun, and the one that explains the photo
    best is ended.

    Args:
        gray: (1, 1, H, W) in [0, 1].
        reach: pixels to each side.

    Returns:
        (2 · reach + 1, 2 · reach + 1), non-negative, of sum 1, its centroid in the middle; None for
        a photo that is too small or flat to tell.
    """
    if min(gray.shape[-2:]) < 3 * reach or float(gray.std()) < _TINY:
        return None
    seen = (gray - gray.mean()) * min(_MOST_AMPLIFIED, _CONTRAST / float(gray.std())) + 0.5
    scales = math.ceil(2 * math.log2(2 * reach / _COARSEST))
    weight, kernels = _SPARSITY, list[Tensor]()
    penalties = [penalty for _, penalty in _BEGINNINGS]
    for scale in range(scales, -1, -1):
        shrink = 2 ** (-scale / 2)
        small = seen if scale == 0 else F.interpolate(
            seen, scale_factor=shrink, mode="bicubic", antialias=True, align_corners=False
        )  # fmt: skip
        own = max(2, round(reach * shrink))
        kernels = [_resized(kernel, own) for kernel in kernels] or [
            _first(own, axis, gray) for axis, _ in _BEGINNINGS
        ]
        wrapped = _wrapped(small, 2 * own + 2)
        photo = (small.shape[-2], small.shape[-1])
        for _ in range(_ROUNDS):
            for search, kernel in enumerate(kernels):
                sharp = _sparse(wrapped, kernel, weight)
                kernels[search] = _cleaned(_fitted(sharp, wrapped, penalties[search], own, photo))
            weight = max(weight / _SPARSITY_FALLS, _LEAST_SPARSITY)
        kernels = [_centered(kernel) for kernel in kernels]
        if scale == min(_DECIDED, scales):
            costs = [_cost(wrapped, kernel) for kernel in kernels]
            best = costs.index(min(costs))
            kernels, penalties = [kernels[best]], [penalties[best]]
    return kernels[0]


def _cost(seen: Tensor, kernel: Tensor) -> float:
    """How badly a kernel and an image of few gradients explain a photo, both together.

    The squares that are left plus `_STEP_COSTS` for each step. Of two kernels it says more than how
    sparse the answer's gradients are (`sparsity`): of 62 held-out photos, shaken or moved, that
    fare differently with two searches it prefers the better in 42.
    """
    size = (seen.shape[-2], seen.shape[-1])
    sharp = _sparse(seen, kernel, _JUDGED)
    made = torch.fft.irfft2(torch.fft.rfft2(sharp) * _spectrum(kernel, size), s=size)
    down, across = sharp.roll(-1, -2) - sharp, sharp.roll(-1, -1) - sharp
    steps = (down.square() + across.square() > _NO_STEP).sum()
    return float((made - seen).square().sum() + _STEP_COSTS * steps)


def penalty_of(gray: Tensor) -> float:
    """How much the gradients of a result count against the noise that is raised with them."""
    noise = float(diagonal_details(gray).abs().median()) / NORMAL_MEDIAN
    return min(max(_NOISE_WEIGHT * noise, _PENALTIES[0]), _PENALTIES[1])


def inverse_filter(kernel: Tensor, penalty: float) -> Tensor:
    """The filter (193, 193) that undoes a kernel (k, k) as far as noise allows.

    Its spectrum is K* / (|K|² + penalty · (|D|² + 0.02)), D the differences of neighbors (Wiener
    with a prior on gradients), and moves by the centroid of the kernel, so that nothing moves in
    all; it leaves the mean.
    """
    size = (_SPECTRUM_SIDE, _SPECTRUM_SIDE)
    down, across = _centroid(kernel)
    phase = down * torch.fft.fftfreq(size[0], device=kernel.device)[:, None]
    phase = phase + across * torch.fft.rfftfreq(size[1], device=kernel.device)
    spectrum = _spectrum(kernel, size) * torch.exp(2j * math.pi * phase)
    steep = _differences(size, kernel.device)
    inverse = spectrum.conj() / (spectrum.abs().square() + penalty * (steep + _FLAT))
    middle = torch.fft.irfft2(inverse, s=size).roll((FILTER_REACH, FILTER_REACH), (0, 1))
    cut = middle[: 2 * FILTER_REACH + 1, : 2 * FILTER_REACH + 1]
    faded: Tensor = cut * fading_of(FILTER_REACH).to(cut)
    return faded / faded.sum()


def sparsity(photo: Tensor) -> float:
    """l1 over l2 norm of the gradients of a photo (1, C, H, W), for each pixel: at most 1."""
    down, across = _steps(photo.mean(1, keepdim=True))
    steep = (down.square() + across.square()).sqrt()
    return float(steep.mean() / steep.square().mean().sqrt().clamp_min(_TINY))


def reach_of(kernel: Tensor) -> int:
    """Pixels from the middle of a kernel (k, k) to its farthest weight."""
    rows, columns = kernel.nonzero(as_tuple=True)
    middle = kernel.shape[-1] // 2
    return int(torch.stack([rows - middle, columns - middle]).abs().max())


def _steps(gray: Tensor) -> tuple[Tensor, Tensor]:
    """What each pixel of (1, 1, H, W) is more than the ones above and to the left of it."""
    inner = gray[..., 1:, 1:]
    return inner - gray[..., :-1, 1:], inner - gray[..., 1:, :-1]


def _first(reach: int, axis: int, like: Tensor) -> Tensor:
    """Where a search begins: a short motion along an axis, 0 for down and 1 for across."""
    kernel = torch.zeros(2 * reach + 1, 2 * reach + 1, device=like.device)
    kernel.select(1 - axis, reach)[reach - 1 : reach + 2] = 1 / 3
    return kernel


def _resized(kernel: Tensor, reach: int) -> Tensor:
    size = (2 * reach + 1, 2 * reach + 1)
    larger = F.interpolate(kernel[None, None], size, mode="bicubic", align_corners=False)
    larger = larger[0, 0].clamp_min(0)
    return larger / larger.sum()


def _wrapped(image: Tensor, margin: int) -> Tensor:
    """An image (1, 1, H, W) with margins below and to the right that lead over to its start.

    A Fourier transform takes an image for one that repeats: a step there would be an edge. The
    margins have ``margin`` pixels, and more where the transform is fast then.
    """
    height, width = image.shape[-2:]
    below, right = (fast_length(side + margin) - side for side in (height, width))
    wide = F.pad(image, (0, right, 0, below), mode="replicate")
    wide[..., :height, width:] = torch.lerp(image[..., -1:], image[..., :1], _ramp(right, image))
    wide[..., height:, :] = torch.lerp(
        wide[..., height - 1 : height, :], wide[..., :1, :], _ramp(below, image)[:, None]
    )
    return wide


def _ramp(length: int, like: Tensor) -> Tensor:
    """From 0 to 1, level at both ends, (length,)."""
    ramp = torch.arange(1, length + 1, device=like.device) / (length + 1)
    return ramp * ramp * (3 - 2 * ramp)


def _spectrum(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Spectrum of a kernel whose middle is at the corner, (h, w // 2 + 1)."""
    placed = F.pad(kernel, (0, size[1] - kernel.shape[1], 0, size[0] - kernel.shape[0]))
    middle = kernel.shape[0] // 2
    spectrum: Tensor = torch.fft.rfft2(placed.roll((-middle, -middle), (0, 1)))
    return spectrum


def _differences(size: tuple[int, int], device: torch.device) -> Tensor:
    """Power of the differences of neighbors, down and across together, by frequency."""
    down = 2 - 2 * torch.cos(2 * math.pi * torch.fft.fftfreq(size[0], device=device))[:, None]
    across = 2 - 2 * torch.cos(2 * math.pi * torch.fft.rfftfreq(size[1], device=device))[None]
    return down + across


def _sparse(blurred: Tensor, kernel: Tensor, weight: float) -> Tensor:
    """The image of few gradients that the kernel makes ``blurred`` of, (1, 1, h, w)."""
    size = (blurred.shape[-2], blurred.shape[-1])
    spectrum, steep = _spectrum(kernel, size), _differences(size, kernel.device)
    seen, power = torch.fft.rfft2(blurred) * spectrum.conj(), spectrum.abs().square()
    sharp, coupling = blurred, 2 * weight
    while coupling < _COUPLED:
        down, across = sharp.roll(-1, -2) - sharp, sharp.roll(-1, -1) - sharp
        kept = (down.square() + across.square() >= weight / coupling).to(sharp)
        down, across = down * kept, across * kept
        back = (down.roll(1, -2) - down) + (across.roll(1, -1) - across)
        total = (seen + coupling * torch.fft.rfft2(back)) / (power + coupling * steep + _TINY)
        sharp, coupling = torch.fft.irfft2(total, s=size), coupling * _COUPLING_GROWS
    return sharp


def _fitted(
    sharp: Tensor, blurred: Tensor, penalty: float, reach: int, photo: tuple[int, int]
) -> Tensor:
    """The kernel that makes the gradients of ``blurred`` of those of ``sharp``, best."""
    size = (blurred.shape[-2], blurred.shape[-1])
    common, power = torch.zeros(()), torch.zeros(())
    for axis in (-2, -1):
        own, seen = (image.roll(-1, axis) - image for image in (sharp, blurred))
        for image in (own, seen):  # the margins are no part of the photo
            image[..., photo[0] :, :] = 0
            image[..., photo[1] :] = 0
        spectrum = torch.fft.rfft2(own)
        common = common + spectrum.conj() * torch.fft.rfft2(seen)
        power = power + spectrum.abs().square()
    found: Tensor = torch.fft.irfft2(common / (power + penalty * power.mean() + _TINY), s=size)
    side = 2 * reach + 1
    return found[0, 0].roll((reach, reach), (0, 1))[:side, :side]


def _cleaned(kernel: Tensor) -> Tensor:
    """Non-negative, without faint weights and small parts, of sum 1."""
    kept = torch.where(kernel > _FAINTEST * kernel.max(), kernel, 0).clamp_min(0)
    if float(kept.sum()) <= 0:
        return _first(kernel.shape[0] // 2, 1, kernel)
    parts = connected_parts(kept > 0).flatten()
    mass = kernel.new_zeros(int(parts.max()) + 1).index_add_(0, parts, kept.flatten())
    large = mass >= min(_SMALLEST_PART * float(kept.sum()), float(mass.max()))
    kept = kept * large[parts].view_as(kept)
    return kept / kept.sum()


def _centered(kernel: Tensor) -> Tensor:
    """Moved by whole pixels so that its centroid is in the middle: nothing is to move."""
    down, across = _centroid(kernel)
    return kernel.roll((-round(down), -round(across)), (0, 1))


def _centroid(kernel: Tensor) -> tuple[float, float]:
    """Pixels from the middle of a kernel of sum 1 down and across to its centroid."""
    middle = kernel.shape[0] // 2
    axis = torch.arange(-middle, middle + 1, device=kernel.device).float()
    return float((kernel.sum(1) * axis).sum()), float((kernel.sum(0) * axis).sum())


def _inside(height: int, width: int, reach: int) -> Iterator[tuple[slice, Tensor]]:
    """Strips of a photo and how far inside each pixel is: 0 at the borders, 1 from twice the reach.

    Strips, since a photo of 24 megapixels is hard enough to hold.
    """
    down, across = (_inside_of(length, reach) for length in (height, width))
    step = max(1, STRIP // width)
    for top in range(0, height, step):
        yield slice(top, top + step), down[top : top + step, None] * across


def _inside_of(length: int, reach: int) -> Tensor:
    """The same along one side, (length,)."""
    place = torch.arange(length).float()
    return ((torch.minimum(place, length - 1 - place) - reach) / reach).clamp(0, 1)
