"""Rain: layers of falling streaks, screened or added onto the photo, and the veil of heavy rain.

Apart because a streak layer is a small image model of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from autodir.imaging.convolution import convolve
from autodir.synthesis.draws import Draws, Fixed, Parameters, column, mask
from autodir.synthesis.filters import smooth_field
from autodir.synthesis.scene import distant_part

_LAYERS, _MOST_LAYERS = 4, 6
"""The most layers of a shower, and those of lines, no two of which run the same way."""
_HALF = math.sqrt(2 * math.log(2))
"""Half of the width at half of the peak of a Gaussian, in its deviations."""
_BLENDS = {"screen": 0.45, "add": 0.55}


@dataclass(frozen=True, kw_only=True)
class _Style:
    """How the streaks of a shower look.

    Attributes:
        share: of all showers.
        spread: degrees between the layers (standard deviation).
        layers: more than others have, and at most.
        length, width: of the streaks in pixels, smallest and largest.
        coverage, intensity: of one layer, without severity and with all of it.
        calm: share of a layer that no gust takes away.
        limit: opacity of drops of one layer that hide each other; lines do not.
        blunt: of even opacity up to the edges.
        deep: many and far away, so that the mist is thicker where the scene is deeper.
        behind: none of it is before what is near.
    """

    share: float
    spread: float
    layers: tuple[int, int] = (0, _LAYERS)
    length: tuple[float, float] = (10, 110)
    width: tuple[float, float] = (0.9, 2.6)
    coverage: tuple[float, float] = (0.042, 0.15)
    intensity: tuple[float, float] = (0.3, 0.72)
    calm: float = 0.55
    limit: float = 1.0
    blunt: bool = False
    deep: bool = False
    behind: bool = False


_FINE = _Style(
    share=0.13, spread=7.0, layers=(1, _LAYERS), length=(7, 42), width=(0.7, 1.6),
    coverage=(0.08, 0.22), intensity=(0.15, 0.4), calm=0.2, deep=True,
)  # fmt: skip
_STYLES: Mapping[str, _Style] = {
    "parallel": _Style(share=0.26, spread=3.0),
    "crossing": _Style(share=0.16, spread=26.0),
    "fine": _FINE,
    # What is seen only between near things is fainter than what is before all of them.
    "distant": replace(_FINE, share=0.17, intensity=(0.23, 0.48), behind=True),
    "dense": _Style(share=0.1, spread=9.0, width=(1.0, 8.3), coverage=(0.084, 0.3), blunt=True),
    "lines": _Style(
        share=0.18, spread=6.0, layers=(2, _MOST_LAYERS), length=(20, 173), width=(1.0, 4.4),
        coverage=(0.042, 0.36), intensity=(0.15, 0.36), calm=0.85, limit=3.0, blunt=True,
    ),
}  # fmt: skip
_GRAY, _TINT = 0.6, 0.04
"""Share of the showers that add alike to all channels, as drops do that show the sky, and the
deviation between the channels of the others."""
_MISTY = 0.5
"""Share of the showers with mist: those that are made by hand have none."""
_NEAR = (0.15, 0.55)
"""Share of a photo that lies before a distant shower."""


def rain(
    clean: Tensor, severity: Tensor, generator: torch.Generator, fixed: Fixed | None = None
) -> tuple[Tensor, Parameters]:
    """Let it rain: O = (1 - v) · blend(B, S_1 + ... + S_n) + v · A.

    The streaks of *fine* rain are short, thin and many, and its veil is thicker here than there:
    what a long lens sees of a shower. *Distant* rain is such behind what is near, which has neither
    streaks nor mist before it. *Dense* rain hides half of the photo and more behind bands
    of even opacity, as a lens that is in focus on the drops shows them. *Lines* are long, sharp and
    half transparent; they run a few degrees apart and over each other, until nothing lies between
    them. The other styles are single drops near the camera.

    Args:
        clean: (B, 3, H, W) in [0, 1], sRGB-encoded.
        severity: (B,) in [0, 1].
        generator: source of all randomness.
        fixed: ``layers`` (1-6), ``angle`` (degrees from vertical), ``length`` and ``width`` (px),
            ``coverage`` (share of pixels under the streaks of one layer), ``intensity`` (0-1),
            ``tint`` (deviation between the channels of the streaks, 0-1), ``veil`` (0-1), ``kind``
            (screen, add), ``style`` (parallel, crossing, fine, distant, dense, lines).

    Returns:
        Rainy image in [0, 1] and the parameters per sample.
    """
    draw = Draws(severity, generator, fixed)
    height, width = clean.shape[-2:]
    scale = max(1.0, min(height, width) / 512)
    blends = draw.kind(_BLENDS)
    names = draw.kind({name: style.share for name, style in _STYLES.items()}, name="style")
    styles = [_STYLES[name] for name in names]
    deep, blunt = (_each(styles, name) > 0 for name in ("deep", "blunt"))
    more, most = _each(styles, "layers").unbind(-1)
    extra = draw.linear(0, 2.6) + draw.uniform(0, 0.9)
    layers = (1 + extra.floor() + more).minimum(most)
    layers = draw.named("layers", layers, None, (1, _MOST_LAYERS))
    angle = draw.named("angle", draw.randn(draw.count).clamp(-2.5, 2.5) * 17, None, (-90, 90))
    length = draw.log_uniform(*_each(styles, "length").unbind(-1))
    length = draw.named("length", length * scale, None, (1, 2000))
    thickness = draw.log_uniform(*_each(styles, "width").unbind(-1))
    thickness = draw.named("width", thickness * scale, None, (0.3, 100))
    coverage = draw.logarithmic(*_each(styles, "coverage").unbind(-1))
    coverage = draw.named("coverage", coverage * draw.log_uniform(0.75, 1.35), None, (0, 1))
    intensity = draw.linear(*_each(styles, "intensity").unbind(-1)) * draw.uniform(0.8, 1.25)
    intensity = draw.named("intensity", intensity, None, (0, 1))
    fog = draw.uniform(0, 0.22) * (draw.severity - 0.5).clamp_min(0) * 2
    fog = torch.where(deep, draw.uniform(0, 0.4) * draw.severity, fog) * draw.happens(_MISTY)
    veil = draw.named("veil", fog, None, (0, 1))
    spread = _each(styles, "spread")
    shape = (draw.count, _MOST_LAYERS)
    # The first layer falls at the angle asked for, the others around it.
    around = draw.randn(*shape) * (torch.arange(_MOST_LAYERS) > 0)
    angles = angle[:, None] + spread[:, None] * around
    ratio = torch.exp(0.35 * draw.randn(*shape))
    lengths, widths = length[:, None] * ratio, thickness[:, None] * ratio.sqrt()
    density = coverage[:, None] / (lengths * widths).clamp_min(1)
    tint = torch.where(draw.happens(_GRAY), torch.zeros(1), _TINT)
    tint = draw.named("tint", tint, None, (0, 1)).view(-1, 1, 1, 1)
    tint = 1 + tint * draw.randn(draw.count, 3, 1, 1)
    air = draw.uniform(0.6, 0.95)
    seed = draw.rand(*shape, 4, 4)
    streaks = torch.zeros(draw.count, 1, height, width).to(clean)
    limit, calm = (column(_each(styles, name), clean) for name in ("limit", "calm"))
    for layer in range(_MOST_LAYERS):
        rows = (layers > layer).nonzero().flatten()
        drops = draw.rand(draw.count, 1, height, width)
        # One draw is both the place of a streak and its brightness.
        level = (drops / density[:, layer].view(-1, 1, 1, 1).clamp_min(1e-9))[rows]
        drops = torch.where(level < 1, 0.35 + 0.65 * level, 0.0)
        if not len(rows):
            break
        kernels = streak_kernels(
            lengths[rows, layer], widths[rows, layer], angles[rows, layer], blunt[rows]
        )
        fallen = convolve(drops.to(clean), kernels.to(clean), "zero").clamp_min(0)
        fallen = fallen.minimum(limit[rows])
        gusts = smooth_field(seed[rows, layer, None], height, width).clamp(0, 1).to(clean)
        streaks[rows.to(clean.device)] += fallen * (calm[rows] + (1 - calm[rows]) * gusts)
    # What a shower hides is what is far away: its transmission falls with the depth.
    depth = smooth_field(draw.rand(draw.count, 1, 3, 3), height, width).clamp(0, 1).to(clean)
    depth = torch.where(column(deep, clean) > 0, 0.4 + 1.2 * depth, 1.0)
    coarse, near = draw.rand(draw.count, 1, 5, 5), draw.uniform(*_NEAR)
    away = torch.ones_like(clean[:, :1])
    for row in _each(styles, "behind").nonzero().flatten().tolist():
        away[row] = distant_part(clean[row, None], coarse[row, None], float(near[row]))[0]
    total = (streaks * away * column(intensity, clean)).clamp(0, 1)
    total = (total * tint.to(clean)).clamp(0, 1)
    screen = column(mask(blends, "screen"), clean) > 0
    wet = torch.where(screen, 1 - (1 - clean) * (1 - total), clean + total).clamp(0, 1)
    amount = 1 - (1 - column(veil, clean)) ** (away * depth)
    return ((1 - amount) * wet + amount * column(air, clean)).clamp(0, 1), draw.parameters()


def _each(styles: Sequence[_Style], name: str) -> Tensor:
    """One attribute of the style of each sample, (B,) or, of pairs, (B, 2)."""
    shape = torch.tensor(getattr(_FINE, name)).shape
    values = [getattr(style, name) for style in styles]
    return torch.tensor(values, dtype=torch.float32).reshape(len(styles), *shape)


def streak_kernels(
    length: Tensor, width: Tensor, angle: Tensor, blunt: Tensor | None = None
) -> Tensor:
    """Streaks as kernels of peak 1: a line with tapered ends and a Gaussian cross-section.

    Args:
        length: (N,) pixels.
        width: (N,) full width at half maximum in pixels.
        angle: (N,) degrees from vertical; positive leans to the right at the top.
        blunt: (N,) those of even opacity up to their edges, by default none.

    Returns:
        (N, k, k), not normalized: the peak is the streak's opacity.
    """
    reach = max(1, math.ceil(float((length / 2 + width).max()))) if len(length) else 1
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    radians = (angle * (math.pi / 180))[:, None, None]
    along = x * radians.sin() - y * radians.cos()
    across = x * radians.cos() + y * radians.sin()
    sigma = (width / (2 * _HALF)).clamp_min(0.3)[:, None, None]
    half = (length / 2).clamp_min(0.5)[:, None, None]
    sharp = torch.zeros_like(half, dtype=torch.bool) if blunt is None else blunt[:, None, None]
    taper = ((1 - along.abs() / half) * torch.where(sharp, 8.0, 2.5)).clamp(0, 1)
    # Half of the peak at half of the width, whatever the exponent is.
    falling = (across / (_HALF * sigma)).abs() ** torch.where(sharp, 8.0, 2.0)
    return taper * torch.exp(-math.log(2) * falling)
