"""Photos of known severity, and the fit of the regression that reads it off their appearance.

Apart from the parts of a model: this fit needs none of them and takes minutes, and its figures are
shipped with the taxonomy (`autodir.diagnosis.severity`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from autodir.diagnosis.severity import SCHEMA, Reading, SeverityModel, observe
from autodir.errors import ConfigError
from autodir.imaging.color import srgb_to_linear
from autodir.synthesis.operators import OPERATORS, quantize_8bit
from autodir.training.data import PhotoPool

ORDER = ("haze", "underexposure", "blur", "noise", "compression")
"""Of a chain: what the air, the light, the lens, the sensor and the file do."""
ABSENT: Mapping[str, float] = {
    "noise": 0.0,
    "blur": 0.0,
    "underexposure": 0.0,
    "haze": 1.0,
    "compression": 100.0,
}
"""The physical parameter of a photo without the degradation."""

_SIZE = 256
_WEIGHTS = (1.2, 0.8, 3.0, 1.2, 0.8)
"""How often each of `ORDER` is drawn: blur has the most faces."""
_SHARES = (0.08, 0.6, 0.25, 0.07)
"""Of photos with 0, 1, 2 and 3 degradations."""
_HIDDEN = 64
_STEPS = 5000
_MEMBERS = 4
"""Regressions whose mean is the figure: each errs in its own way."""
_WITHOUT = 0.1
"""Weight of a photo without the degradation: it has to be told apart, but not to be ranked."""
_KNOTS = 20
_LEAST = 4
"""Calibration photos behind each knot, at least."""
_SURE = 0.1
"""The least error bar, as a share of the largest: no photo is known to be wholly clean."""
_COVERED = 0.68
"""Share of the calibration photos whose error lies within the error bar."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One photo of known severity: its measures, the true parameters, what was done to it."""

    measures: Tensor
    truth: Mapping[str, float]
    applied: tuple[str, ...]


def degrade(clean: Tensor, key: str, generator: torch.Generator) -> tuple[Tensor, float]:
    """One degradation of a drawn severity, and its physical parameter.

    Args:
        clean: (1, 3, H, W) in [0, 1].
        key: one of `ORDER`.
        generator: source of all randomness.

    Returns:
        The degraded photo, and noise deviation in 8-bit levels, blur deviation in pixels, exposure
        in EV, mean transmission in [0, 1], or JPEG quality.
    """
    severity = torch.rand(1, generator=generator)
    seed = int(torch.randint(2**62, (), generator=generator))
    u, v = torch.rand(2, generator=generator).tolist()
    choices: dict[str, dict[str, float | str]] = {
        "compression": {"quality": float(round(5 + 90 * u))},
        "noise": {"sigma": 1 + 54 * u} if v < 0.6 else {},
        "underexposure": {"exposure": 0.8 * 0.025**u, "cast": 0.0, "iso": 0.0, "uneven": 0.0},
        "haze": {"beta": 0.1 + 2.6 * u, "linear_light": 0.0},
        "blur": {},
    }
    fixed = choices[key]

    def run(photo: Tensor) -> tuple[Tensor, dict[str, Any]]:
        own = torch.Generator().manual_seed(seed)
        degraded, drawn = OPERATORS[key](photo, severity, own, fixed)
        return degraded, drawn[0]

    degraded, drawn = run(clean)
    if key == "compression":
        return degraded, float(drawn["quality"])
    if key == "noise":
        spoiled = (degraded - clean).square().mean().sqrt() * 255
        return degraded, float(drawn.get("sigma", spoiled))
    if key == "underexposure":
        return degraded, float(torch.tensor(fixed["exposure"]).log2())
    if key == "blur":
        impulse = torch.zeros_like(clean)
        impulse[..., clean.shape[-2] // 2, clean.shape[-1] // 2] = 1
        response, drawn = run(impulse)
        return degraded, kernel_width(
            srgb_to_linear(response) if float(drawn["linear_light"]) else response
        )
    return degraded, _transmission(clean, degraded, drawn)


def _transmission(clean: Tensor, hazy: Tensor, drawn: Mapping[str, Any]) -> float:
    """The mean of t in I = J t + A (1 - t), where photo and airlight differ enough to tell."""
    air = torch.tensor([-0.5, 0.0, 0.5]) * float(drawn["tint"]) + float(drawn["airlight"])
    air = air.clamp(0, 1).view(1, 3, 1, 1)
    veil = clean - air
    distance = veil.square().sum(1)
    known = distance > 0.02
    share = ((hazy - air) * veil).sum(1) / distance.clamp_min(1e-3)
    return float(share[known].mean()) if bool(known.any()) else 1.0


def kernel_width(response: Tensor) -> float:
    """Deviation in pixels of a point's image (1, 3, H, W), the mean of both axes in the square."""
    weight = response[0].mean(0)
    weight = weight / weight.sum().clamp_min(1e-12)
    rows = torch.arange(weight.shape[0], dtype=torch.float32)
    columns = torch.arange(weight.shape[1], dtype=torch.float32)
    spread = 0.0
    for axis, marginal in ((rows, weight.sum(1)), (columns, weight.sum(0))):
        mean = (axis * marginal).sum()
        spread += float(((axis - mean).square() * marginal).sum())
    return math.sqrt(spread / 2)


def draw_sample(pool: PhotoPool, generator: torch.Generator, key: str | None = None) -> Sample:
    """A random crop with one degradation, or with up to three in their natural order.

    Args:
        pool: of clean photos.
        generator: source of all randomness.
        key: the one degradation; None draws.
    """
    photo = pool.crops(1, _SIZE, generator, scale=(0.35, 1.0))
    if key is not None:
        return make_sample(photo, [key], generator)
    count = int(torch.multinomial(torch.tensor(_SHARES), 1, generator=generator))
    drawn = torch.multinomial(torch.tensor(_WEIGHTS), max(count, 1), generator=generator)
    chosen = {ORDER[i] for i in drawn[:count].tolist()}
    return make_sample(photo, [key for key in ORDER if key in chosen], generator)


def make_sample(photo: Tensor, keys: Sequence[str], generator: torch.Generator) -> Sample:
    """Degrade a photo (1, 3, H, W) by ``keys`` in order, and measure the result on 8 bits."""
    truth = dict(ABSENT)
    for key in keys:
        photo, truth[key] = degrade(photo, key, generator)
    return Sample(measures=observe(quantize_8bit(photo)), truth=truth, applied=tuple(keys))


def fit(samples: Sequence[Sample], calibration: Sequence[Sample], seed: int = 0) -> dict[str, Any]:
    """Fit the regression on some photos, its readings and error bars on others.

    Args:
        samples: to fit on.
        calibration: of other photos.
        seed: of the first weights.

    Returns:
        What `SeverityModel.from_dict` reads, JSON-able.

    Raises:
        ConfigError: there are too few photos.
    """
    if len(calibration) < _KNOTS * _LEAST or len(samples) < _KNOTS * _LEAST:
        raise ConfigError(f"severity needs {_KNOTS * _LEAST} photos or more in each share")
    measures, truth = _tensors(samples)
    center, scale = measures.mean(0), measures.std(0).clamp_min(1e-3)
    weight = torch.tensor(
        [[1.0 if key in sample.applied else _WITHOUT for key in ORDER] for sample in samples]
    )
    x = ((measures - center) / scale).clamp(-4, 4)
    members = [_regress(x, truth, weight, seed + member) for member in range(_MEMBERS)]
    inner = torch.cat([weights for weights, _ in members])
    outer = torch.cat([weights[:, :-1] / _MEMBERS for _, weights in members], dim=1)
    bias = torch.stack([weights[:, -1] for _, weights in members]).mean(0)
    outer = torch.cat([outer, bias[:, None]], dim=1)
    figures: dict[str, Any] = {
        "schema": SCHEMA,
        "photos": {"fit": len(samples), "calibration": len(calibration), "seed": seed},
        "center": _rounded(center),
        "scale": _rounded(scale),
        "inner": _rounded(inner),
        "outer": _rounded(outer),
        "readings": {key: {"raw": [0, 1], "value": [0, 1], "error": [0, 0]} for key in ORDER},
    }
    seen, right = _tensors(calibration)
    raw = SeverityModel.from_dict(figures).raw(seen)
    figures["readings"] = {
        key: _read_off(raw[:, index], right[:, index], key) for index, key in enumerate(ORDER)
    }
    return figures


def _tensors(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Measures (N, F), and the truth (N, K) on the scale of the regression."""
    truth = [[_encode(key, sample.truth[key]) for key in ORDER] for sample in samples]
    return torch.stack([sample.measures for sample in samples]), torch.tensor(truth)


def _encode(key: str, value: float) -> float:
    """A figure whose equal steps look alike: logarithms of noise and blur, all about 1 wide."""
    if key == "noise":
        return float(torch.tensor(value + 1.0).log()) / 1.5
    if key == "blur":
        return float(torch.tensor(value + 0.5).log()) / 1.2
    return value / {"underexposure": 1.5, "haze": 0.3, "compression": 30.0}[key]


def _decode(key: str, figure: Tensor) -> Tensor:
    """The inverse of `_encode`."""
    if key == "noise":
        return (figure * 1.5).exp() - 1
    if key == "blur":
        return (figure * 1.2).exp() - 0.5
    return figure * {"underexposure": 1.5, "haze": 0.3, "compression": 30.0}[key]


def _regress(x: Tensor, y: Tensor, weight: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """One hidden layer under a Huber loss: (N, F), (N, K), (N, K) → (H, F + 1), (K, H + 1)."""
    generator = torch.Generator().manual_seed(seed)
    count, width = x.shape
    inner = torch.randn(_HIDDEN, width + 1, generator=generator) * width**-0.5
    outer = torch.zeros(y.shape[1], _HIDDEN + 1)
    outer[:, -1] = y.mean(0)
    weights = [inner.requires_grad_(), outer.requires_grad_()]
    optimizer = torch.optim.AdamW(weights, lr=5e-3, weight_decay=0.3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=_STEPS)
    for _ in range(_STEPS):
        rows = torch.randint(count, (min(count, 256),), generator=generator)
        # Measures of a photo never come twice the same: a little noise keeps the fit honest.
        noisy = x[rows] + 0.1 * torch.randn(len(rows), width, generator=generator)
        hidden = torch.tanh(noisy @ inner[:, :-1].T + inner[:, -1])
        guess = hidden @ outer[:, :-1].T + outer[:, -1]
        each = huber_loss(guess, y[rows], reduction="none", delta=0.3)
        loss = (each * weight[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return inner.detach(), outer.detach()


def _read_off(raw: Tensor, truth: Tensor, key: str) -> dict[str, list[float]]:
    """Knots of the monotone map from raw figures to values, with the error around each."""
    order = raw.argsort()
    raw, truth = raw[order], truth[order]
    parts = torch.arange(len(raw)).tensor_split(min(_KNOTS, len(raw) // _LEAST))
    knots = torch.stack([raw[part].median() for part in parts])
    knots = knots + 1e-5 * torch.arange(len(knots))  # they must increase
    values = _decode(key, torch.stack([truth[part].mean() for part in parts]).cummax(0).values)
    reading = Reading(raw=knots, value=values, error=torch.zeros_like(values))
    seen = torch.tensor([reading(figure)[0] for figure in raw.tolist()])
    gaps = (_decode(key, truth) - seen).abs()
    bars = torch.stack([gaps[part].sort().values[int(_COVERED * len(part))] for part in parts])
    bars = bars.clamp_min(_SURE * float(bars.max()))
    return {name: _rounded(column) for name, column in
            (("raw", knots), ("value", values), ("error", bars))}  # fmt: skip


def _rounded(values: Tensor) -> Any:
    """JSON-able numbers of five digits."""
    if values.ndim > 1:
        return [_rounded(row) for row in values]
    return [float(f"{value:.5g}") for value in values.tolist()]
