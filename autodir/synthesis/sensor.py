"""The noise of a real sensor: measured from frames, modeled over ISO speeds, and undone by k-sigma.

Apart from the operator that adds noise, because a camera is measured once and used often.

The model is Poisson-Gaussian, z = K · Poisson(e) + N(0, s²), so that E z = μ and Var z = K·μ + s²,
in linear light where 1 is white.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autodir.errors import ConfigError, ContractError
from autodir.options import check_keys
from autodir.synthesis.specification import Specification

SCHEMA = "autodir.noise/1"
BASE_ISO = 100.0
_CLIPPED = 1e-3
"""Share of samples at black or white above which a measurement is left out: it is too narrow."""
_RANGE = 0.02
"""Of brightness that a line needs, where 1 is white: less is the noise of the means."""
_BINS = 64
_ROUNDS = 5


def iso_to_gain(iso: float) -> float:
    """The gain over ISO 100: 6400 → 64."""
    return iso / BASE_ISO


def gain_to_decibels(gain: float) -> float:
    """20 · log10 of a gain: 64 → 36.12 dB."""
    return 20 * math.log10(gain)


def decibels_to_gain(decibels: float) -> float:
    """The inverse of `gain_to_decibels`."""
    return float(10 ** (decibels / 20))


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Means and variances of parts of a scene.

    Attributes:
        mean, variance: (P,) in linear light.
        freedom: (P,) degrees of freedom behind each variance.
    """

    mean: Tensor
    variance: Tensor
    freedom: Tensor


@dataclass(frozen=True, kw_only=True)
class NoiseLevel:
    """The noise at one ISO speed.

    Attributes:
        iso: the speed.
        shot: K, variance per unit of light.
        read: s², variance in the dark.
        samples: measurements behind the fit.
    """

    iso: float
    shot: float
    read: float
    samples: int = 0


def measure_flat(frames: Tensor, patch: int = 32) -> Samples:
    """Mean and variance of the patches of pictures of a flat surface.

    A plane is taken off each patch first, since light falls off towards the corners.

    Args:
        frames: (N, C, H, W) in linear light.
        patch: side in pixels.

    Raises:
        ContractError: the frames are smaller than one patch.
    """
    if frames.ndim != 4 or min(frames.shape[-2:]) < patch or patch < 4:
        raise ContractError(f"no patches of {patch} pixels in frames {tuple(frames.shape)}")
    cut = frames.double().unfold(2, patch, patch).unfold(3, patch, patch)
    values = cut.reshape(-1, patch * patch)
    values = values[_open(values)]
    axis = torch.linspace(-1, 1, patch, dtype=torch.float64)
    down, across = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    plane = torch.stack([torch.ones_like(down), down, across], 1)
    basis, _ = torch.linalg.qr(plane)
    rest = values - (values @ basis) @ basis.T
    freedom = patch * patch - 3
    return Samples(
        mean=values.mean(1),
        variance=rest.square().sum(1) / freedom,
        freedom=torch.full((len(values),), float(freedom), dtype=torch.float64),
    )


def measure_repeated(frames: Tensor) -> Samples:
    """Mean and variance over repeated frames of one unmoving scene, pixels of like mean together.

    Args:
        frames: (N, C, H, W) in linear light, N ≥ 2, pixel on pixel.

    Raises:
        ContractError: there are fewer than two frames.
    """
    if frames.ndim != 4 or len(frames) < 2:
        raise ContractError(f"repeated frames must be (N ≥ 2, C, H, W), got {tuple(frames.shape)}")
    values = frames.double().flatten(1).T
    order = values.mean(1).argsort()
    groups = [
        values[rows] for rows in order.chunk(_BINS) if bool(_open(values[rows].flatten()[None]))
    ]
    freedom = [float(len(group) * (len(frames) - 1)) for group in groups]
    return Samples(
        mean=torch.tensor([float(group.mean()) for group in groups], dtype=torch.float64),
        variance=torch.tensor([float(g.var(1).mean()) for g in groups], dtype=torch.float64),
        freedom=torch.tensor(freedom, dtype=torch.float64),
    )


def fit_noise(samples: Samples, iso: float, step: float = 0.0) -> NoiseLevel:
    """The line Var = K·mean + s² through the samples (photon transfer).

    A variance measured with f degrees of freedom has itself the variance 2·Var² / f, so the least
    squares are weighed with f / Var² of the line so far.

    Args:
        samples: of one ISO speed.
        iso: that speed.
        step: width of a quantization step in linear light, whose variance step² / 12 is taken off.

    Raises:
        ConfigError: fewer than two different brightnesses, so that no line is determined.
    """
    mean, variance = samples.mean, samples.variance - step**2 / 12
    if len(mean) < 2 or float(mean.max() - mean.min()) < _RANGE:
        raise ConfigError(
            "the frames show one brightness only, or are clipped",
            "take flat frames at several exposures, or repeated frames of a scene with contrast",
        )
    design = torch.stack([mean, torch.ones_like(mean)], 1)
    weight = samples.freedom.sqrt()
    line = torch.zeros(2, 1, dtype=torch.float64)
    for _ in range(_ROUNDS):
        scaled = design * weight[:, None]
        line = torch.linalg.lstsq(scaled, (variance * weight)[:, None]).solution
        fitted = (design @ line)[:, 0].clamp_min(float(variance.mean()) * 1e-3)
        weight = samples.freedom.sqrt() / fitted
    shot, read = (max(float(value), 0.0) for value in line[:, 0])
    return NoiseLevel(iso=iso, shot=shot, read=read, samples=len(mean))


@dataclass(frozen=True, kw_only=True)
class NoiseProfile:
    """The noise of a camera at several ISO speeds.

    Attributes:
        levels: at least one, by rising ISO.
    """

    levels: tuple[NoiseLevel, ...]

    def __post_init__(self) -> None:
        if not self.levels or min(level.iso for level in self.levels) <= 0:
            raise ConfigError("a noise profile needs at least one ISO speed above 0")

    def at(self, iso: float) -> NoiseLevel:
        """The noise at any ISO: as measured, or by the gain.

        K grows with the gain, and s² = (gain · s_pre)² + s_post²: noise before and after the
        amplifier. One measured speed alone counts as noise before it.
        """
        for level in self.levels:
            if level.iso == iso:
                return level
        gains = torch.tensor([iso_to_gain(level.iso) for level in self.levels]).double()
        shots = torch.tensor([level.shot for level in self.levels]).double()
        reads = torch.tensor([level.read for level in self.levels]).double()
        squared = gains.square()
        before, after = float((reads / squared).mean()), 0.0
        if len(self.levels) > 1:
            slope = float(((squared - squared.mean()) * (reads - reads.mean())).sum())
            slope /= float((squared - squared.mean()).square().sum())
            offset = float(reads.mean()) - slope * float(squared.mean())
            if slope >= 0 and offset >= 0:
                before, after = slope, offset
        gain = iso_to_gain(iso)
        return NoiseLevel(
            iso=iso, shot=gain * float((shots / gains).mean()), read=before * gain**2 + after
        )

    def applied(self, wanted: Specification) -> Specification:
        """The same degradation with this camera's noise, where it names an ISO speed."""
        iso = wanted.fixed.get("iso")
        if wanted.key != "noise" or not isinstance(iso, float):
            return wanted
        level = self.at(iso)
        measured = {"shot": level.shot, "read": level.read}
        return dataclasses.replace(wanted, fixed={**measured, **wanted.fixed})

    def with_level(self, level: NoiseLevel) -> NoiseProfile:
        """The profile with one speed more, or measured again."""
        others = [other for other in self.levels if other.iso != level.iso]
        return NoiseProfile(levels=tuple(sorted([*others, level], key=lambda one: one.iso)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the gain and its decibels beside each speed."""
        rows = [
            dataclasses.asdict(level)
            | {
                "gain": iso_to_gain(level.iso),
                "decibels": round(gain_to_decibels(iso_to_gain(level.iso)), 2),
            }
            for level in self.levels
        ]
        return {"schema": SCHEMA, "space": "linear light", "levels": rows}

    def save(self, path: Path) -> None:
        """Write the profile as JSON."""
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> NoiseProfile:
        """Read a profile.

        Raises:
            ConfigError: the file is missing, or no profile.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            rows = document["levels"]
            known = [field.name for field in dataclasses.fields(NoiseLevel)]
            for row in rows:
                check_keys(row, [*known, "gain", "decibels"], str(path))
            return cls(levels=tuple(NoiseLevel(**{k: row[k] for k in known}) for row in rows))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} is no noise profile: {error}", "make one with autodir calibrate-noise"
            ) from error


def k_sigma(light: Tensor, level: NoiseLevel) -> Tensor:
    """f(x) = x / K + s² / K², whose variance equals its mean, whatever the ISO (arXiv:2010.06935).

    One denoiser then serves every speed; `undo_k_sigma` brings its result back.
    """
    return light / level.shot + level.read / level.shot**2


def undo_k_sigma(values: Tensor, level: NoiseLevel) -> Tensor:
    """The inverse of `k_sigma`."""
    return (values - level.read / level.shot**2) * level.shot


def fit_frames(
    frames: Sequence[Tensor], iso: float, *, repeated: bool = False, patch: int = 32
) -> NoiseLevel:
    """Measure and fit in one go.

    Args:
        frames: (C, H, W) each, in linear light.
        iso: their speed.
        repeated: they show one unmoving scene; otherwise flat surfaces.
        patch: side of the patches of flat surfaces.

    Raises:
        ConfigError: there are too few frames, of different sizes, or they determine no line.
    """
    if repeated and (len(frames) < 2 or len({frame.shape for frame in frames}) > 1):
        raise ConfigError("repeated frames must be two or more, all of one size")
    if repeated:
        return fit_noise(measure_repeated(torch.stack(list(frames))), iso)
    try:
        parts = [measure_flat(frame[None], patch) for frame in frames]
    except ContractError as error:
        raise ConfigError(str(error), "give larger frames or a smaller --patch") from error
    together = (torch.cat([getattr(part, name) for part in parts]) for name in _PARTS)
    return fit_noise(Samples(**dict(zip(_PARTS, together, strict=True))), iso)


_PARTS = ("mean", "variance", "freedom")


def _open(values: Tensor) -> Tensor:
    """(P,) whether the samples in each row of (P, N) keep clear of black and white."""
    share = ((values <= 0) | (values >= 1)).double().mean(1)
    mean, reach = values.mean(1), 3 * values.std(1)
    return (share <= _CLIPPED) & (mean > reach) & (mean + reach < 1)
