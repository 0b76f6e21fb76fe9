"""From scores of single pictures to the figures of a table: means, gains, harmed share, intervals.

Apart so that the arithmetic of published numbers can be tested on numbers alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

HARM = 0.01
"""A result is harmed where its PSNR is lower than the input's by more than this, in dB."""

RESAMPLES = 2000

Row = Mapping[str, Any]


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is there; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """The 95 % interval of the mean over seeded resamples; None below two values."""
    if len(values) < 2:
        return None
    sample = torch.tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)
    means = sample[picks].mean(dim=1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def summarize(rows: Sequence[Row], inputs: Mapping[str, Row]) -> dict[str, Any]:
    """The figures of one system on one set.

    Args:
        rows: one per case: ``case psnr ssim seconds changed``, learned ones in ``metrics``.
        inputs: the rows of the untouched inputs by case name, for gain and harm.

    Returns:
        ``cases``, means ``psnr ssim gain seconds``, ``gain_interval`` (95 %), ``harmed`` and
        ``untouched`` as shares, ``metrics`` as means; None for what cannot be known.
    """
    gains = [
        row["psnr"] - inputs[row["case"]]["psnr"]
        for row in rows
        if row["psnr"] is not None and row["case"] in inputs
    ]
    names = sorted({name for row in rows for name in row.get("metrics", {})})
    return {
        "cases": len(rows),
        "psnr": mean(row["psnr"] for row in rows),
        "ssim": mean(row["ssim"] for row in rows),
        "gain": mean(gains),
        "gain_interval": bootstrap_interval(gains),
        "harmed": mean(float(gain < -HARM) for gain in gains),
        "untouched": mean(float(not row["changed"]) for row in rows),
        "seconds": mean(row["seconds"] for row in rows),
        "metrics": {name: mean(row["metrics"].get(name) for row in rows) for name in names},
    }


def overall(
    sets: Mapping[str, Mapping[str, Mapping[str, Any]]], system: str
) -> dict[str, float | None]:
    """One system over all sets: ``gain`` is a mean over sets, ``harmed`` a share of pictures."""
    figures = [by_system[system] for by_system in sets.values() if system in by_system]
    known = [figure for figure in figures if figure["harmed"] is not None]
    cases = sum(figure["cases"] for figure in known)
    gains = [figure["gain"] for figure in known]
    return {
        "gain": mean(gains),
        "worst_gain": min(gains, default=None),
        "harmed": sum(f["harmed"] * f["cases"] for f in known) / cases if cases else None,
        "seconds": mean(figure["seconds"] for figure in figures),
    }
