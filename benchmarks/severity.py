"""Severity in physical units: draw photos of known severity, fit the figures, score them.

Apart from the suites, because what is scored is a number beside a true one, not a picture.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autodir.diagnosis.severity import UNITS, SeverityModel, load
from autodir.evaluation.provenance import circumstances
from autodir.evaluation.suite import SCHEMA, result_path, write_result
from autodir.resources import prompts_dir
from autodir.training.data import PhotoPool
from autodir.training.severity import ORDER, Sample, draw_sample, fit

RESULTS = Path(__file__).resolve().parent / "results"
FIGURES = prompts_dir() / "severity.json"
_EVERY = 25


def draw(options: argparse.Namespace) -> None:
    """Degrade and measure photos; what is done is kept on the way."""
    pool = PhotoPool(options.data, held_out=options.held_out)
    generator = torch.Generator().manual_seed(options.seed)
    samples: list[Sample] = []
    while len(samples) < options.count:
        key = ORDER[len(samples) % len(ORDER)] if options.single else options.only
        samples.append(draw_sample(pool, generator, key))
        if len(samples) % _EVERY == 0 or len(samples) == options.count:
            save(samples, options.out)


def save(samples: Sequence[Sample], path: Path) -> None:
    """Write samples as JSON lines."""
    lines = [
        json.dumps({"measures": s.measures.tolist(), "truth": s.truth, "applied": s.applied})
        for s in samples
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(paths: Sequence[Path]) -> list[Sample]:
    """Read what `save` wrote."""
    samples = []
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            samples.append(
                Sample(
                    measures=torch.tensor(row["measures"]),
                    truth=row["truth"],
                    applied=tuple(row["applied"]),
                )
            )
    return samples


def score(model: SeverityModel, samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """Rank correlation with the truth, mean error, and how often the error bar holds it.

    Returns:
        By key: ``single``, photos with this degradation alone, and ``mixed``, with others besides;
        each has ``photos rank error covered unit``, None where there are fewer than three photos.
    """
    figures: dict[str, dict[str, Any]] = {}
    for key in ORDER:
        mine = [sample for sample in samples if key in sample.applied]
        groups = {
            "single": [sample for sample in mine if len(sample.applied) == 1],
            "mixed": [sample for sample in mine if len(sample.applied) > 1],
        }
        figures[key] = {name: _figures(model, group, key) for name, group in groups.items()}
    return figures


def _figures(model: SeverityModel, samples: Sequence[Sample], key: str) -> dict[str, Any] | None:
    if len(samples) < 3:
        return None
    read_off = [model.read(sample.measures)[key] for sample in samples]
    truth = torch.tensor([sample.truth[key] for sample in samples])
    value = torch.tensor([found.value for found in read_off])
    bar = torch.tensor([found.error for found in read_off])
    gap = (value - truth).abs()
    return {
        "photos": len(samples),
        "rank": rank_correlation(value, truth),
        "error": float(gap.mean()),
        "covered": float((gap <= bar).float().mean()),
        "unit": UNITS[key],
    }


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's coefficient of two vectors (N,); equal values share their mean rank."""
    ranks = torch.stack([_ranks(a), _ranks(b)])
    return float(torch.corrcoef(ranks)[0, 1])


def _ranks(values: Tensor) -> Tensor:
    below = (values[:, None] > values[None]).sum(1)
    equal = (values[:, None] == values[None]).sum(1)
    return below.double() + equal.double() / 2


def report(figures: Mapping[str, Mapping[str, Any]], fitted: Mapping[str, Any]) -> dict[str, Any]:
    """The result file: the figures as they are, and as a table."""
    rows = [
        [key, name, str(one["photos"]), f"{one['rank']:.3f}", f"{one['error']:.2f} {one['unit']}",
         f"{one['covered']:.0%}"]
        for key, groups in figures.items() for name, one in groups.items() if one is not None
    ]  # fmt: skip
    return {
        "schema": SCHEMA,
        "suite": "severity",
        "title": "Severity in physical units",
        "kind": "severity",
        "model": {"severity": fitted},
        "circumstances": circumstances(),
        "columns": ["degradation", "photos with", "n", "rank correlation", "mean error", "in bar"],
        "rows": rows,
        "figures": figures,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, fit or score."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw", help="degrade and measure photos")
    drawing.add_argument("--data", type=Path, required=True)
    drawing.add_argument("--out", type=Path, required=True)
    drawing.add_argument("--count", type=int, default=2000)
    drawing.add_argument("--seed", type=int, default=0)
    drawing.add_argument("--held-out", action="store_true", help="photos that no fit has seen")
    drawing.add_argument("--single", action="store_true", help="one degradation, each in turn")
    drawing.add_argument("--only", choices=ORDER, help="this degradation alone, each time")
    fitting = commands.add_parser("fit", help="fit the figures that come with autodir")
    fitting.add_argument("--samples", type=Path, nargs="+", required=True)
    fitting.add_argument("--calibration", type=Path, nargs="+", required=True)
    fitting.add_argument("--out", type=Path, default=FIGURES)
    scoring = commands.add_parser("score", help="score the figures")
    scoring.add_argument("--samples", type=Path, nargs="+", required=True)
    scoring.add_argument("--figures", type=Path, default=FIGURES)
    scoring.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.command == "draw":
        draw(options)
    elif options.command == "fit":
        figures = fit(read(options.samples), read(options.calibration))
        options.out.write_text(json.dumps(figures) + "\n", encoding="utf-8")
    else:
        fitted = json.loads(options.figures.read_text(encoding="utf-8"))["photos"]
        result = report(score(load(options.figures), read(options.samples)), fitted)
        write_result(result, result_path(options.out, result))
        for row in result["rows"]:
            print("  ".join(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
