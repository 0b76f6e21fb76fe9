"""The light of a photo put right as a whole: haze and darkness, told by its statistics.

Apart from the convolutions, because how dense a veil is and how dark a scene was no neighborhood
can tell: here the distribution of a photo's values says how much of which image each channel of the
result is made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.correction.experts import Ensemble, Experts
from autodir.imaging.neighborhoods import darkest, guided_map, shrunk

THUMBNAIL = 128
"""Longer side in pixels of what the statistics are taken from."""
LIT = ("haze", "underexposure")
"""The degradations that have one by default: those whose measure is the whole photo, which are a
matter of light and hardly anything else."""
LATE = frozenset({"rain"})
"""Degradations whose repair is not one of light first of all: how much of it is left over shows in
what was corrected, which their experts read, and a slight change of light is none at all."""
SLIGHT = (0.02, 0.05)
"""Root of the mean squared change up to which those experts change nothing, and from which on
everything that they say is done. What they say of a photo that was repaired well is wrong as often
as right, and it is little."""
BRIGHTENED = frozenset({"underexposure"})
"""Degradations whose repair darkens nothing. A mixture that was learnt from dark photos holds a
square, which would turn what is brighter than all of them, lamps and the moon, dark."""
STRIP = 2**18
"""Pixels that are put together at a time, so that a large photo takes no copies of itself."""
BASIS = 8
"""Images that a channel of the result is mixed of, the constant one included."""
FIRST = 5
"""Place of C among them: an untrained mixture is C."""

_QUANTILES = (
    0.002, 0.01, 0.03, 0.08, 0.15, 0.25, 0.4, 0.5, 0.6, 0.75, 0.85, 0.92, 0.97, 0.99, 0.998,
)  # fmt: skip
_BRIGHTNESS = (0.2, 0.35, 0.5, 0.65, 0.8)
_BANDS = 4
_CELL = 8
_PATCH = 7
_RADIUS = 11
_HAZE_REMOVED = 0.95
_LEAST_TRANSMISSION = 0.1
_OUTPUT = 0.3


@dataclass(frozen=True)
class Veil:
    """Haze as the dark channel prior sees it (He, Sun and Tang, CVPR 2009).

    Attributes:
        air: airlight (B, 3, 1, 1).
        slope, offset: transmission = slope · gray + offset, (B, 1, h, w) of a thumbnail: the
            guided filter, whose maps may be enlarged (He and Sun, arXiv:1505.00996).
    """

    air: Tensor
    slope: Tensor
    offset: Tensor

    @classmethod
    def of(cls, photo: Tensor) -> Veil:
        """Estimate it from a thumbnail (B, 3, h, w) in [0, 1]."""
        dark = darkest(photo, _PATCH)
        count = max(1, dark[0].numel() // 1000)
        brightest = dark.flatten(1).topk(count).indices[:, None].expand(-1, 3, -1)
        air = photo.flatten(2).gather(2, brightest).mean(2).clamp_min(1e-3)[..., None, None]
        raw, gray = 1 - _HAZE_REMOVED * darkest(photo / air, _PATCH), photo.mean(1, keepdim=True)
        return cls(air, *guided_map(gray, raw, _RADIUS))

    def lifted(self, photo: Tensor, top: int = 0, height: int | None = None) -> Tensor:
        """J = (I - A) / t + A of some rows of the photo, in [0, 1].

        Args:
            photo: (B, 3, rows, W) in [0, 1].
            top: the first of the rows.
            height: rows of the whole photo; those given by default.
        """
        slope, offset = (
            rows_of(part, top, photo.shape[-2], height or photo.shape[-2], photo.shape[-1])
            for part in (self.slope, self.offset)
        )
        transmission = slope * photo.mean(1, keepdim=True) + offset
        clear = (photo - self.air) / transmission.clamp_min(_LEAST_TRANSMISSION) + self.air
        return clear.clamp(0, 1)


def statistics(photo: Tensor, repaired: Tensor) -> Tensor:
    """How the values of photos are distributed, (B, F).

    Args:
        photo: thumbnails (B, 3, h, w) in [0, 1].
        repaired: the same without the veil of the dark channel prior, or C.
    """
    gray, dark = photo.mean(1, keepdim=True), darkest(photo, _PATCH)
    fine = (photo - F.avg_pool2d(photo, 5, 1, 2, count_include_pad=False)).abs()
    vividness = photo.amax(1, keepdim=True) - photo.amin(1, keepdim=True)
    parts = [_quantiles(image) for image in (photo, repaired, dark, fine, vividness)]
    parts += [image.flatten(2).std(-1, correction=0) for image in (photo, repaired)]
    bands = F.adaptive_avg_pool2d(torch.cat([gray, gray * gray], dim=1), (_BANDS, 1)).flatten(2)
    parts += [bands[:, 0], (bands[:, 1] - bands[:, 0].square()).clamp_min(0).sqrt()]
    # Contrast by brightness: haze takes it from what is bright.
    cells = F.avg_pool2d(torch.cat([gray, gray * gray], dim=1), _CELL, ceil_mode=True).flatten(2)
    spread = (cells[:, 1] - cells[:, 0].square()).clamp_min(0).sqrt()
    level = torch.bucketize(cells[:, 0].contiguous(), gray.new_tensor(_BRIGHTNESS))
    share = F.one_hot(level, len(_BRIGHTNESS) + 1).to(gray).transpose(1, 2)
    parts += [share.mean(2), (share * spread[:, None]).sum(2) / share.sum(2).clamp_min(1)]
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def basis(
    degraded: Tensor, lifted: Tensor, restored: Tensor, corrected: Tensor
) -> Iterator[Tensor]:
    """The `BASIS` images that a result is mixed of, (B, 3, h, w) each, one by one.

    Args:
        degraded: I, (B, 3, h, w) in [0, 1].
        lifted: I without the veil of the dark channel prior.
        restored: I_sd.
        corrected: C.
    """
    yield degraded
    yield degraded.clamp_min(0).sqrt()
    yield degraded.square()
    yield lifted
    yield restored
    yield corrected
    yield corrected.square()
    yield torch.ones_like(corrected)


def stacked(degraded: Tensor, lifted: Tensor, restored: Tensor, corrected: Tensor) -> Tensor:
    """The `basis` at once, (B, 3, 8, h · w), which is little where all four are thumbnails."""
    return torch.stack(list(basis(degraded, lifted, restored, corrected)), dim=2).flatten(3)


class Light(Ensemble):
    """From a photo's statistics to the shares of the `basis` in each channel of the result.

    Args:
        hidden, members, dropout: see `Ensemble`.
        late: whether its statistics are those of I and C, see `LATE`; else of I and of I without
            the veil of the dark channel prior.
    """

    def __init__(self, hidden: int, members: int, dropout: float, *, late: bool = False) -> None:
        blank = torch.zeros(1, 3, _CELL, _CELL)
        count = statistics(blank, blank).shape[1]
        super().__init__(
            count, inputs=count, outputs=3 * BASIS, hidden=hidden, members=members, dropout=dropout
        )
        self.late = late

    def noted(self, small: Tensor, lifted: Tensor, corrected: Tensor) -> Tensor:
        """The statistics that are read, (B, F), from thumbnails (B, 3, h, w) of I and of both."""
        return statistics(small, corrected if self.late else lifted)

    def shares(self, small: Tensor, lifted: Tensor, restored: Tensor, corrected: Tensor) -> Tensor:
        """What is added to C alone, as shares of the `basis`.

        Args:
            small, lifted: thumbnails (B, 3, h, w) of I and of I without the veil.
            restored, corrected: I_sd and C of any size, which a late expert alone looks at.

        Returns:
            (B, 3, 8); 0 for changes that are `SLIGHT`, where those are left out.
        """
        repaired = shrunk(corrected, THUMBNAIL).float().clamp(0, 1) if self.late else lifted
        told: Tensor = self(self.standard(self.noted(small, lifted, repaired)))
        told[..., FIRST] -= 1
        if self.late:
            images = stacked(small, lifted, shrunk(restored, THUMBNAIL).float(), repaired)
            change = (told[:, :, None] @ images).square().mean((1, 2, 3)).sqrt()
            least, full = SLIGHT
            told *= ((change - least) / (full - least)).clamp(0, 1)[:, None, None]
        return told

    def told_by(self, member: nn.Module, standard: Tensor) -> Tensor:
        """Shares (B, 3, 8); an untrained network asks for C alone."""
        weight = next(member.parameters())
        told: Tensor = member(standard.to(weight.dtype))
        raw: Tensor = _OUTPUT * told.float().unflatten(1, (3, BASIS))
        raw[..., FIRST] += 1
        return raw

    def forget_correction(self) -> None:
        """C, which is half of the truth to a fresh network, is to count for nothing at first."""
        rows = torch.arange(FIRST, 3 * BASIS, BASIS)
        with torch.no_grad():
            for member in self.members:
                assert isinstance(member, nn.Sequential)
                last = member[-1]
                assert isinstance(last, nn.Linear)
                last.weight[rows] = 0
                last.bias[rows] = -1 / _OUTPUT


class Lighting(Experts):
    """The experts of light, and the gate that says how much of each is asked for.

    Args:
        embed_dim: width of the instruction vector.
        experts: the degradations that have one.
        hidden, members, dropout: of each, see `Light`.
        late: the degradations whose experts are late ones.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        experts: Sequence[str] = LIT,
        hidden: int = 256,
        members: int = 4,
        dropout: float = 0.2,
        late: Sequence[str] = (),
    ) -> None:
        shape = {"hidden": hidden, "members": members, "dropout": dropout, "late": list(late)}
        super().__init__(embed_dim, experts, shape)

    def fresh(self, key: str) -> Light:
        """An expert of fresh weights, which changes nothing."""
        config = self.config
        size = config["hidden"], config["members"], config["dropout"]
        return Light(*size, late=key in config["late"])

    def renewed(self, key: str, seed: int) -> nn.Module:
        """As of all experts; one of `LATE` is late from then on."""
        self.config["late"] = sorted({*self.config["late"], *LATE & {key}})
        return super().renewed(key, seed)

    @torch.inference_mode()
    def relight(
        self,
        degraded: Tensor,
        restored: Tensor,
        corrected: Tensor,
        instruction: Tensor,
        weight: float = 1.0,
    ) -> Tensor:
        """Put the light of one photo right, in place.

        Args:
            degraded: I, (1, 3, H, W) in [0, 1].
            restored: I_sd, the same shape.
            corrected: C, what the correction made of both, the same shape; it is changed.
            instruction: pooled text embedding (1, embed_dim).
            weight: of what is added.

        Returns:
            ``corrected``.

        Raises:
            ContractError: the instruction is of another width.
        """
        asked = self.asked_of(Light, instruction)
        if not asked:
            return corrected
        small = shrunk(degraded, THUMBNAIL).float()
        veil = Veil.of(small)
        lifted = veil.lifted(small)
        shares = corrected.new_zeros(1, 3, BASIS)
        for expert, share in asked:
            told = expert.shares(small, lifted, restored, corrected)
            shares += weight * share[:, None, None] * told
        darkness = [one for key, one in self.experts.items() if key in BRIGHTENED]
        brightened = min(1.0, weight * sum(float(share) for one, share in asked if one in darkness))
        height, width = corrected.shape[-2:]
        step = max(1, STRIP // width)
        for top in range(0, height, step):
            rows = [image[..., top : top + step, :] for image in (degraded, restored, corrected)]
            images = basis(rows[0], veil.lifted(rows[0], top, height), *rows[1:])
            added = torch.zeros_like(rows[2])
            for share, image in zip(shares.unbind(2), images, strict=True):
                added.addcmul_(share[..., None, None], image)
            rows[2] += added
            if brightened:
                rows[2].add_((rows[0] - rows[2]).clamp_min_(0), alpha=brightened)
        return corrected


def rows_of(small: Tensor, top: int, rows: int, height: int, width: int) -> Tensor:
    """Some rows of a map (B, C, h, w) enlarged to (height, width), bilinear."""
    if (rows, width) == small.shape[-2:] and rows == height:
        return small
    y = (2 * (torch.arange(top, top + rows, device=small.device) + 0.5) / height - 1)[:, None]
    x = (2 * (torch.arange(width, device=small.device) + 0.5) / width - 1)[None]
    where = torch.stack([x.expand(rows, width), y.expand(rows, width)], dim=-1)
    return F.grid_sample(
        small, where[None].to(small).expand(len(small), -1, -1, -1),
        padding_mode="border", align_corners=False,
    )  # fmt: skip


def _quantiles(image: Tensor) -> Tensor:
    """(B, C, h, w) → (B, C, 15)."""
    ordered = image.flatten(2).sort(dim=-1).values
    places = torch.tensor(_QUANTILES, device=image.device) * (ordered.shape[-1] - 1)
    return ordered[..., places.round().long()]
