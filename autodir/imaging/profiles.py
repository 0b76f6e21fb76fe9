"""Color spaces of files: into sRGB for the work, and back for the file.

Apart because it is the one place that knows LittleCMS, which Pillow brings. It converts samples of
8 bits; those of more bits and gray ones go through `imaging.matrix`.
"""

from __future__ import annotations

import io
import itertools
import logging
from functools import lru_cache
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms

from autodir.imaging import matrix
from autodir.imaging.matrix import MatrixSpace

logger = logging.getLogger(__name__)

_NEARLY = 2
"""Levels of 255 by which a profile may differ from sRGB and still be taken for it."""

_PROBE = np.array(list(itertools.product(range(0, 256, 51), repeat=3)), np.uint8)[None]
"""Colors on which a profile is compared with sRGB: (1, 216, 3)."""


def _convert(samples: NDArray[Any], icc: bytes, *, back: bool = False) -> NDArray[Any] | None:
    """Convert uint8 (H, W, C) from the profile to sRGB, or back; None where that is impossible."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        mode = profile.profile.xcolor_space.strip()
        if mode not in ("RGB", "CMYK"):
            return None  # a gray profile: gray samples are worked on as they are
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        ends = [(profile, mode), (srgb, "RGB")]
        (source, source_mode), (target, target_mode) = ends[::-1] if back else ends
        transform = ImageCms.buildTransform(
            source,
            target,
            source_mode,
            target_mode,
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        height, width, channels = samples.shape
        if channels != len(source_mode):
            return None
        image = PIL.Image.frombytes(source_mode, (width, height), samples.tobytes())
        converted = ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        logger.info("the color profile is not usable, the samples stay as they are: %r", error)
        return None
    return None if converted is None else np.array(converted, dtype=np.uint8)


@lru_cache(maxsize=16)
def _is_srgb(icc: bytes) -> bool:
    """Whether an RGB profile means sRGB: judged by colors, since its name may say anything."""
    converted = _convert(_PROBE, icc)
    return converted is not None and bool(
        (np.abs(converted.astype(int) - _PROBE.astype(int)) <= _NEARLY).all()
    )


def _bytes(values: NDArray[Any]) -> NDArray[Any]:
    """Floats in [0, 1] as uint8."""
    rounded: NDArray[Any] = np.rint(values * 255).astype(np.uint8)
    return rounded


def _cmyk_to_rgb(samples: NDArray[Any]) -> NDArray[Any]:
    """Ink without a profile: each of C, M, Y darkens what K leaves of the white."""
    ink = samples.astype(np.float32) / 255
    light = (1 - ink[..., :3]) * (1 - ink[..., 3:])
    return _bytes(light)


def _rgb_to_cmyk(samples: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `_cmyk_to_rgb` with as much K as the color allows."""
    light = samples.astype(np.float32) / 255
    white = light.max(axis=-1, keepdims=True)
    ink = 1 - light / np.maximum(white, 1e-6)
    ink[np.broadcast_to(white == 0, ink.shape)] = 0
    return _bytes(np.concatenate([ink, 1 - white], axis=-1))


def _matrix_space(native: NDArray[Any], space: bytes | MatrixSpace | None) -> MatrixSpace | None:
    """The curves and matrix by which samples are converted; None where LittleCMS does, or nobody.

    LittleCMS converts 8 bits of RGB or CMYK by a profile.
    """
    if isinstance(space, bytes):
        if native.dtype == np.uint8 and native.shape[-1] > 1:
            return None
        space = matrix.of_icc(space)
        if space is None:
            logger.warning("the color profile is kept, but not applied: it is no curves and matrix")
        elif space.is_srgb:
            return None
    if space is None or len(space.curves) != native.shape[-1]:
        return None
    return space


def to_srgb(native: NDArray[Any], space: bytes | MatrixSpace | None) -> NDArray[Any]:
    """Convert a file's samples to sRGB.

    Args:
        native: (H, W, 1) gray or (H, W, 3) RGB of uint8, uint16 or float32 in [0, 1], or uint8
            (H, W, 4) CMYK with 255 for full ink.
        space: the file's profile, its color space, or None.

    Returns:
        Of the kind of ``native``, (H, W, 1 or 3). The very array ``native`` where it has no
        profile, one that means sRGB, or one that cannot be used, and is not CMYK.
    """
    if (found := _matrix_space(native, space)) is not None:
        return found.to_srgb(native)
    icc = space if native.dtype == np.uint8 and isinstance(space, bytes) else None
    if native.shape[-1] == 4:
        converted = _convert(native, icc) if icc else None
        return _cmyk_to_rgb(native) if converted is None else converted
    if icc is None or native.shape[-1] == 1 or _is_srgb(icc):
        return native
    converted = _convert(native, icc)
    return native if converted is None else converted


def from_srgb(
    result: NDArray[Any], native: NDArray[Any], space: bytes | MatrixSpace | None
) -> NDArray[Any]:
    """Convert a result into the color space of the file it came from.

    A conversion to sRGB cuts off colors that sRGB has not. What it cut off is added back in RGB, so
    that untouched pixels come back exactly and vivid ones stay vivid; in CMYK untouched pixels keep
    their inks.

    Args:
        result: (H, W, 1 or 3), sRGB, of the kind of ``native``.
        native: the file's own samples, of the same size: see `to_srgb`.
        space: the file's profile, its color space, or None.

    Returns:
        Of the shape and kind of ``native``.
    """
    if (found := _matrix_space(native, space)) is not None:
        return found.from_srgb(result, native)
    icc = space if isinstance(space, bytes) else None
    before = to_srgb(native, icc)
    if native.shape[-1] == 4:
        converted = _convert(result, icc, back=True) if icc else None
        inks = _rgb_to_cmyk(result) if converted is None else converted
        untouched = (result == before).all(axis=-1, keepdims=True)
        kept: NDArray[Any] = np.where(untouched, native, inks)
        return kept
    after = _convert(result, icc, back=True) if icc and before is not native else None
    was = _convert(before, icc, back=True) if icc and after is not None else None
    if after is None or was is None:
        return result
    total = after.astype(np.int16) + native.astype(np.int16) - was.astype(np.int16)
    return total.clip(0, 255).astype(np.uint8)
