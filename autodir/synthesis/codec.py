"""Lossy encodings: JPEG compression and the loss of resolution.

Apart because both are what software does to a finished photo.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from autodir.imaging.convolution import mirror
from autodir.synthesis.draws import Draws, Fixed, Parameters, column
from autodir.synthesis.enlargement import ENLARGEMENTS, enlarged
from autodir.synthesis.filters import gaussian

_SAMPLING = {"4:2:0": 0.72, "4:4:4": 0.18, "4:2:2": 0.1}
_SUBSAMPLING = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
_FILTERS = {"bicubic": 0.7, "bilinear": 0.12, "area": 0.18}


def compression(
    clean: Tensor, severity: Tensor, generator: torch.Generator, fixed: Fixed | None = None
) -> tuple[Tensor, Parameters]:
    """Encode as JPEG and decode; for one sample in five twice, on block grids that do not align.

    Args:
        clean: (B, 3, H, W) in [0, 1], sRGB-encoded.
        severity: (B,) in [0, 1].
        generator: source of all randomness.
        fixed: ``quality`` (1-95, libjpeg), ``first_quality`` (0: encoded once), ``kind`` (chroma
            sampling: 4:2:0, 4:2:2, 4:4:4). Fixing the quality alone encodes once, with 4:2:0.

    Returns:
        Decoded image in [0, 1] and the parameters per sample.
    """
    draw = Draws(severity, generator, fixed)
    sampling = draw.kind(_SAMPLING, {"quality": "4:2:0"})
    plain = "quality" in (fixed or {})
    quality = draw.named("quality", draw.logarithmic(75, 7).round(), None, (1, 95))
    first = (quality * draw.log_uniform(0.75, 2.5)).clamp(5, 95).round()
    first = torch.where(draw.happens(0.0 if plain else 0.2), first, torch.zeros(1))
    first = draw.named("first_quality", first, None, (0, 95))
    shift = 1 + (draw.rand(draw.count, 2) * 7).floor().clamp_max(6).int()
    draw.record("shift", shift.tolist())
    result = torch.empty_like(clean)
    for index, kind in enumerate(sampling):
        image = clean[index]
        if first[index] > 0:
            dy, dx = (int(v) for v in shift[index])
            image = jpeg(mirror(image, dy, 0, dx, 0), int(first[index]), kind)[:, dy:, dx:]
        result[index] = jpeg(image, int(quality[index]), kind)
    return result, draw.parameters()


def jpeg(image: Tensor, quality: int, sampling: str = "4:2:0") -> Tensor:
    """One round through libjpeg: (3, H, W) in [0, 1] to the same, on the 8-bit grid."""
    pixels = (
        (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    )
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(
        buffer, "JPEG", quality=quality, subsampling=_SUBSAMPLING[sampling]
    )
    with Image.open(buffer) as decoded:
        array = np.array(decoded.convert("RGB"))
    return torch.from_numpy(array).permute(2, 0, 1).to(image) / 255


def low_resolution(
    clean: Tensor, severity: Tensor, generator: torch.Generator, fixed: Fixed | None = None
) -> tuple[Tensor, Parameters]:
    """Shrink, and enlarge again; some severe ones are blurred and encoded between.

    Args:
        clean: (B, 3, H, W) in [0, 1], sRGB-encoded.
        severity: (B,) in [0, 1].
        generator: source of all randomness.
        fixed: ``factor`` (1-16), ``kind`` (bicubic, bilinear, area), ``sigma`` (px, blur before
            shrinking), ``noise`` (8-bit units, on the small image), ``quality`` (JPEG of the small
            image; 0: none), ``enlargement`` (a key of `ENLARGEMENTS`). Fixing the factor turns off
            what is not fixed with it, and enlarges bicubically.

    Returns:
        Image of the same size and fewer details, and the parameters per sample.
    """
    draw = Draws(severity, generator, fixed)
    plain = "factor" in (fixed or {})
    kinds = draw.kind(_FILTERS, {"factor": "bicubic"})
    factor = draw.named("factor", draw.linear(2, 6.5).clamp_max(4), None, (1, 16))
    wild = draw.happens((draw.severity - 0.4).clamp_min(0) * (0 if plain else 1.1))
    zero = torch.zeros(1)
    sigma = torch.where(wild & draw.happens(0.8), draw.uniform(0.4, 2.6), zero)
    sigma = draw.named("sigma", sigma, None, (0, 50))
    grain = torch.where(wild & draw.happens(0.6), draw.log_uniform(1, 12), zero)
    grain = draw.named("noise", grain, None, (0, 255))
    quality = torch.where(wild & draw.happens(0.7), draw.uniform(35, 95).round(), zero)
    quality = draw.named("quality", quality, None, (0, 95))
    standard = draw.randn(*clean.shape)
    enlargement = draw.kind(ENLARGEMENTS, {"factor": "bicubic"}, name="enlargement")
    source = clean
    if bool((sigma > 0).any()):
        source = torch.where(column(sigma > 0, clean) > 0, gaussian(clean, sigma), clean)
    result = torch.empty_like(clean)
    height, width = clean.shape[-2:]
    for index, kind in enumerate(kinds):
        size = (
            max(1, round(height / float(factor[index]))),
            max(1, round(width / float(factor[index]))),
        )
        small = shrink(source[index : index + 1], size, kind)
        if grain[index] > 0:
            small = small + standard[index : index + 1, :, : size[0], : size[1]].to(clean) * (
                grain[index] / 255
            )
        if quality[index] > 0:
            small = jpeg(small[0], int(quality[index]))[None]
        result[index] = enlarged(small.clamp(0, 1), (height, width), enlargement[index])[0]
    return result.clamp(0, 1), draw.parameters()


def shrink(x: Tensor, size: tuple[int, int], kind: str) -> Tensor:
    """Resize (B, C, H, W) to a smaller (height, width); bicubic is MATLAB's kernel, a = -0.5."""
    if kind == "area":
        return functional.interpolate(x, size, mode="area")
    return functional.interpolate(x, size, mode=kind, align_corners=False, antialias=True)
