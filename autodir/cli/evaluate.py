"""``autodir evaluate SUITE``: score a model on a benchmark suite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from autodir.cli.console import Console
from autodir.cli.flags import ConfigFile, Json, Quiet, Verbose, flags, gather
from autodir.cli.inputs import open_restorer
from autodir.config import RuntimeOptions

_COLUMNS = ("set", "system", "n", "PSNR", "SSIM", "gain", "harmed", "untouched", "seconds")


@flags(RuntimeOptions)
def evaluate(
    suite: Annotated[
        str,
        typer.Argument(metavar="SUITE", help="Name or TOML file of a suite.", show_default=False),
    ],
    given: Mapping[str, Any],
    *,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder that holds the test sets.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="JSON file, or folder of results, to write.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many pictures of each folder.")
    ] = None,
    systems: Annotated[
        list[str] | None, typer.Option("--system", help="Score this system; repeatable.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Only sets whose name begins so; repeatable.")
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Score a model, its parts and the classical tools on the sets of a suite."""
    (runtime,) = gather((RuntimeOptions,), given, config=config)
    console = Console(json=json, quiet=quiet, verbose=1 + verbose)

    from autodir.evaluation.plan import load_suite
    from autodir.evaluation.suite import run_suite
    from autodir.evaluation.systems import MODEL_FREE

    plan = load_suite(suite)
    needs_model = plan.kind == "recognition" or not MODEL_FREE.issuperset(systems or plan.systems)
    restorer = open_restorer(runtime) if needs_model else None
    result = run_suite(
        suite, data, restorer, limit=limit, systems=systems or None, sets=sets or None, out=out
    )
    if json:
        console.emit(result)
    elif "recognition" in result:
        console.table(plan.title, ("figure", "value"), recognition_rows(result["recognition"]))
    else:
        console.table(plan.title, _COLUMNS, restoration_rows(result["sets"]))


def restoration_rows(
    sets: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> list[tuple[str, ...]]:
    """One row of texts for each set and system, in the order of the table's columns."""
    return [
        (
            name,
            system,
            str(figures["cases"]),
            _number(figures["psnr"], "{:.2f}"),
            _number(figures["ssim"], "{:.4f}"),
            _number(figures["gain"], "{:+.2f}"),
            _number(figures["harmed"], "{:.1%}"),
            _number(figures["untouched"], "{:.1%}"),
            _number(figures["seconds"], "{:.2f}"),
        )
        for name, systems in sets.items()
        for system, figures in systems.items()
    ]


def recognition_rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The shares of a recognition suite as rows of texts."""
    shares = ("accuracy", "real", "synthetic", "argmax", "false_alarms")
    counts = ("pictures", "clean_pictures")
    return [(name, _number(figures.get(name), "{:.1%}")) for name in shares] + [
        (name, str(figures.get(name, 0))) for name in counts
    ]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
