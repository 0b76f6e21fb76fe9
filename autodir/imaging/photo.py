"""A photo that knows the file it came from, and how it is written back.

Apart from `imaging.io`, which reads, because results are written where nothing is read.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from autodir.errors import ContractError, ImageError
from autodir.imaging import encoding, exif, formats
from autodir.imaging.color import luma
from autodir.imaging.files import write_atomic
from autodir.imaging.formats import Storage
from autodir.imaging.resize import enlarge, resize
from autodir.records import Image

logger = logging.getLogger(__name__)

_GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})


@dataclass(frozen=True, kw_only=True)
class Photo(Image):
    """An image that knows the file it came from and can be written back like it.

    Attributes:
        native: (H, W, 1, 3 or 4), the file's own samples in its own color space, where that is not
            sRGB; None elsewhere.
        hidden: (3, H, W), the file's own colors where some of them cannot be seen through `alpha`;
            `pixels` have harmless ones there, and a result gets these back. None elsewhere.
        storage: how the file held its samples.
    """

    native: NDArray[Any] | None = field(default=None, repr=False, compare=False)
    hidden: Tensor | None = field(default=None, repr=False, compare=False)
    storage: Storage = field(default_factory=Storage, repr=False, compare=False)

    @property
    def is_gray(self) -> bool:
        """The file has no colors, and its result will have none."""
        return self.metadata.mode in _GRAY_MODES

    def with_pixels(self, pixels: Tensor) -> Photo:
        """The same photo with other color samples (3, H, W) of the same size."""
        if pixels.shape != self.pixels.shape:
            raise ContractError(
                f"pixels must keep {tuple(self.pixels.shape)}, got {tuple(pixels.shape)}"
            )
        return dataclasses.replace(self, pixels=pixels)

    def enlarged(self, scale: int) -> Photo:
        """The same photo with ``scale`` (1, 2 or 4) times the height and width, alpha included."""
        if scale == 1:
            return self
        alpha = None if self.alpha is None else enlarge(self.alpha[None, None], scale)[0, 0]
        pixels = enlarge(self.pixels[None], scale)[0]
        return dataclasses.replace(self, pixels=pixels, alpha=alpha, hidden=None)

    @property
    def colors(self) -> Tensor:
        """`pixels`, with what the file holds under full transparency."""
        if self.hidden is None or self.alpha is None or self.hidden.shape != self.pixels.shape:
            return self.pixels
        return torch.where(self.alpha.to(self.pixels) > 0, self.pixels, self.hidden)

    def to_array(self) -> NDArray[Any]:
        """SRGB samples (H, W, 3) of 8, 16 or 32 bits as `metadata.bit_depth` says; alpha left out.

        32 bits are float32 in [0, 1], the others uint8 and uint16.
        """
        return _quantized(self.colors.permute(1, 2, 0), self.metadata.bit_depth)

    def to_pil(self) -> PIL.Image.Image:
        """The picture with 8 bits a sample (16 where it is gray without alpha), in sRGB.

        Gray photos have mode L, LA or I;16, all others RGB or RGBA.
        """
        deep = self.metadata.bit_depth > 8 and self.is_gray and self.alpha is None
        return encoding.to_pil(_samples(self, 16 if deep else 8))

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the photo in the format that the suffix names, whole or not at all.

        Without a suffix, or with the suffix of the file it came from, it gets that file's format.

        Raises:
            ImageError: the file exists and ``overwrite`` is not set, the suffix is unknown, the
                format cannot hold the photo, or the path cannot be written.
        """
        path = Path(path)
        if path.exists() and not overwrite:
            raise ImageError(f"{path} exists", hint="name another file, or overwrite it")
        write_atomic(self.to_bytes(path), path)

    def to_bytes(self, path: Path | None = None) -> bytes:
        """The content of a file of that name, in the format that `save` chooses.

        Raises:
            ImageError: the suffix is unknown, or the format cannot hold the photo.
        """
        return encode(self, None if path is None else self._format_for(path))

    def _format_for(self, path: Path) -> str | None:
        """The format of a result: a photo whose name lies about its format keeps both."""
        source = self.metadata.path
        same_suffix = source is not None and source.suffix.lower() == path.suffix.lower()
        if self.metadata.format and (same_suffix or not path.suffix):
            return None
        return formats.format_of_suffix(path)


def _quantized(x: Tensor, bits: int) -> NDArray[Any]:
    """Samples in [0, 1], rounded to integers of 8 or 16 bits, or as floats of 32."""
    clamped = x.detach().float().cpu().clamp(0, 1)
    if bits == 32:
        return np.ascontiguousarray(clamped.numpy())
    levels = (clamped * (2**bits - 1)).round()
    return np.ascontiguousarray(levels.numpy().astype(np.uint8 if bits == 8 else np.uint16))


def _samples(photo: Photo, bits: int) -> NDArray[Any]:
    """The photo as samples (H, W, C): gray, gray + alpha, RGB or RGBA."""
    color = photo.colors
    if photo.is_gray:
        red = color[:1]
        is_gray = (color == red).all(dim=0, keepdim=True)
        color = torch.where(is_gray, red, luma(color))  # the mean of equal floats is not always one
    channels = [color] if photo.alpha is None else [color, photo.alpha[None].to(color)]
    return _quantized(torch.cat(channels).permute(1, 2, 0), bits)


def _fitted(photo: Photo, bits: int) -> NDArray[Any] | None:
    """The file's own samples in the size of the photo, which may have been enlarged since.

    They are cut to ``bits``, where the result has fewer of them.
    """
    native = photo.native
    if native is None or (native.shape[:2] == photo.size and 8 * native.itemsize == bits):
        return native
    top = 1.0 if native.dtype.kind == "f" else float(np.iinfo(native.dtype).max)
    channels = torch.from_numpy(native.astype(np.float32) / top).permute(2, 0, 1)[None]
    if native.shape[:2] != photo.size:
        channels = resize(channels, photo.size)
    return _quantized(channels[0].permute(1, 2, 0), bits)


def encode(photo: Photo, format: str | None = None) -> bytes:
    """The photo as the content of a file.

    Args:
        photo: what to write.
        format: a key of `formats.FORMATS`; the photo's own by default, PNG where it has none.

    Returns:
        The file: color space, depth, alpha, ICC profile, EXIF, XMP and resolution as the photo
        came, as far as the format holds them.

    Raises:
        ImageError: the format is unknown or holds no transparency where the photo has some.
    """
    name = format or photo.metadata.format or "PNG"
    if name not in formats.FORMATS:
        raise ImageError(f"cannot write {name}", hint=f"use {', '.join(formats.FORMATS)}")
    holds = formats.FORMATS[name]
    if photo.alpha is not None and not holds.has_alpha:
        if bool((photo.alpha < 1).any()):
            raise ImageError(f"{name} holds no transparency", hint="write PNG, WebP or TIFF")
        photo = dataclasses.replace(photo, alpha=None)
    extras = photo.metadata
    if extras.exif:
        extras = dataclasses.replace(extras, exif=exif.for_pixels(extras.exif, photo.size))
    bits = 8
    if extras.bit_depth == 32 and holds.has_float:
        bits = 32
    elif extras.bit_depth > 8 and ("gray" if photo.is_gray else "color") in holds.deep:
        bits = 16
    if bits < extras.bit_depth:
        logger.warning("%s holds %d bits a sample, the photo has %d", name, bits, extras.bit_depth)
    samples = _samples(photo, bits)
    return encoding.encode_samples(
        samples, extras, name, native=_fitted(photo, bits), storage=photo.storage
    )
