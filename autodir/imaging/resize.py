"""Sizes of images: antialiased resizing, and padding with its undo.

Apart because every network has a size it needs, and none should learn to pad on its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from autodir.errors import ContractError

ENLARGEMENTS = (2, 4)


@dataclass(frozen=True)
class Undo:
    """Crops what `pad_to_multiple` added.

    Attributes:
        height, width: the size before padding, in pixels.
    """

    height: int
    width: int

    def __call__(self, x: Tensor, scale: int = 1) -> Tensor:
        """Crop ``x`` (..., H, W) to the size before padding.

        Args:
            x: a tensor of the padded size, or ``scale`` times that size.
            scale: how much larger ``x`` is than what was padded.

        Returns:
            (..., height * scale, width * scale), a view of ``x``.

        Raises:
            ContractError: ``x`` is smaller than the size to crop to.
        """
        height, width = self.height * scale, self.width * scale
        if x.shape[-2] < height or x.shape[-1] < width:
            raise ContractError(f"cannot crop {tuple(x.shape)} to {height} x {width}")
        return x[..., :height, :width]


def _check_spatial(x: Tensor) -> None:
    """Raise `ContractError` unless ``x`` is a float (B, C, H, W) of at least 1 x 1 pixel."""
    if x.ndim != 4 or not x.is_floating_point() or 0 in x.shape:
        raise ContractError(f"expected float (B, C, H, W), got {x.dtype} {tuple(x.shape)}")


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize with the bicubic kernel, widened when it shrinks so that nothing aliases.

    Args:
        x: float (B, C, H, W) in [0, 1].
        size: (height, width) in pixels, each at least 1.

    Returns:
        (B, C, *size) in [0, 1]: the overshoot of the bicubic kernel is clamped. The same tensor
        where ``size`` is its size already.

    Raises:
        ContractError: ``x`` is not float (B, C, H, W), or ``size`` holds a number below 1.
    """
    _check_spatial(x)
    height, width = size
    if height < 1 or width < 1:
        raise ContractError(f"cannot resize to {height} x {width}")
    if x.shape[-2:] == (height, width):
        return x
    resized = functional.interpolate(
        x, size=(height, width), mode="bicubic", antialias=True, align_corners=False
    )
    return resized.clamp(0, 1)


def enlarge(x: Tensor, scale: int) -> Tensor:
    """Make an image 2 or 4 times as high and wide; 1 returns it as it is.

    Args:
        x: float (B, C, H, W) in [0, 1].
        scale: 1, 2 or 4.

    Returns:
        (B, C, H * scale, W * scale) in [0, 1].

    Raises:
        ContractError: another ``scale``.
    """
    if scale == 1:
        return x
    if scale not in ENLARGEMENTS:
        raise ContractError(f"scale must be 1, 2 or 4, got {scale}", hint="use --scale 2 or 4")
    return resize(x, (x.shape[-2] * scale, x.shape[-1] * scale))


def _mirrored(length: int, padded: int, device: torch.device) -> Tensor:
    """The first ``padded`` of the indices 0, 1, ..., length - 1, length - 2, ..., 1, 0, 1, ..."""
    index = torch.arange(padded, device=device)
    if length == 1:
        return torch.zeros_like(index)
    period = 2 * (length - 1)
    index = index % period
    return torch.where(index < length, index, period - index)


def pad_to_multiple(x: Tensor, multiple: int) -> tuple[Tensor, Undo]:
    """Grow an image at its right and lower border until both sides divide by ``multiple``.

    The border is the mirror image, repeated as often as needed; a side of one pixel is replicated.
    So any size works, from 1 x 1 upwards.

    Args:
        x: float (B, C, H, W).
        multiple: what height and width must divide by, at least 1.

    Returns:
        The padded tensor (the same one where nothing is missing), and the function that crops back.

    Raises:
        ContractError: ``x`` is not float (B, C, H, W), or ``multiple`` is below 1.
    """
    _check_spatial(x)
    if multiple < 1:
        raise ContractError(f"multiple must be at least 1, got {multiple}")
    height, width = int(x.shape[-2]), int(x.shape[-1])
    for axis, length in ((-2, height), (-1, width)):
        padded = -(-length // multiple) * multiple
        if padded != length:
            x = x.index_select(axis, _mirrored(length, padded, x.device))
    return x, Undo(height, width)
