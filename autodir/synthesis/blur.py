"""Blur: camera shake along random paths, straight motion, defocus and Gaussian blur.

Apart because each is a kernel or two, and the kernels are worth testing by themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from autodir.imaging.color import linear_to_srgb, srgb_to_linear
from autodir.imaging.convolution import convolve
from autodir.synthesis.draws import Draws, Fixed, Parameters, column, mask
from autodir.synthesis.scene import distant_part

_KINDS = {"shake": 0.45, "linear": 0.2, "defocus": 0.2, "gaussian": 0.15}
_STEPS = 160
_UNEVEN = 0.35
"""Share of the photos with two parts that are blurred differently."""
_ELSEWHERE = 0.35
"""Of those, the share whose second part moves another way: things do, where a camera's own motion
only blurs what is near more than what is far."""
_PART = (0.3, 0.7)
"""Share of a photo that is blurred as its parameters say, where another part is not."""


def blur(
    clean: Tensor, severity: Tensor, generator: torch.Generator, fixed: Fixed | None = None
) -> tuple[Tensor, Parameters]:
    """Convolve with a motion, defocus or Gaussian kernel; half of the samples in linear light.

    In some, one part is blurred less, and where it moves by itself another way: what is farther
    from a moving camera, or in better focus, or stands still.

    Args:
        clean: (B, 3, H, W) in [0, 1], sRGB-encoded.
        severity: (B,) in [0, 1].
        generator: source of all randomness.
        fixed: ``kind`` (shake, linear, defocus, gaussian), ``length`` (px, of a path; implies
            linear), ``angle`` (degrees from the x axis, downwards; implies linear), ``radius`` (px;
            implies defocus), ``sigma`` (px; implies gaussian), ``linear_light`` (0 or 1),
            ``highlight`` (gain of near-white pixels before blurring in linear light), ``uneven``
            (0-1, how much less the second part is blurred; 0: all alike).

    Returns:
        Blurred image in [0, 1] and the parameters per sample.
    """
    draw = Draws(severity, generator, fixed)
    implied = {"length": "linear", "angle": "linear", "radius": "defocus", "sigma": "gaussian"}
    kinds = draw.kind(_KINDS, implied)
    shake, linear = mask(kinds, "shake"), mask(kinds, "linear")
    length = torch.where(shake, draw.logarithmic(10, 60), draw.logarithmic(5, 32))
    length = draw.named("length", length, shake | linear, (0, 400))
    angle = draw.named("angle", draw.uniform(-90, 90), linear | shake)
    radius = draw.named("radius", draw.logarithmic(2, 9), mask(kinds, "defocus"), (0, 100))
    sigma = draw.named("sigma", draw.logarithmic(1.0, 5), mask(kinds, "gaussian"), (0, 100))
    in_light = draw.named("linear_light", draw.happens(0.5).float(), None, (0, 1)) > 0
    highlight = torch.where(draw.happens(0.5), draw.uniform(1.5, 3), torch.ones(1))
    highlight = draw.named("highlight", highlight, in_light, (1, 16))
    steps = draw.rand(draw.count, _STEPS)
    traits = _Traits(
        wander=draw.log_uniform(0.6, 9), jumps=draw.uniform(0, 3), aspect=draw.uniform(0.6, 1),
        decay=draw.happens(0.4),
    )  # fmt: skip
    kernels = _kernels(kinds, traits, steps, length, angle, radius, sigma)
    less = torch.where(draw.happens(_UNEVEN), 1 - draw.log_uniform(0.12, 1.0), torch.zeros(1))
    less = draw.named("uneven", less, None, (0, 1))
    turn = torch.where(draw.happens(_ELSEWHERE), draw.uniform(-90, 90), torch.zeros(1))
    coarse, part = draw.rand(draw.count, 1, 4, 4), draw.uniform(*_PART)
    rows = in_light.nonzero().flatten().to(clean.device)
    source = clean.clone()
    if len(rows):
        light = srgb_to_linear(clean[rows])
        gain = 1 + (column(highlight[in_light], clean) - 1) * ((light - 0.9) / 0.1).clamp(0, 1)
        source[rows] = light * gain
    result = convolve(source, kernels.to(clean))
    uneven = (less > 0).nonzero().flatten()
    if len(uneven):
        rest = [value * (1 - less) for value in (length, radius, sigma)]
        others = _kernels(kinds, traits, steps, rest[0], angle + turn, *rest[1:])
        for row in uneven.tolist():
            far = distant_part(clean[row, None], coarse[row, None], float(part[row]))
            # What moves before the rest covers more of it than it would at rest.
            near = convolve(1 - far, kernels[row, None].to(clean)).clamp(0, 1)
            second = convolve(source[row, None], others[row, None].to(clean))
            result[row] = (near * result[row, None] + (1 - near) * second)[0]
    if len(rows):
        result[rows] = linear_to_srgb(result[rows].clamp(0, 1))
    return result.clamp(0, 1), draw.parameters()


def path_kernels(points: Tensor, weights: Tensor) -> Tensor:
    """Rasterize paths with bilinear splatting, centered on their centroid.

    Args:
        points: (B, N, 2) positions (y, x) in pixels.
        weights: (B, N) exposure of each point, non-negative, not all zero.

    Returns:
        (B, k, k) kernels that sum to 1, k odd.
    """
    weights = weights / weights.sum(1, keepdim=True)
    points = points - (points * weights[..., None]).sum(1, keepdim=True)
    reach = int(points.abs().max().item()) + 2 if points.numel() else 1
    size = 2 * reach + 1
    corner = points.floor()
    fraction = points - corner
    kernels = torch.zeros(len(points), size * size)
    for dy in (0, 1):
        for dx in (0, 1):
            vertical = fraction[..., 0] if dy else 1 - fraction[..., 0]
            horizontal = fraction[..., 1] if dx else 1 - fraction[..., 1]
            index = (corner[..., 0] + dy + reach) * size + corner[..., 1] + dx + reach
            kernels.scatter_add_(1, index.long(), weights * vertical * horizontal)
    return kernels.view(-1, size, size)


def shake_paths(
    length: Tensor, start: Tensor, wander: Tensor, jumps: Tensor, noise: Tensor
) -> Tensor:
    """Paths of a trembling hand: constant speed, a heading that wanders and sometimes turns back.

    Args:
        length: (B,) path length in pixels.
        start: (B,) first heading in radians.
        wander: (B,) deviation of the heading after the whole path, in radians.
        jumps: (B,) probability that a step turns around.
        noise: (B, N) uniform in [0, 1].

    Returns:
        (B, N + 1, 2) positions (y, x).
    """
    count = noise.shape[1]
    turn = (noise - 0.5) * math.sqrt(12 / count) * wander[:, None]
    # Tail values of the same draw mark the few abrupt reversals.
    turn = torch.where(noise < jumps[:, None] / count, math.pi + turn, turn)
    heading = start[:, None] + turn.cumsum(1)
    step = torch.stack([heading.sin(), heading.cos()], -1) * (length / count)[:, None, None]
    return torch.cat([torch.zeros_like(step[:, :1]), step.cumsum(1)], 1)


def disk_kernels(radius: Tensor) -> Tensor:
    """(B, k, k) anti-aliased disks that sum to 1: a lens out of focus."""
    distance = _grid(int(torch.ceil(radius.max()).item()) + 1).square().sum(0).sqrt()
    kernels = (radius.clamp_min(0.5)[:, None, None] + 0.5 - distance).clamp(0, 1)
    return kernels / kernels.sum((1, 2), keepdim=True)


def gaussian_kernels(sigma: Tensor, aspect: Tensor, angle: Tensor) -> Tensor:
    """(B, k, k) Gaussians: ``sigma`` along ``angle`` (radians), ``sigma · aspect`` across."""
    y, x = _grid(max(1, int(torch.ceil(3 * sigma.max()).item())))
    sin, cos = angle.sin()[:, None, None], angle.cos()[:, None, None]
    along, across = x * cos + y * sin, y * cos - x * sin
    deviation = sigma.clamp_min(1e-3)[:, None, None]
    exponent = along.square() + (across / aspect[:, None, None]).square()
    kernels = torch.exp(-0.5 * exponent / deviation.square())
    return kernels / kernels.sum((1, 2), keepdim=True)


@dataclass(frozen=True, kw_only=True)
class _Traits:
    """What paths and Gaussians have beside their size, (B,) each."""

    wander: Tensor
    jumps: Tensor
    aspect: Tensor
    decay: Tensor


def _kernels(
    kinds: list[str],
    traits: _Traits,
    steps: Tensor,
    length: Tensor,
    angle: Tensor,
    radius: Tensor,
    sigma: Tensor,
) -> Tensor:
    """One kernel per sample, all zero-padded to the largest."""
    radians = angle * (math.pi / 180)
    wander, jumps, decay = traits.wander, traits.jumps, traits.decay
    parts: list[tuple[Tensor, Tensor]] = []
    rows = mask(kinds, "shake").nonzero().flatten()
    if len(rows):
        paths = shake_paths(length[rows], radians[rows], wander[rows], jumps[rows], steps[rows])
        parts.append((rows, path_kernels(paths, torch.ones(paths.shape[:2]))))
    rows = mask(kinds, "linear").nonzero().flatten()
    if len(rows):
        place = torch.linspace(-0.5, 0.5, _STEPS)
        reach = place[None, :, None] * length[rows][:, None, None]
        direction = torch.stack([radians[rows].sin(), radians[rows].cos()], -1)
        # A shutter that closes while the camera slows down weighs one end more.
        fading = torch.exp(-2 * (place + 0.5).square())
        weights = torch.where(decay[rows][:, None], fading, torch.ones(1))
        parts.append((rows, path_kernels(reach * direction[:, None], weights)))
    rows = mask(kinds, "defocus").nonzero().flatten()
    if len(rows):
        parts.append((rows, disk_kernels(radius[rows])))
    rows = mask(kinds, "gaussian").nonzero().flatten()
    if len(rows):
        parts.append((rows, gaussian_kernels(sigma[rows], traits.aspect[rows], radians[rows])))
    size = max((kernels.shape[-1] for _, kernels in parts), default=1)
    result = torch.zeros(len(kinds), size, size)
    for rows, kernels in parts:
        margin = (size - kernels.shape[-1]) // 2
        result[rows, margin : size - margin, margin : size - margin] = kernels
    return result


def _grid(reach: int) -> Tensor:
    """(2, k, k) offsets (y, x) from the center, k = 2 · reach + 1."""
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32)
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"))
