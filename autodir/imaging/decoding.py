"""The content of a file → samples as the file holds them, by whichever library keeps them all.

Apart from `imaging.io`, which makes photos of them, because every format has its own ways here.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import JpegImagePlugin

from autodir.errors import ImageError
from autodir.imaging import exif, formats, headers, heif, jpeg, png, raw, tiff
from autodir.imaging.formats import Storage
from autodir.records import ImageMetadata

logger = logging.getLogger(__name__)

_GRAY_ALPHA = 4
_LAYOUTS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # by channels


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What a file holds.

    Attributes:
        samples: (H, W, C), uint8, uint16 or float32 in [0, 1]; as stored, not turned.
        layout: of the channels: L, LA, RGB, RGBA or CMYK.
        metadata: what else it says; the orientation as stored.
        storage: how it holds the samples.
    """

    samples: NDArray[Any]
    layout: str
    metadata: ImageMetadata
    storage: Storage = dataclasses.field(default_factory=Storage)


def decode(data: bytes, name: str, max_pixels: int) -> Decoded:
    """Decode the content of a file.

    Args:
        data: the file.
        name: for messages.
        max_pixels: compared with the size that the header states before anything is decoded.

    Raises:
        ImageError: too large, animated, or of a kind that could not be written back without loss.
        MissingExtraError: the format needs a library that is not installed.
        Exception: whatever a decoder raises for a damaged file.
    """
    if raw.is_raw(data):
        return _of_raw(data, name, max_pixels)
    if heif.is_heif(data):
        return _of_heif(data, name, max_pixels)
    tags = tiff.tags_of(data)
    if tags is not None:
        tiff.check_kind(tags, name)
        if tiff.is_float(tags):
            return _of_float_tiff(data, tags, name, max_pixels)
    with PIL.Image.open(io.BytesIO(data), formats=list(formats.PILLOW_FORMATS)) as image:
        return of_pil(image, name, max_pixels, data, tags)


def _of_raw(data: bytes, name: str, max_pixels: int) -> Decoded:
    """Develop a camera's raw file."""
    with raw.open_raw(data) as opened:
        formats.check_size(opened.sizes.height, opened.sizes.width, name, max_pixels)
        samples = raw.develop(opened)
    tags = tiff.tags_of(data)
    block = None if tags is None else tiff.metadata_of(data, tags)["exif"]
    # No format: a result cannot be a raw file again.
    return Decoded(samples=samples, layout="RGB", metadata=ImageMetadata(bit_depth=16, exif=block))


def _of_heif(data: bytes, name: str, max_pixels: int) -> Decoded:
    """Decode a HEIC, which its library turns upright."""
    opened = heif.open_heif(data)
    width, height = opened.size
    formats.check_size(height, width, name, max_pixels)
    info = opened.info
    others = [kind for kind in info.get("aux") or () if not heif.is_alpha(kind)]
    left_out = len(opened) - 1 + len(info.get("depth_images") or ()) + len(others)
    if left_out:
        _say_left_out(name, left_out)
    icc, codes = info.get("icc_profile") or None, info.get("nclx_profile")
    space = icc
    if icc is None and codes:
        space = png.coded_space(codes["color_primaries"], codes["transfer_characteristics"])
    samples = heif.decode(opened)
    block, packet = info.get("exif"), info.get("xmp")
    if block:
        block = exif.for_pixels(exif.PREFIX + block.removeprefix(exif.PREFIX), samples.shape[:2])
    layout = _LAYOUTS[samples.shape[2]]
    return Decoded(
        samples=samples,
        layout=layout,
        metadata=ImageMetadata(
            format="HEIF",
            mode=layout,
            bit_depth=8 * samples.itemsize,
            icc_profile=icc,
            exif=block,
            xmp=exif.upright_xmp(packet) if packet else None,
        ),
        storage=Storage(bits=int(info.get("bit_depth", 8)), codes=codes, space=space),
    )


def _say_left_out(name: str, count: int) -> None:
    logger.warning("%s: one picture is used, %d more are left out", name, count)


def _of_float_tiff(data: bytes, tags: tiff.Tags, name: str, max_pixels: int) -> Decoded:
    """Decode a TIFF of floats, which Pillow reads in gray only."""
    height, width = tiff.size_of(tags)
    formats.check_size(height, width, name, max_pixels)
    if tags.next:
        raise ImageError(f"{name} has several pages", hint="save the one to repair as a file")
    samples = _by_opencv(data, (height, width), "TIFF")
    if samples.dtype.kind != "f" or not bool(((samples >= 0) & (samples <= 1)).all()):
        raise ImageError(
            f"{name} has floats outside 0...1", hint="scale them to 0...1, where 1 is white"
        )
    if samples.dtype != np.float32:
        logger.warning("%s has 64 bits a sample, of which 32 are kept", name)
    samples = _multiplied_out(samples.astype(np.float32), tags)
    layout = _LAYOUTS[samples.shape[2]]
    metadata = ImageMetadata(
        format="TIFF", mode=layout, bit_depth=32, **tiff.metadata_of(data, tags)
    )
    metadata = dataclasses.replace(metadata, dpi=_dpi(metadata.dpi))
    return Decoded(
        samples=samples,
        layout=layout,
        metadata=metadata,
        storage=Storage(space=metadata.icc_profile),
    )


def _by_opencv(data: bytes, size: tuple[int, int], kind: str) -> NDArray[Any]:
    """All bits of a file as (H, W, 1, 3 or 4): gray, RGB or RGBA; TIFFs are turned upright.

    Raises:
        ImageError: OpenCV cannot read the file, or finds another size in it than ``size``.
    """
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        found: NDArray[Any] | None = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED
        )
    finally:
        cv2.utils.logging.setLogLevel(level)
    if found is None:
        raise ImageError(f"{kind} that is damaged, or of a layout that is not supported")
    samples = found.reshape(*found.shape[:2], -1)
    if sorted(samples.shape[:2]) != sorted(size) or samples.shape[2] not in (1, 3, 4):
        raise ImageError(f"{kind} in the layout {samples.shape} is not supported")
    return samples[..., {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[samples.shape[2]]]


def _multiplied_out(samples: NDArray[Any], tags: tiff.Tags) -> NDArray[Any]:
    """Samples whose colors are not multiplied by their alpha."""
    if samples.shape[2] != 4 or not tiff.is_premultiplied(tags):
        return samples
    top = np.iinfo(samples.dtype).max if samples.dtype.kind == "u" else 1
    alpha = samples[..., 3:].astype(np.float64)
    color = (samples[..., :3] * (top / np.maximum(alpha, 1e-9))).clip(0, top)
    color = np.where(alpha > 0, np.rint(color) if top > 1 else color, 0)
    return np.concatenate([color.astype(samples.dtype), samples[..., 3:]], axis=2)


def of_pil(
    image: PIL.Image.Image,
    name: str,
    max_pixels: int,
    data: bytes | None = None,
    tags: tiff.Tags | None = None,
) -> Decoded:
    """Decode what Pillow has opened.

    Args:
        image: opened; not yet decoded, where ``data`` is given.
        name: for messages.
        max_pixels: see `decode`.
        data: the file, where the image comes from one.
        tags: those of a TIFF.
    """
    _check_header(image, name, max_pixels)
    samples, layout = _samples(image, name, data, tags)
    metadata = _metadata(image, samples)
    if samples.dtype == np.uint16 and samples.shape[2] > 1:
        metadata = dataclasses.replace(metadata, mode=layout)  # Pillow names the cut-down one
    return Decoded(
        samples=samples,
        layout=layout,
        metadata=metadata,
        storage=_storage(image, metadata, data),
    )


def _check_header(image: PIL.Image.Image, name: str, max_pixels: int) -> None:
    """Refuse what is too large or has several pictures."""
    formats.check_size(image.height, image.width, name, max_pixels)
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format == "MPO":
        _say_left_out(name, frames - 1)
    elif frames > 1:
        what = f"has {frames} pages" if image.format == "TIFF" else f"is animated ({frames} frames)"
        raise ImageError(f"{name} {what}", hint="save the picture to repair as a file of its own")


def _samples(
    image: PIL.Image.Image, name: str, data: bytes | None, tags: tiff.Tags | None
) -> tuple[NDArray[Any], str]:
    """Decode to integers (H, W, C) and the layout: L, LA, RGB, RGBA or CMYK."""
    if data is not None and (bits := headers.lost_bits(image, data)):
        logger.warning("%s has %d bits a sample, of which 8 are kept", name, bits)
    deep = data is not None and headers.is_deep_color(image, data)
    transparent = image.info.get("transparency")
    image.load()
    if deep and data is not None:
        samples = _deep_color(image, data, tags)
        return samples, _LAYOUTS[samples.shape[2]]
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format == "PPM"):
        return _deep_gray(np.asarray(image), transparent, tags)
    layout = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB"}.get(mode, mode)
    if mode in ("P", "PA"):
        layout = "RGBA" if mode == "PA" or transparent is not None else "RGB"
    elif transparent is not None and mode in ("1", "L", "RGB"):
        layout = "LA" if layout == "L" else "RGBA"
    if layout not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        raise ImageError(
            f"{name} has samples of the kind {mode!r}, which cannot be kept",
            hint="save it as 8- or 16-bit gray or RGB",
        )
    samples = np.array(image if layout == mode else image.convert(layout))
    return samples.reshape(*samples.shape[:2], -1), layout


def _deep_gray(
    stored: NDArray[Any], transparent: Any, tags: tiff.Tags | None
) -> tuple[NDArray[Any], str]:
    """Pillow's gray of 9 to 16 bits as uint16 over its whole range, and the layout."""
    gray = stored.astype(np.uint16)[..., None]
    if tags is not None:
        top = 2 ** tiff.bits_of(tags) - 1
        if top < 65535:
            gray = np.rint(gray.clip(0, top) * (65535 / top)).astype(np.uint16)
        if tiff.is_inverted(tags):
            gray = 65535 - gray
    if transparent is None:
        return gray, "L"
    opaque = np.where(gray == transparent, 0, 65535).astype(np.uint16)
    return np.concatenate([gray, opaque], axis=-1), "LA"


def _deep_color(image: PIL.Image.Image, data: bytes, tags: tiff.Tags | None) -> NDArray[Any]:
    """Decode what `headers.is_deep_color` found, once Pillow has shown that the file is whole.

    Returns:
        uint16 (H, W, C): gray + alpha, RGB or RGBA.
    """
    if image.format == "PPM":
        return headers.read_deep_ppm(image.size, data)
    samples = _by_opencv(data, image.size[::-1], str(image.format))
    if samples.dtype != np.uint16 or samples.shape[2] == 1:
        raise ImageError(f"{image.format} with 16 bits in the layout {image.mode} is not supported")
    if tags is not None:
        return _multiplied_out(samples, tags)
    is_gray = headers.png_color_type(data) == _GRAY_ALPHA
    return samples[..., [0, 3]] if is_gray else samples


def _storage(image: PIL.Image.Image, metadata: ImageMetadata, data: bytes | None) -> Storage:
    """How the file holds its samples."""
    storage = Storage(space=metadata.icc_profile)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        storage = dataclasses.replace(
            storage,
            is_progressive="progressive" in image.info,
            quantization=image.quantization or None,
        )
    if data is None:
        return storage
    if metadata.format == "JPEG":
        return dataclasses.replace(storage, kept=jpeg.kept_segments(data))
    if metadata.format == "PNG":
        space = png.color_space(data) or storage.space
        return dataclasses.replace(storage, kept=png.kept_chunks(data), space=space)
    return dataclasses.replace(storage, is_lossless=headers.is_lossless_webp(data))


def _metadata(image: PIL.Image.Image, samples: NDArray[Any]) -> ImageMetadata:
    """What the decoded file says besides its samples; the orientation as stored."""
    info = image.info
    block = info.get("exif")
    packet = info.get("xmp") or info.get("XML:com.adobe.xmp")
    if image.format == "TIFF":
        # A TIFF's EXIF is its own list of tags, and Pillow has turned its pixels upright already.
        block = tiff.photo_tags(image.getexif())
        packet = packet or getattr(image, "tag_v2", {}).get(700)
    if isinstance(packet, str):
        packet = packet.encode()
    quality = subsampling = None
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.quantization:
        quality = jpeg.quality_of(list(image.quantization[min(image.quantization)]))
        sampling = JpegImagePlugin.get_sampling(image)
        subsampling = sampling if sampling >= 0 else None
    return ImageMetadata(
        format=formats.ALIASES.get(image.format or "", image.format or ""),
        mode=image.mode,
        bit_depth=16 if samples.dtype == np.uint16 else 8,
        icc_profile=info.get("icc_profile") or None,
        exif=exif.PREFIX + block.removeprefix(exif.PREFIX) if block else None,
        xmp=packet or None,
        dpi=_dpi(info.get("dpi")),
        quality=quality,
        subsampling=subsampling,
    )


def _dpi(stated: Any) -> tuple[float, float] | None:
    """Pixels per inch, where the file states finite positive ones."""
    try:
        x, y = (float(value) for value in stated)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if all(math.isfinite(v) and v > 0 for v in (x, y)) else None
