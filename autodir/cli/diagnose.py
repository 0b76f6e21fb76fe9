"""``autodir diagnose INPUT...``: say what is wrong with photos, and change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from autodir.cli.console import Console
from autodir.cli.flags import ConfigFile, Json, Quiet, Verbose, flags, gather
from autodir.cli.inputs import Input, Inputs, find_inputs, go_through, open_restorer
from autodir.config import OutputOptions, RuntimeOptions
from autodir.report import DIAGNOSIS_SCHEMA, diagnosis_to_dict

_LIKELY = 0.5
"""Degradations besides the main one are named from this presence on."""

_WRITING = ("output", "overwrite", "skip_existing", "rename", "dry_run")


class DegradationFoundError(Exception):
    """A photo has a degradation that ``--fail-on`` names."""


@flags(RuntimeOptions, OutputOptions, leave_out=_WRITING)
def diagnose(
    inputs: Inputs,
    given: Mapping[str, Any],
    *,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on", metavar="KEY,...", help="Exit with 10 if one is found; any: whichever."
        ),
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Say what is wrong with photos, and change nothing."""
    runtime, output = gather((RuntimeOptions, OutputOptions), given, config=config)
    console = Console(json=json, quiet=quiet, verbose=verbose)
    refused = refused_keys(fail_on or [])
    found = find_inputs(inputs, output)
    restorer = open_restorer(runtime)
    seen: list[str] = []

    def work(one: Input) -> None:
        photo = one.read(output.max_pixels)
        diagnosis = restorer.diagnose(photo)
        document = diagnosis_to_dict(
            diagnosis,
            source=str(one),
            size=photo.size,
            model=str(restorer.info.get("model", runtime.model)),
        )
        if document["main"] is not None:
            seen.append(document["main"])
        if json:
            console.emit(document)
        else:
            show(document, console)

    go_through(found, work, console=console, schema=DIAGNOSIS_SCHEMA, fail_fast=output.fail_fast)
    if any(key in refused or "any" in refused for key in seen):
        raise DegradationFoundError(", ".join(dict.fromkeys(seen)))


def refused_keys(texts: list[str]) -> set[str]:
    """The keys of ``--fail-on``.

    Raises:
        PromptError: a key names no degradation.
    """
    from autodir.prompts import load_taxonomy

    keys = {piece.strip() for text in texts for piece in text.split(",") if piece.strip()}
    return {key if key == "any" else load_taxonomy().get(key).key for key in keys}


def show(document: Mapping[str, Any], console: Console) -> None:
    """A diagnosis in one line: ``photo.jpg  rain 0.93  also noise 0.61``; verbose: all figures."""
    probabilities: Mapping[str, float] = document["probabilities"]
    presence: Mapping[str, float] = document["presence"]
    main = document["main"]
    verdict = "clean" if main is None else f"{main} {probabilities.get(main, 1.0):.2f}"
    likely = sorted(presence.items(), key=lambda item: -item[1])
    others = [f"{key} {value:.2f}" for key, value in likely if key != main and value >= _LIKELY]
    also = f"  also {', '.join(others)}" if others and main is not None else ""
    console.say(f"{document['input']}  {verdict}{also}")
    if console.verbose:
        rows = [
            (key, f"{value:.3f}", f"{presence[key]:.3f}" if key in presence else "–")
            for key, value in probabilities.items()
        ]
        console.table("", ("degradation", "probability", "presence"), rows)
