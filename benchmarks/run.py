"""Run benchmark suites and write their results: ``python benchmarks/run.py SUITE... --data DIR``.

Apart from `autodir evaluate` because it also keeps the results that the published tables come from.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autodir.config import RestoreOptions
from autodir.errors import AutodirError
from autodir.evaluation.plan import load_suite, suites_dir
from autodir.evaluation.suite import run_suite
from autodir.evaluation.systems import MODEL_FREE, Repairer

RESULTS = Path(__file__).resolve().parent / "results"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    known = ", ".join(sorted(path.stem for path in suites_dir().glob("*.toml")))
    parser = argparse.ArgumentParser(description="Run benchmark suites.")
    parser.add_argument("suites", nargs="+", metavar="SUITE", help=f"a file, or one of: {known}")
    parser.add_argument("--data", type=Path, help="folder of the test sets, or its parent")
    parser.add_argument("--limit", type=int, help="at most so many pictures of each folder")
    parser.add_argument("--systems", type=_names, help="columns instead of the suite's own")
    parser.add_argument("--sets", type=_names, help="only sets whose name begins so")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder, or a .json file")
    parser.add_argument("--model", default="small", help="name or folder of a model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument("--threads", type=int, help="CPU threads")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every suite named; 0 where all of them ended."""
    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    restorer: Repairer | None = None
    try:
        for suite in options.suites:
            if restorer is None and _needs_model(suite, options.systems):
                restorer = _load(options)
            result = run_suite(
                suite,
                options.data,
                restorer,
                limit=options.limit,
                systems=options.systems,
                sets=options.sets,
                out=options.out,
            )
            print("\n".join(summary(result)))
    except AutodirError as error:
        print(f"{error.kind}: {error.message}\n{error.hint}".rstrip(), file=sys.stderr)
        return 1
    return 0


def summary(result: Mapping[str, Any]) -> list[str]:
    """A few lines for the terminal."""
    lines = [f"{result['suite']}: {result['seconds']:.0f} s"]
    if result["kind"] == "recognition":
        found = result["recognition"]
        lines.append(f"  accuracy {found['accuracy']}, false alarms {found['false_alarms']}")
        return lines
    for system, figures in result["overall"].items():
        if figures["gain"] is not None:
            worst, harmed = figures["worst_gain"], figures["harmed"]
            lines.append(
                f"  {system:<15} gain {figures['gain']:+6.2f} dB   worst set {worst:+6.2f} dB   "
                f"harmed {harmed:6.1%}   {figures['seconds']:6.2f} s a picture"
            )
    return lines


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _needs_model(suite: str, systems: Sequence[str] | None) -> bool:
    plan = load_suite(suite)
    columns = plan.systems if systems is None else systems
    return plan.kind == "recognition" or not MODEL_FREE.issuperset(columns)


def _load(options: argparse.Namespace) -> Repairer:
    from autodir.pipeline import Restorer  # a table of classical tools alone needs no model

    restorer: Repairer = Restorer.from_pretrained(
        options.model, device=options.device, threads=options.threads
    )
    logging.getLogger(__name__).info("defaults: %s", RestoreOptions().to_dict())
    return restorer


if __name__ == "__main__":
    sys.exit(main())
