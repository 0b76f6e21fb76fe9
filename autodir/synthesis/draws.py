"""Seeded per-sample draws of an operator's parameters, recorded as they are made.

Apart so that every operator names, overrides and reports its parameters in one way.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autodir.errors import ConfigError

Fixed = Mapping[str, float | str]
Parameters = list[dict[str, object]]


class Draws:
    """Draws for a batch; each named value may be fixed by the caller, and is recorded.

    Every draw is made on the CPU whether or not it is overridden, so that fixing one parameter
    leaves the others as they were.
    """

    def __init__(
        self, severity: Tensor, generator: torch.Generator, fixed: Fixed | None = None
    ) -> None:
        self.severity = severity.detach().float().cpu().clamp(0, 1)
        self.count = len(self.severity)
        self._generator = generator
        self._fixed = dict(fixed or {})
        self._used: set[str] = set()
        self._records: Parameters = [{} for _ in range(self.count)]

    def uniform(self, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Tensor:
        """(B,) values between ``low`` and ``high``."""
        return low + (high - low) * torch.rand(self.count, generator=self._generator)

    def log_uniform(self, low: float | Tensor, high: float | Tensor) -> Tensor:
        """(B,) positive values, uniform in the logarithm."""
        return torch.exp(self.uniform(torch.as_tensor(low).log(), torch.as_tensor(high).log()))

    def happens(self, probability: float | Tensor) -> Tensor:
        """(B,) booleans, true with ``probability``."""
        return self.uniform() < probability

    def rand(self, *shape: int) -> Tensor:
        """Uniform values of ``shape``."""
        return torch.rand(shape, generator=self._generator)

    def randn(self, *shape: int) -> Tensor:
        """Standard normal values of ``shape``."""
        return torch.randn(shape, generator=self._generator)

    def linear(self, mild: float | Tensor, severe: float | Tensor) -> Tensor:
        """(B,) values from ``mild`` at severity 0 to ``severe`` at 1, evenly spaced."""
        return mild + (severe - mild) * self.severity

    def logarithmic(self, mild: float | Tensor, severe: float | Tensor) -> Tensor:
        """(B,) values from ``mild`` at severity 0 to ``severe`` at 1, even in the logarithm."""
        return mild * (severe / mild) ** self.severity

    def named(
        self,
        name: str,
        value: Tensor,
        where: Tensor | None = None,
        bounds: tuple[float, float] = (-math.inf, math.inf),
    ) -> Tensor:
        """The parameter ``name``: the caller's fixed number, or ``value``.

        Args:
            name: key in the report and in ``fixed``.
            value: (B,) drawn values.
            where: (B,) samples the parameter matters to; recorded for these alone.
            bounds: the values a caller may ask for.

        Returns:
            (B,) of the dtype of ``value``.

        Raises:
            ConfigError: the fixed value is no number or out of ``bounds``.
        """
        self._used.add(name)
        if name in self._fixed:
            value = torch.full_like(value, self._number(name, bounds))
        for index, (record, number) in enumerate(zip(self._records, value.tolist(), strict=True)):
            if where is None or bool(where[index]):
                record[name] = number
        return value

    def kind(
        self,
        weights: Mapping[str, float],
        implied: Mapping[str, str] | None = None,
        name: str = "kind",
    ) -> list[str]:
        """One of the names in ``weights`` per sample, by weight.

        Args:
            weights: relative frequencies by name.
            implied: parameter → kind: fixing the parameter alone chooses the kind.
            name: key in the report and in ``fixed``.

        Raises:
            ConfigError: the fixed name is none of these.
        """
        self._used.add(name)
        names = list(weights)
        shares = torch.tensor([float(weights[key]) for key in names])
        drawn = torch.multinomial(shares, max(self.count, 1), True, generator=self._generator)
        chosen = [names[index] for index in drawn.tolist()][: self.count]
        wanted = self._fixed.get(name)
        if wanted is None:
            wanted = next((k for key, k in (implied or {}).items() if key in self._fixed), None)
        if wanted is not None:
            chosen = [_choose(name, str(wanted), names)] * self.count
        for record, value in zip(self._records, chosen, strict=True):
            record[name] = value
        return chosen

    def record(self, name: str, values: Sequence[object]) -> None:
        """Note a derived value per sample that the caller cannot fix."""
        for record, value in zip(self._records, values, strict=True):
            record[name] = value

    def parameters(self) -> Parameters:
        """What was drawn, one JSON-able dictionary per sample.

        Raises:
            ConfigError: the caller fixed a parameter that this operator does not have.
        """
        unknown = sorted(set(self._fixed) - self._used)
        if unknown:
            known = ", ".join(sorted(self._used))
            raise ConfigError(f"unknown parameter {unknown[0]!r}", hint=f"known here: {known}")
        return self._records

    def _number(self, name: str, bounds: tuple[float, float]) -> float:
        value = self._fixed[name]
        if isinstance(value, str):
            raise ConfigError(f"{name} must be a number, got {value!r}")
        if not bounds[0] <= value <= bounds[1]:
            raise ConfigError(f"{name} must lie in [{bounds[0]:g}, {bounds[1]:g}], got {value:g}")
        return float(value)


def mask(chosen: Sequence[str], *names: str) -> Tensor:
    """(B,) booleans: the samples whose kind is one of ``names``."""
    return torch.tensor([kind in names for kind in chosen], dtype=torch.bool)


def column(values: Tensor, like: Tensor) -> Tensor:
    """(B,) per-sample values as (B, 1, 1, 1) on the device and in the dtype of ``like``."""
    return values.to(device=like.device, dtype=like.dtype).view(-1, 1, 1, 1)


def _choose(name: str, wanted: str, names: Sequence[str]) -> str:
    if wanted in names:
        return wanted
    near = difflib.get_close_matches(wanted, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(names)}"
    raise ConfigError(f"unknown {name} {wanted!r}", hint=hint)
