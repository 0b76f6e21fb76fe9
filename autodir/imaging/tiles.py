"""Overlapping tiles: a grid, weights, and their blend, the same for pixels and latents.

Apart so that whatever works on one window can work on an image of any size in bounded memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from autodir.errors import ContractError
from autodir.imaging.memory import give_back

Weighting = Literal["cosine", "gaussian"]

GAUSSIAN_VARIANCE = 0.01
"""Of the Gaussian weights, in units of the squared tile side (arXiv:2302.02412)."""


@dataclass(frozen=True)
class Tile:
    """A window of an image.

    Attributes:
        top, left: its first row and column, in pixels.
        height, width: its size in pixels.
    """

    top: int
    left: int
    height: int
    width: int

    def crop(self, x: Tensor) -> Tensor:
        """The window of ``x`` (..., H, W), a view."""
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def within(self, outer: Tile) -> Tile:
        """The same window of what a larger window has cut out."""
        return Tile(self.top - outer.top, self.left - outer.left, self.height, self.width)

    def scaled(self, ratio: Fraction) -> Tile:
        """The same window of an image ``ratio`` times as large.

        Raises:
            ContractError: a border would fall between two pixels.
        """
        numbers = [n * ratio for n in (self.top, self.left, self.height, self.width)]
        if any(n.denominator != 1 for n in numbers):
            raise ContractError(
                f"{self} times {ratio} is not a whole number of pixels",
                hint="choose tile and align so that both divide by the reduction",
            )
        return Tile(*(int(n) for n in numbers))


def _starts(length: int, tile: int, overlap: int, align: int) -> list[int]:
    """First pixels of the tiles along one side: even steps, multiples of ``align``, no gap."""
    if length <= tile:
        return [0]
    # Rounding to a multiple of `align` moves a start by less than `align`: leave room for it.
    stride = max((tile - overlap) // align * align, align)
    count = math.ceil((length - tile) / stride) + 1
    last = length - tile
    starts = [min(round(i * last / (count - 1) / align) * align, last) for i in range(count)]
    starts = [start // align * align for start in starts[:-1]] + [last]
    if any(b - a > tile for a, b in pairwise(starts)):  # an invariant of the arithmetic above
        raise ContractError(f"tiles of {tile} with overlap {overlap} leave gaps along {length}")
    return starts


def grid(size: tuple[int, int], tile: int, overlap: int, align: int = 1) -> list[Tile]:
    """Cover an image with windows of one size that overlap by at least about ``overlap``.

    Args:
        size: (height, width) of the image, in pixels.
        tile: side of a window; a shorter image side makes the window shorter.
        overlap: pixels that neighbors share, in [0, tile).
        align: every window starts at a multiple of this. With ``align`` > 1 the image sides must
            divide by it, so that the last window does too.

    Returns:
        Windows in reading order; one window where the image is not larger than a tile.

    Raises:
        ContractError: a number is out of range.
    """
    height, width = size
    if height < 1 or width < 1 or tile < 1 or align < 1:
        raise ContractError(f"cannot tile {height} x {width} by {tile}, aligned to {align}")
    if not 0 <= overlap < tile:
        raise ContractError(f"overlap must be in [0, {tile}), got {overlap}")
    if tile % align or any(side > tile and side % align for side in size):
        raise ContractError(f"tile {tile} and size {size} must divide by {align}")
    rows, columns = (_starts(side, tile, overlap, align) for side in size)
    return [Tile(r, c, min(tile, height), min(tile, width)) for r in rows for c in columns]


def weights(length: int, overlap: int, weighting: Weighting = "cosine") -> Tensor:
    """Positive weights along one side of a tile, largest in its middle.

    Args:
        length: of the side, in pixels.
        overlap: pixels over which "cosine" rises from the border to 1.
        weighting: "cosine" (raised-cosine ramps, flat between them) or "gaussian".

    Returns:
        float32 (length,), every value above 0.

    Raises:
        ContractError: an unknown ``weighting``.
    """
    position = torch.arange(length, dtype=torch.float32)
    if weighting == "gaussian":
        centered = (position - (length - 1) / 2) / length
        return torch.exp(-centered.square() / (2 * GAUSSIAN_VARIANCE))
    if weighting == "cosine":
        ramp = max(min(overlap, length / 2), 1)
        border = torch.minimum(position, length - 1 - position) + 0.5
        return 0.5 - 0.5 * torch.cos(math.pi * (border / ramp).clamp(max=1))
    raise ContractError(f"weighting must be cosine or gaussian, got {weighting}")


def blend(
    tiles: Sequence[Tile],
    values: Iterable[Tensor],
    size: tuple[int, int],
    overlap: int,
    weighting: Weighting = "cosine",
) -> Tensor:
    """The weighted mean of overlapping windows; the weights of each pixel sum to 1.

    Args:
        tiles: windows of an image of ``size``, all of the same height and width.
        values: for each window, a tensor (B, C, h, w) of its size or of a fixed multiple or
            fraction of it. Read one by one, so they may be computed on the way.
        size: (height, width) that the windows cover without a gap.
        overlap: as given to `grid`.
        weighting: see `weights`.

    Returns:
        (B, C, H, W) in the dtype and on the device of the values, H and W multiplied as they are.

    Raises:
        ContractError: there are fewer values than windows, their sizes differ, or a part of the
            image is covered by none.
    """
    total: Tensor | None = None
    remaining = iter(values)
    for tile in tiles:
        value = next(remaining, None)
        if value is None:
            raise ContractError(f"{len(tiles)} windows need as many values")
        ratio = Fraction(int(value.shape[-2]), tile.height)
        place = tile.scaled(ratio)
        if value.shape[-1] != place.width:
            raise ContractError(f"{tuple(value.shape)} is not {ratio} times {tile}")
        if len(tiles) == 1:
            return value
        if total is None:
            height, width = (int(side * ratio) for side in size)
            total = value.new_zeros((*value.shape[:-2], height, width), dtype=torch.float32)
            norm = total.new_zeros((height, width))
            reach = max(int(overlap * ratio), 1)
            down, across = (weights(n, reach, weighting) for n in (place.height, place.width))
            weight = torch.outer(down, across).to(total.device)
            dtype = value.dtype
        if value.shape[-2:] != weight.shape:
            raise ContractError(f"windows differ: {tuple(value.shape[-2:])}, {tuple(weight.shape)}")
        place.crop(total).add_(value.float() * weight)
        place.crop(norm).add_(weight)
    if total is None or bool((norm == 0).any()):
        raise ContractError(f"{len(tiles)} windows do not cover {size}")
    return (total / norm).to(dtype)


def map_tiles(
    x: Tensor,
    fn: Callable[[Tensor], Tensor],
    tile: int,
    overlap: int,
    *,
    align: int = 1,
    weighting: Weighting = "cosine",
) -> Tensor:
    """Apply ``fn`` window by window; for a pointwise ``fn`` this equals ``fn(x)``.

    Args:
        x: pixels or latents (B, C, H, W).
        fn: (B, C, h, w) → (B, D, h * r, w * r) for one ratio r, which may be a fraction.
        tile: side of a window, in pixels of ``x``.
        overlap: pixels that neighbors share, in [0, tile).
        align: windows start at multiples of this; the denominator of r, or a multiple of it.
        weighting: "cosine" or "gaussian".

    Returns:
        (B, D, H * r, W * r); an image not larger than one tile goes through ``fn`` unblended.

    Raises:
        ContractError: ``tile``, ``overlap`` or ``align`` is out of range, or r is not one ratio.
    """
    size = (int(x.shape[-2]), int(x.shape[-1]))
    tiles = grid(size, tile, overlap, align)
    return blend(tiles, (fn(t.crop(x)) for t in tiles), size, overlap, weighting)


@dataclass(frozen=True)
class Core:
    """A part of an image that no other core has, and the window that it is computed from.

    Attributes:
        inner: the part itself.
        outer: the part with its context, cut off at the borders of the image.
    """

    inner: Tile
    outer: Tile

    def cut(self, value: Tensor) -> Tensor:
        """The inner part of what was computed from the outer one, (..., h * r, w * r)."""
        ratio = Fraction(int(value.shape[-2]), self.outer.height)
        return self.inner.within(self.outer).scaled(ratio).crop(value)

    def closer(self, context: int) -> Core:
        """The same part with at most ``context`` pixels around it."""
        inner, outer = self.inner, self.outer
        top, left = max(inner.top - context, outer.top), max(inner.left - context, outer.left)
        below = min(inner.top + inner.height + context, outer.top + outer.height)
        right = min(inner.left + inner.width + context, outer.left + outer.width)
        return Core(inner, Tile(top, left, below - top, right - left))


def cores(size: tuple[int, int], tile: int, context: int, align: int = 1) -> list[Core]:
    """Cut an image into parts of about one size, none of which is larger than ``tile``.

    Args:
        size: (height, width) of the image, in pixels.
        tile: largest side of a part.
        context: pixels around a part that its window adds, where the image has them.
        align: parts and windows start at multiples of this; ``tile`` must divide by it.

    Returns:
        Parts in reading order; one, without a context, where the image is not larger than a tile.

    Raises:
        ContractError: a number is out of range.
    """
    if min(size) < 1 or align < 1 or tile < align or tile % align or context < 0:
        raise ContractError(
            f"cannot cut {size} by {tile} with context {context}, aligned to {align}"
        )
    reach = -(-context // align) * align

    def spans(length: int) -> list[tuple[int, int, int, int]]:
        count = math.ceil(length / tile)
        blocks = math.ceil(length / align)
        edges = [min(index * blocks // count * align, length) for index in range(count)] + [length]
        # Rounding to whole blocks may leave a part one block too large: one part more, then.
        if any(b - a > tile for a, b in pairwise(edges)):
            edges = [*range(0, length, tile), length]
        return [(a, b, max(a - reach, 0), min(b + reach, length)) for a, b in pairwise(edges)]

    return [
        Core(
            inner=Tile(top, left, bottom - top, right - left),
            outer=Tile(above, before, below - above, after - before),
        )
        for top, bottom, above, below in spans(size[0])
        for left, right, before, after in spans(size[1])
    ]


def map_cores(x: Tensor, fn: Callable[[Tensor], Tensor], parts: Sequence[Core]) -> Tensor:
    """Apply ``fn`` to the windows and keep of each result what no border has touched.

    Where the context reaches as far as ``fn`` looks, this equals ``fn(x)`` and needs no blending.

    Args:
        x: pixels or latents (B, C, H, W).
        fn: (B, C, h, w) → (B, D, h * r, w * r) for one ratio r, which may be a fraction.
        parts: from `cores` for (H, W).

    Returns:
        (B, D, H * r, W * r) in the dtype and on the device of the values.
    """
    return assemble((fn(part.outer.crop(x)) for part in parts), parts, (x.shape[-2], x.shape[-1]))


def assemble(values: Iterable[Tensor], parts: Sequence[Core], size: tuple[int, int]) -> Tensor:
    """Put together the inner parts of what was computed from the windows of an image.

    Args:
        values: for each part, (B, D, h * r, w * r) of its window for one ratio r. Read one by one,
            so they may be computed on the way.
        parts: from `cores` for an image of ``size``.
        size: (height, width).

    Returns:
        (B, D, H * r, W * r) in the dtype and on the device of the values.
    """
    result: Tensor | None = None
    for part, value in zip(parts, values, strict=True):
        ratio = Fraction(int(value.shape[-2]), part.outer.height)
        if len(parts) == 1:
            return value
        if result is None:
            height, width = (int(side * ratio) for side in size)
            result = value.new_empty((*value.shape[:-2], height, width))
        part.inner.scaled(ratio).crop(result).copy_(part.cut(value))
        give_back()
    if result is None:
        raise ContractError("there is no part to put together")
    return result
