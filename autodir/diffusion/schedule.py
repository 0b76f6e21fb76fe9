"""The noise schedule: which level σ belongs to which timestep, and which levels a sampler visits.

Apart because samplers know only σ and networks only timesteps; this table alone knows both.

Everything is in the variance-exploding convention: x = x0 + σ·ε with σ = sqrt((1 − ᾱ) / ᾱ). A
schedule whose last timestep is pure noise (zero terminal SNR) would have σ = ∞ there. ᾱ is
therefore kept at or above 2⁻²⁴, that is σ ≤ 4096: the signal left is 1/4096 of the noise, less than
any network tells from none, and every formula and every sampler stays finite. What the network
receives, x / sqrt(σ² + 1), is standard normal there as it should be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from autodir.config import Options
from autodir.errors import ConfigError, ContractError

Prediction = Literal["epsilon", "v_prediction", "sample", "residual"]
Spacing = Literal["linspace", "trailing", "karras"]

_ALPHA_FLOOR = 2.0**-24
_KARRAS_RHO = 7.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig(Options):
    """What defines a schedule.

    Attributes:
        timesteps: length of the training chain.
        beta_start, beta_end: first and last β; the square roots in between are evenly spaced
            ("scaled linear").
        zero_terminal_snr: rescale so that the last timestep is pure noise (arXiv:2305.08891,
            Algorithm 1).
        prediction: what the network predicts.
        condition_deviation: "residual" only: the expected deviation of the degraded photo's latents
            from the clean ones, in units of the latents' deviation.
        spacing: how a sampler's levels are chosen, unless it asks for another way.
    """

    timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    zero_terminal_snr: bool = True
    prediction: Prediction = "v_prediction"
    condition_deviation: float = 0.4
    spacing: Spacing = "trailing"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.timesteps < 2:
            raise ConfigError(f"timesteps must be at least 2, got {self.timesteps}")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ConfigError(
                f"betas must satisfy 0 < start ≤ end < 1, got {self.beta_start}, {self.beta_end}"
            )
        for value, choices in (
            (self.prediction, get_args(Prediction)),
            (self.spacing, get_args(Spacing)),
        ):
            if value not in choices:
                raise ConfigError(
                    f"unknown schedule value {value!r}", f"Choose one of {', '.join(choices)}."
                )
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ConfigError(
                "an epsilon network cannot start from pure noise",
                'Use prediction = "v_prediction", or turn zero_terminal_snr off.',
            )


SMALL = ScheduleConfig(prediction="residual")
SD15 = ScheduleConfig(zero_terminal_snr=False, prediction="epsilon", spacing="linspace")
SD21 = SD15
SD21_V = ScheduleConfig(zero_terminal_snr=False, prediction="v_prediction", spacing="linspace")
"""Stable Diffusion 2.1 of 512 pixels predicts noise, that of 768 pixels velocity."""


class Schedule:
    """The table of noise levels of one model.

    Args:
        config: a `ScheduleConfig` or its plain values.

    Attributes:
        alphas_cumprod: ᾱ of each timestep, float64 (T,), strictly decreasing.
        table: σ of each timestep, float64 (T,), strictly increasing.
    """

    def __init__(self, config: ScheduleConfig | Mapping[str, Any] = SMALL) -> None:
        self.config = (
            config if isinstance(config, ScheduleConfig) else ScheduleConfig.from_mapping(config)
        )
        ends = (self.config.beta_start**0.5, self.config.beta_end**0.5)
        betas = torch.linspace(*ends, self.config.timesteps, dtype=torch.float64) ** 2
        self.alphas_cumprod = (1 - betas).cumprod(0)
        if self.config.zero_terminal_snr:
            self.alphas_cumprod = zero_terminal_snr(self.alphas_cumprod).clamp_min(_ALPHA_FLOOR)
        self.table = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()
        if not bool((self.table.diff() > 0).all()):
            raise ConfigError(
                "the schedule's noise levels do not increase",
                "Use fewer timesteps or smaller betas.",
            )
        self._log_tables = {torch.device("cpu"): self.table.log()}

    def __len__(self) -> int:
        """The number of timesteps T."""
        return self.config.timesteps

    @property
    def sigma_min(self) -> float:
        """σ of timestep 0."""
        return float(self.table[0])

    @property
    def sigma_max(self) -> float:
        """σ of timestep T − 1: the deviation of a sampler's start."""
        return float(self.table[-1])

    def t_to_sigma(self, t: Tensor) -> Tensor:
        """σ of timesteps, fractional ones too: log σ is interpolated.

        Args:
            t: any shape, in [0, T − 1]; values outside are limited to it.

        Returns:
            float32, shape and device of ``t``.
        """
        table = self._log_table(t.device)
        position = t.detach().to(table.dtype).clamp(0, len(self) - 1)
        low = position.floor().long().clamp_max(len(self) - 2)
        return torch.lerp(table[low], table[low + 1], position - low).exp().float()

    def sigma_to_t(self, sigma: Tensor) -> Tensor:
        """The fractional timestep of noise levels: the inverse of `t_to_sigma`.

        Args:
            sigma: any shape, positive; values outside the table are limited to its ends.

        Returns:
            float32, shape and device of ``sigma``.
        """
        table = self._log_table(sigma.device)
        log_sigma = sigma.detach().to(table.dtype).log().clamp(table[0], table[-1])
        low = torch.searchsorted(table, log_sigma, right=True).sub(1).clamp(0, len(self) - 2)
        start, end = table[low], table[low + 1]
        return (low + (log_sigma - start) / (end - start)).float()

    def sigmas(self, steps: int, spacing: Spacing | None = None) -> Tensor:
        """The levels a sampler visits: float32 (steps + 1,), strictly decreasing, the last 0.

        Args:
            steps: number of network evaluations, in [1, T].
            spacing: "linspace", "trailing" or "karras"; None takes the schedule's own.

        Raises:
            ContractError: ``steps`` is out of range, or ``spacing`` unknown.
        """
        if not 1 <= steps <= len(self):
            raise ContractError(f"sampling steps must be in [1, {len(self)}], got {steps}")
        name = spacing or self.config.spacing
        if name not in _SPACINGS:
            raise ContractError(
                f"unknown spacing {name!r}", f"Choose one of {', '.join(_SPACINGS)}."
            )
        levels = _SPACINGS[name](self, steps)
        return torch.cat([levels.float(), torch.zeros(1)])

    def _log_table(self, device: torch.device) -> Tensor:
        """The table of log σ, kept on ``device`` so that no training step waits for a copy."""
        if device not in self._log_tables:
            # float32 away from the CPU: some accelerators have no float64.
            table = self._log_tables[torch.device("cpu")]
            self._log_tables[device] = table.to(device, torch.float32)
        return self._log_tables[device]


def zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """Shift and scale √ᾱ so that its last value is 0 (arXiv:2305.08891, Algorithm 1).

    Args:
        alphas_cumprod: (T,), strictly decreasing.

    Returns:
        ᾱ of the same shape; the first is kept, the last is exactly 0.
    """
    root = alphas_cumprod.sqrt()
    first, last = root[0], root[-1]
    return ((root - last) * first / (first - last)).square()


def _linspace(schedule: Schedule, steps: int) -> Tensor:
    """Timesteps evenly from T − 1 to 0, fractional, both ends included, as AutoDIR's release."""
    return schedule.t_to_sigma(torch.linspace(len(schedule) - 1, 0, steps, dtype=torch.float64))


def _trailing(schedule: Schedule, steps: int) -> Tensor:
    """Every (T / steps)-th timestep counted from the end (arXiv:2305.08891, Table 2)."""
    positions = len(schedule) - torch.arange(steps, dtype=torch.float64) * (len(schedule) / steps)
    return schedule.t_to_sigma(positions.round() - 1)


def _karras(schedule: Schedule, steps: int) -> Tensor:
    """σ^(1/ρ) evenly from σ_max to σ_min with ρ = 7 (arXiv:2206.00364, Eq. 5)."""
    ends = (schedule.sigma_max ** (1 / _KARRAS_RHO), schedule.sigma_min ** (1 / _KARRAS_RHO))
    return torch.linspace(*ends, steps, dtype=torch.float64) ** _KARRAS_RHO


_SPACINGS: dict[str, Callable[[Schedule, int], Tensor]] = {
    "linspace": _linspace,
    "trailing": _trailing,
    "karras": _karras,
}
