"""Degradations as words: "noise:sigma=25,kind=gaussian" to a seeded, repeatable degradation.

Apart because the command line, and reports that repeat a degradation, speak text and not tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autodir.errors import ConfigError, ContractError, PromptError
from autodir.synthesis.draws import Fixed
from autodir.synthesis.recipe import Stage, apply, check_key

DEFAULT_SEVERITY = 0.5


@dataclass(frozen=True, kw_only=True)
class Specification:
    """One degradation as asked for.

    Attributes:
        key: the degradation.
        severity: in [0, 1]; what is not fixed is drawn for it.
        fixed: parameters set by name, as each operator documents them.
    """

    key: str
    severity: float = DEFAULT_SEVERITY
    fixed: Fixed = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_key(self.key)
        if not 0 <= self.severity <= 1:
            raise ConfigError(
                f"severity must lie in [0, 1], got {self.severity:g}",
                hint="0 is barely visible, 1 the worst",
            )

    def __str__(self) -> str:
        """The text that `parse_degradation` reads."""
        pairs = [f"severity={self.severity:g}", *(f"{k}={_text(v)}" for k, v in self.fixed.items())]
        return f"{self.key}:{','.join(pairs)}"


def parse_degradation(text: str) -> Specification:
    """Read ``key`` or ``key:name=value,name=value``; ``severity`` stands beside the parameters.

    Raises:
        PromptError: no such degradation.
        ConfigError: a part is no ``name=value``, a name comes twice, or the severity is out of
        range.
    """
    head, colon, tail = text.strip().partition(":")
    key = head.strip().lower().replace(" ", "_").replace("-", "_")
    if not key:
        raise PromptError("an empty degradation", hint='write for example "noise:sigma=25"')
    check_key(key)
    if colon and not tail.strip():
        raise ConfigError(f"nothing follows the colon in {text!r}", hint=f'"{key}" alone will do')
    severity, fixed = DEFAULT_SEVERITY, dict[str, float | str]()
    for part in tail.split(",") if tail.strip() else []:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise ConfigError(f"{part.strip()!r} in {text!r} is no name=value")
        if name in fixed:
            raise ConfigError(f"{name} comes twice in {text!r}")
        fixed[name] = _value(value)
    if "severity" in fixed:
        number = fixed.pop("severity")
        if isinstance(number, str):
            raise ConfigError(f"severity must be a number, got {number!r}")
        severity = number
    return Specification(key=key, severity=severity, fixed=fixed)


def degrade(
    image: Tensor, specifications: Sequence[Specification], seed: int = 0
) -> tuple[Tensor, list[Stage]]:
    """Apply degradations in the order given; the same seed and text give the same bits.

    Args:
        image: (B, 3, H, W) in [0, 1], sRGB-encoded.
        specifications: what to apply, first to last.
        seed: of all randomness.

    Returns:
        The degraded image, and one stage per degradation.

    Raises:
        ContractError: ``image`` is not (B, 3, H, W).
        ConfigError: a parameter is unknown or out of range.
    """
    if image.ndim != 4:
        raise ContractError(f"image must be (B, 3, H, W), got {tuple(image.shape)}")
    seeds = torch.Generator().manual_seed(seed)
    stages: list[Stage] = []
    for wanted in specifications:
        own = int(torch.randint(0, 2**62, (1,), generator=seeds).item())
        severity = torch.full((len(image),), wanted.severity)
        generator = torch.Generator().manual_seed(own)
        try:
            image, parameters = apply(wanted.key, image, severity, generator, wanted.fixed)
        except ConfigError as error:
            raise ConfigError(f"{wanted.key}: {error.message}", hint=error.hint) from error
        stages.append(
            Stage(
                key=wanted.key,
                image=image,
                severity=severity,
                seed=own,
                parameters=parameters,
                fixed=wanted.fixed,
            )
        )
    return image, stages


def _value(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.10g}"
