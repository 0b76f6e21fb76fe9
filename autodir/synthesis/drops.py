"""Raindrops on the lens: small bent views of the scene, out of focus.

Apart because a drop is rendered, not filtered.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from autodir.synthesis.draws import Draws, Fixed, Parameters, column
from autodir.synthesis.filters import gaussian, smooth_field

_SIDE = 320
_MOST = 120
_WIDEST = 14.0
_IN_FOCUS = 0.35
"""Share of the photos whose lens is in focus, so that drops have edges."""
_SPRAYED = 0.35
"""Share of the photos through glass that is wet all over: large, soft drops that run together."""
_FILMED = 0.5
"""Share of the photos with a film of the finest drops between the others."""
# A frame with a shorter side below this is taken for a crop of a larger one.
_FRAME = 512


def raindrop(
    clean: Tensor, severity: Tensor, generator: torch.Generator, fixed: Fixed | None = None
) -> tuple[Tensor, Parameters]:
    """Cover the lens with drops: I = (1 - f) ((1 - M) B + M R) + f L.

    Each drop shows the scene behind it upside down and minified (R), blurred, darker at its rim and
    with a glint, and it gathers light L from beyond the frame too; M falls off softly. The film f
    is what drops too small to be seen scatter. Positions and sizes are relative to the frame, and
    small frames count as crops of larger ones.

    Args:
        clean: (B, 3, H, W) in [0, 1], sRGB-encoded.
        severity: (B,) in [0, 1].
        generator: source of all randomness.
        fixed: ``count`` (1-120 drops), ``radius`` (px, median), ``opacity`` (0-1), ``softness``
            (0.05-1, share of the drop that is edge), ``blobs`` (0-1, share of large blurred drops),
            ``defocus`` (0-2, deviation of the blur of the drops over their radius), ``film`` (0-1,
            share of light that the finest drops scatter where they are thickest), ``beyond`` (0-1,
            share of L that comes from outside the frame).

    Returns:
        Image in [0, 1] and the parameters per sample.
    """
    draw = Draws(severity, generator, fixed)
    height, width = clean.shape[-2:]
    shorter = min(height, width)
    frame = float(shorter) if shorter >= _FRAME else (shorter * _FRAME) ** 0.5
    area = height * width / frame**2
    count = (draw.logarithmic(24, 110) * area * draw.uniform(0.7, 1.3)).clamp(3, _MOST).round()
    count = draw.named("count", count, None, (1, _MOST))
    sharp = draw.rand(draw.count) < _IN_FOCUS
    defocus = torch.where(sharp, torch.zeros(1), draw.log_uniform(0.12, 0.9))
    sprayed = draw.happens(_SPRAYED)
    defocus = torch.where(sprayed, draw.log_uniform(0.3, 1.0), defocus)
    defocus = draw.named("defocus", defocus, None, (0, 2))
    # What is out of focus is larger, and fainter where it is small.
    radius = draw.logarithmic(0.016, 0.024) * frame * draw.log_uniform(0.7, 1.6)
    radius = torch.where(sprayed, radius * draw.linear(1.2, 2.0), radius)
    radius = draw.named("radius", radius * (1 + 0.8 * defocus), None, (0.5, 4000))
    opacity = draw.named("opacity", draw.linear(0.7, 0.97), None, (0, 1))
    softness = draw.named("softness", draw.log_uniform(0.25, 0.95), None, (0.05, 1))
    blobs = draw.named("blobs", draw.uniform(0, 0.35), None, (0, 1))
    film = draw.linear(0.05, 0.35) * draw.uniform(0, 1) * draw.happens(_FILMED)
    film = draw.named("film", film, None, (0, 1))
    beyond = draw.named("beyond", draw.uniform(0, 1) * draw.happens(0.5), None, (0, 1))
    view = draw.uniform(2.0, 5.0)
    shrink = max(1.0, max(height, width) / _SIDE)
    size = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    small = radius / shrink
    drops = _Drops(draw, count, small, opacity, softness, blobs)
    wobble = smooth_field(draw.randn(draw.count, 2, 12, 12), *size)
    fields = drops.render(size, wobble * (0.13 * small).view(-1, 1, 1, 1)).to(clean)
    cover, offset_y, offset_x, cap, veil, center_y, center_x = fields.chunk(7, 1)
    # Upside down and minified: the offset from the drop's center, times minus the view.
    reach = column(view, clean)
    seen_y, seen_x = center_y - offset_y * reach, center_x - offset_x * reach
    place = torch.cat([2 * (seen_x + 0.5) / size[1] - 1, 2 * (seen_y + 0.5) / size[0] - 1], 1)
    texture = _texture(clean, size, draw.uniform(0.5, 2.2))
    inside = functional.grid_sample(
        texture, place.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False
    )
    # A drop gathers light from a wide angle: its color leans to the bright part of the scene.
    bright = texture.flatten(2).topk(max(1, size[0] * size[1] // 4), dim=2).values.mean(2)
    # The sky is bright, and nearly without color, whatever the frame shows of it.
    sky = draw.uniform(0.6, 1.0)[:, None] + 0.04 * draw.randn(draw.count, 3)
    light = torch.lerp(bright, sky.to(bright), beyond[:, None].to(bright))[..., None, None]
    haze = (column(draw.uniform(0.1, 0.75), clean) + veil).clamp(0, 0.85)
    inside = (1 - haze) * inside + haze * light
    up, aside = offset_y / column(small, clean), offset_x / column(small, clean)
    rim = 1 - column(draw.uniform(0.05, 0.4), clean) * (1 - cap).clamp(0, 1).square()
    lit = 1 + column(draw.uniform(-0.1, 0.25), clean) * up
    spot = torch.exp(-((up + 0.4).square() + (aside + 0.25).square()) / 0.03) * (veil == 0)
    glint = column(draw.uniform(0, 0.5), clean) * spot
    drop_colors = (inside * rim * lit.clamp(0.7, 1.3) + glint).clamp(0, 1)
    layer = _out_of_focus(drop_colors, cover, defocus * small)
    if shrink > 1:
        layer = functional.interpolate(layer, (height, width), mode="bilinear", align_corners=False)
    cover = layer[:, 3:]
    seen = (1 - cover) * clean + cover * layer[:, :3]
    thick = smooth_field(draw.rand(draw.count, 1, 6, 6), height, width).clamp(0, 1).to(clean)
    scattered = column(film, clean) * thick
    return ((1 - scattered) * seen + scattered * light).clamp(0, 1), draw.parameters()


class _Drops:
    """Attributes of up to N drops per sample, in pixels of the rendering grid."""

    def __init__(
        self,
        draw: Draws,
        count: Tensor,
        radius: Tensor,
        opacity: Tensor,
        softness: Tensor,
        blobs: Tensor,
    ) -> None:
        most = int(count.max().item()) if draw.count else 0
        shape = (draw.count, most)
        self.y, self.x = draw.rand(*shape), draw.rand(*shape)
        self.blob = draw.rand(*shape) < blobs[:, None]
        spread = torch.exp(0.45 * draw.randn(*shape))
        grow = torch.where(self.blob, 1.4 + draw.rand(*shape), torch.ones(1))
        self.radius = (radius[:, None] * spread * grow).clamp_min(0.8)
        self.tall = 1 + 0.45 * draw.rand(*shape) * ~self.blob
        faint = torch.where(
            self.blob, 0.35 + 0.35 * draw.rand(*shape), 0.75 + 0.25 * draw.rand(*shape)
        )
        present = torch.arange(most) < count[:, None]
        self.opacity = opacity[:, None] * faint * present
        self.softness = torch.where(self.blob, torch.ones(1), softness[:, None].expand(shape))

    def render(self, size: tuple[int, int], warp: Tensor) -> Tensor:
        """(B, 7, h, w): cover, offset from the center (y, x), cap height, veil, center (y, x)."""
        y = torch.arange(size[0], dtype=torch.float32).view(-1, 1) + warp[:, 0]
        x = torch.arange(size[1], dtype=torch.float32) + warp[:, 1]
        fields = torch.zeros(len(self.y), 7, *size)
        far = warp.abs().amax((1, 2, 3)).tolist()
        for sample, drop in (self.opacity > 0).nonzero().tolist():
            radius, tall = float(self.radius[sample, drop]), float(self.tall[sample, drop])
            center_y = float(self.y[sample, drop]) * size[0] - 0.5
            center_x = float(self.x[sample, drop]) * size[1] - 0.5
            # No pixel further away than this is covered, wherever the wobble moves it.
            down, aside = radius * tall + far[sample] + 1, radius + far[sample] + 1
            box = (
                slice(max(0, int(center_y - down)), max(0, int(center_y + down) + 2)),
                slice(max(0, int(center_x - aside)), max(0, int(center_x + aside) + 2)),
            )
            dy, dx = y[sample][box] - center_y, x[sample][box] - center_x
            cap = 1 - ((dy / tall).square() + dx.square()) / radius**2
            cover = (cap / float(self.softness[sample, drop])).clamp(0, 1)
            cover = cover * cover * (3 - 2 * cover) * float(self.opacity[sample, drop])
            flat = torch.ones_like(cap)
            veil = 0.25 * float(self.blob[sample, drop])
            drawn = torch.stack([cover, dy, dx, cap, veil * flat, center_y * flat, center_x * flat])
            here = fields[(sample, slice(None), *box)]
            fields[(sample, slice(None), *box)] = torch.where(cover > here[0], drawn, here)
        return fields


def _out_of_focus(colors: Tensor, cover: Tensor, sigma: Tensor) -> Tensor:
    """The drops (B, 3, h, w) and their cover (B, 1, h, w), both blurred by ``sigma`` (B,) pixels.

    Colors are blurred as light is, where there is a drop; (B, 4, h, w), the cover last.
    """
    blurred = gaussian(torch.cat([colors * cover, cover], 1), sigma.clamp_max(_WIDEST))
    spread = blurred[:, 3:]
    return torch.cat([blurred[:, :3] / spread.clamp_min(1e-4), spread], 1)


def _texture(clean: Tensor, size: tuple[int, int], sigma: Tensor) -> Tensor:
    """The scene as a drop sees it: at rendering size, out of focus."""
    small = functional.interpolate(
        clean, size, mode="bilinear", align_corners=False, antialias=True
    )
    return gaussian(small, sigma)
