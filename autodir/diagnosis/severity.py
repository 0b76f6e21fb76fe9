"""How bad each degradation is, in physical units with an error bar, read off a photo.

Apart from the quality model, which says whether a degradation is there: these few figures are
fitted in minutes (`autodir.training.severity`) and know nothing of its weights.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autodir.diagnosis import appearance, optics
from autodir.errors import ConfigError
from autodir.records import Severity
from autodir.resources import prompts_dir

SCHEMA = 1
FILE = "severity.json"
UNITS: Mapping[str, str] = {
    "noise": "levels",
    "blur": "px",
    "underexposure": "EV",
    "haze": "transmission",
    "compression": "quality",
}
"""Key → unit: deviation in 255 levels, deviation of the kernel, stops, share of light, of JPEG."""

_FILE_ERROR = 1.0
"""Of a JPEG quality that is read from the file's tables."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the raw figure of one degradation becomes a value and an error bar.

    Attributes:
        raw: (N,) increasing raw figures.
        value: (N,) what they mean, in the unit; monotone.
        error: (N,) the half width within which 68 % of the calibration photos lie.
    """

    raw: Tensor
    value: Tensor
    error: Tensor

    def __call__(self, raw: float) -> tuple[float, float]:
        """Value and error, linear between the knots and constant outside."""
        place = int(torch.searchsorted(self.raw, torch.tensor(raw)).clamp(1, len(self.raw) - 1))
        low, high = float(self.raw[place - 1]), float(self.raw[place])
        share = min(1.0, max(0.0, (raw - low) / max(high - low, 1e-9)))
        value, error = (
            float(torch.lerp(knots[place - 1], knots[place], share))
            for knots in (self.value, self.error)
        )
        return value, error


@dataclass(frozen=True, kw_only=True)
class SeverityModel:
    """A regression with one hidden layer on the measures of a photo, and its readings.

    Attributes:
        center, scale: (F,) of the measures.
        inner: (H, F + 1), outer: (K, H + 1) weights, the last column the bias.
        readings: by key, in the order of ``outer``.
    """

    center: Tensor
    scale: Tensor
    inner: Tensor
    outer: Tensor
    readings: Mapping[str, Reading]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SeverityModel:
        """Read what `training.severity` wrote.

        Raises:
            ConfigError: something is missing or does not fit together.
        """
        try:
            if values["schema"] != SCHEMA:
                raise ConfigError(f"severity figures of schema {values['schema']} are unknown")
            tensors = {
                name: torch.tensor(values[name], dtype=torch.float32)
                for name in ("center", "scale", "inner", "outer")
            }
            readings = {
                key: Reading(
                    **{name: torch.tensor(knots[name]) for name in ("raw", "value", "error")}
                )
                for key, knots in values["readings"].items()
            }
            fits = (
                tensors["inner"].shape[1] == len(tensors["center"]) + 1
                and tensors["outer"].shape == (len(readings), len(tensors["inner"]) + 1)
                and readings.keys() <= UNITS.keys()
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ConfigError(f"malformed severity figures: {error}") from error
        if not fits:
            raise ConfigError("malformed severity figures: their sizes do not fit together")
        return cls(readings=readings, **tensors)

    def raw(self, measures: Tensor) -> Tensor:
        """Measures (..., F or more) → one raw figure for each reading (..., K)."""
        x = ((measures[..., : len(self.center)] - self.center) / self.scale).clamp(-4, 4)
        hidden = torch.tanh(x @ self.inner[:, :-1].T + self.inner[:, -1])
        return hidden @ self.outer[:, :-1].T + self.outer[:, -1]

    def read(self, measures: Tensor) -> dict[str, Severity]:
        """Measures (F or more,) of a photo → its severities."""
        raw = self.raw(measures)
        found = {}
        for index, (key, reading) in enumerate(self.readings.items()):
            value, error = reading(float(raw[index]))
            found[key] = Severity(value=value, error=error, unit=UNITS[key])
        return found


def observe(pixels: Tensor, count: int | None = None) -> Tensor:
    """The measures that a severity is read off: those of appearance, then those of the optics.

    Args:
        pixels: (1, 3, H, W) in [0, 1].
        count: as many as are wanted, at least; None: all of them.
    """
    measures = appearance.measure(pixels)
    if count is not None and count <= len(measures):
        return measures
    return torch.cat([measures, optics.measure(pixels)])


def estimate(pixels: Tensor, quality: int | None = None) -> dict[str, Severity]:
    """How bad each degradation with a physical unit is.

    Args:
        pixels: (1, 3, H, W) in [0, 1].
        quality: what the tables of a JPEG file say; it is believed unless the pixels show that the
            photo was compressed more strongly before.

    Returns:
        By key: what the photo would be if it had each one, whether or not that is its trouble.
    """
    model = shipped()
    found = model.read(observe(pixels.cpu(), len(model.center)))
    seen = found.get("compression")
    if quality is not None and seen is not None and quality <= seen.value + 2 * seen.error:
        unit = seen.unit
        found["compression"] = Severity(value=float(quality), error=_FILE_ERROR, unit=unit)
    return found


@functools.cache
def shipped() -> SeverityModel:
    """The figures that come with autodir.

    Raises:
        ConfigError: they are missing or malformed.
    """
    return load(prompts_dir() / FILE)


def load(path: Path) -> SeverityModel:
    """Read fitted figures from a file.

    Raises:
        ConfigError: it is missing or malformed.
    """
    try:
        return SeverityModel.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "reinstall autodir") from error
