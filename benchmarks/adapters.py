"""Concatenation against trained adapters in one table: PSNR, SSIM, seconds, weights, training time.

Apart from the suites because it compares models, not systems: each is run on the same pictures, one
after the other, in the same process.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autodir.checkpoint import info
from autodir.errors import AutodirError, ConfigError
from autodir.evaluation.aggregate import mean
from autodir.evaluation.provenance import circumstances
from autodir.evaluation.suite import SCHEMA, result_path, run_suite, write_result
from autodir.pipeline import Restorer

RESULTS = Path(__file__).resolve().parent / "results"
SYSTEMS = ("diffusion", "both")
BASELINE = "concatenation alone"
NAMES = {"sft": "+ spatial feature transform (StableSR)", "control": "+ IRControlNet (DiffBIR)"}


def figures(result: Mapping[str, Any], system: str) -> dict[str, float | None]:
    """Means over the sets of one system's PSNR, SSIM and seconds a picture."""
    sets = [by_system[system] for by_system in result["sets"].values()]
    return {key: mean(one[key] for one in sets) for key in ("psnr", "ssim", "seconds")}


def row(name: str, about: Any, result: Mapping[str, Any]) -> list[str]:
    """The cells of one model: its size and training, then what it reaches."""
    part = "adapter" if "adapter" in about.parameters else "diffusion"
    minutes = sum(run["seconds"] for run in about.training.get(part, ())) / 60
    weights = about.parameters.get("adapter", 0)
    cells = [name, f"{weights / 1e6:.2f} M", f"{minutes:.0f}"]
    for system in SYSTEMS:
        found = figures(result, system)
        cells += [f"{found['psnr']:.2f}", f"{found['ssim']:.4f}", f"{found['seconds']:.2f}"]
    return cells


def report(runs: Sequence[tuple[str, Any, Mapping[str, Any]]]) -> dict[str, Any]:
    """The result file: a row for each model, and PSNR by set behind it.

    Args:
        runs: name, `autodir.checkpoint.info`, and the result of the suite for each model; the
            baseline first.
    """
    columns = ["conditioning", "adapter", "trained, minutes"]
    for title in ("diffusion", "both parts"):
        columns += [f"{title}: PSNR", "SSIM", "seconds"]
    by_set = {
        name: {
            key: {system: one[system]["psnr"] for system in ("input", *SYSTEMS)}
            for key, one in result["sets"].items()
        }
        for name, _, result in runs
    }
    told = [
        f"{key}: " + ", ".join(f"{by_set[name][key]['diffusion']:.2f}" for name, _, _ in runs)
        for key in by_set[runs[0][0]]
    ]
    note = (
        "Means over the sets; one round against the true label. Trained: the U-Net itself in the "
        "first row, the adapter beside the frozen U-Net in the others. PSNR of the diffusion alone "
        "by set, in the order of the rows: " + "; ".join(told) + "."
    )
    _, about, first = runs[0]
    return {
        "schema": SCHEMA,
        "suite": "adapters",
        "title": first["title"],
        "kind": "speed",
        "model": {"name": "small", "sha256": about.sha256},
        "models": {name: other.sha256 for name, other, _ in runs},
        "limit": first.get("limit"),
        "circumstances": circumstances(),
        "columns": columns,
        "rows": [row(*one) for one in runs],
        "notes": [note],
        "sets": by_set,
    }


def named(about: Any, *, is_baseline: bool) -> str:
    """What the table calls a model.

    Raises:
        ConfigError: the baseline has an adapter, or another model has none.
    """
    if is_baseline == ("adapter" in about.parameters):
        raise ConfigError(f"{about.folder}: the baseline has no adapter, all other models have one")
    return BASELINE if is_baseline else NAMES[about.training["adapter"][-1]["kind"]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite for the baseline and for each model with an adapter, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="folders of models with an adapter")
    parser.add_argument("--baseline", default="small", help="the model without")
    parser.add_argument("--data", type=Path, required=True, help="folder of the test sets")
    parser.add_argument("--limit", type=int, help="at most so many pictures of each folder")
    parser.add_argument("--sets", type=lambda text: text.split(","), help="only these sets")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    runs = []
    try:
        for model in (options.baseline, *options.models):
            restorer = Restorer.from_pretrained(model, device="cpu", threads=options.threads)
            about = info(model)
            name = named(about, is_baseline=model == options.baseline)
            result = run_suite(
                "adapters", options.data, restorer, limit=options.limit, sets=options.sets
            )
            runs.append((name, about, result))
    except AutodirError as error:
        print(f"{error.kind}: {error.message}\n{error.hint}".rstrip(), file=sys.stderr)
        return 1
    result = report(runs)
    write_result(result, result_path(options.out, result))
    for cells in result["rows"]:
        print("  ".join(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
