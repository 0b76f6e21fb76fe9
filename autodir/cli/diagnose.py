"""``autodir diagnose INPUT...``: say what is wrong with photos, and change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autodir.cli.accounts import Accounts, ReportFile
from autodir.cli.console import Console
from autodir.cli.flags import ConfigFile, Json, Quiet, Verbose, flags, gather
from autodir.cli.gate import Gate
from autodir.cli.inputs import Input, Inputs, find_inputs, go_through, open_restorer
from autodir.config import OutputOptions, RuntimeOptions
from autodir.errors import AutodirError
from autodir.report import DIAGNOSIS_SCHEMA, amount, diagnosis_to_dict

if TYPE_CHECKING:
    from autodir.imaging.photo import Photo
    from autodir.pipeline import Restorer

_LIKELY = 0.5
"""Degradations besides the main one are named from this presence on."""

_MAP_SIDE = 1024
"""Longer side of a heat-map in pixels, at most."""

_WRITING = ("output", "overwrite", "skip_existing", "rename", "dry_run")


@flags(RuntimeOptions, OutputOptions, leave_out=_WRITING)
def diagnose(
    inputs: Inputs,
    given: Mapping[str, Any],
    *,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="KEY[>X],...",
            help="Exit with 10 and list the photos where KEY is found, or its presence is above X; "
            "any: whichever. Repeatable.",
        ),
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--map", metavar="DIR", help="Write a heat-map of each degradation to this folder."
        ),
    ] = None,
    report: ReportFile = None,
    config: ConfigFile = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Say what is wrong with photos, and change nothing."""
    runtime, output = gather((RuntimeOptions, OutputOptions), given, config=config)
    console = Console(json=json, quiet=quiet, verbose=verbose)
    gate = Gate(fail_on or ())
    found = find_inputs(inputs, output)
    restorer = open_restorer(runtime)

    accounts = Accounts(len(found), report, restorer.info, output.max_pixels)

    def work(one: Input) -> None:
        try:
            photo = one.read(output.max_pixels)
        except AutodirError as error:
            accounts.failed(one, error)
            raise
        diagnosis = restorer.diagnose(photo)
        document = diagnosis_to_dict(
            diagnosis,
            source=str(one),
            size=photo.size,
            model=str(restorer.info.get("model", runtime.model)),
        )
        if maps is not None:
            document["maps"] = write_maps(restorer, photo, maps / one.source.relative)
        gate.look(document)
        accounts.diagnosed(one, photo, document)
        if json:
            console.emit(document)
        else:
            show(document, console)

    try:
        with accounts:
            go_through(
                found, work, console=console, schema=DIAGNOSIS_SCHEMA, fail_fast=output.fail_fast
            )
    finally:
        gate.show(console)
    gate.close()


def write_maps(restorer: Restorer, photo: Photo, name: Path) -> dict[str, str]:
    """Write ``name.noise.png`` and so on: black where nothing is, white where presence is 1.

    Returns:
        The path of each map, by key.
    """
    from autodir.imaging.files import write_atomic
    from autodir.imaging.thumbnails import heat_map

    scale = min(1.0, _MAP_SIDE / max(photo.size))
    size = (max(1, round(photo.size[0] * scale)), max(1, round(photo.size[1] * scale)))
    written = {}
    for key, found in restorer.maps(photo).items():
        path = name.with_name(f"{name.name}.{key}.png")
        write_atomic(heat_map(found.presence(size)), path)
        written[key] = str(path)
    return written


def show(document: Mapping[str, Any], console: Console) -> None:
    """A diagnosis in one line: ``photo.jpg  rain 0.93  also noise 0.61``; verbose: all figures."""
    probabilities: Mapping[str, float] = document["probabilities"]
    presence: Mapping[str, float] = document["presence"]
    main = document["main"]
    verdict = "clean" if main is None else f"{main} {probabilities.get(main, 1.0):.2f}"
    likely = sorted(presence.items(), key=lambda item: -item[1])
    how_bad = f"  {amount(document['severity'][main])}" if main in document["severity"] else ""
    others = [f"{key} {value:.2f}" for key, value in likely if key != main and value >= _LIKELY]
    also = f"  also {', '.join(others)}" if others and main is not None else ""
    console.say(f"{document['input']}  {verdict}{how_bad}{also}")
    if console.verbose:
        severity: Mapping[str, Any] = document["severity"]
        rows = [
            (
                key,
                f"{value:.3f}",
                f"{presence[key]:.3f}" if key in presence else "–",
                amount(severity[key]) if key in severity else "–",
            )
            for key, value in probabilities.items()
        ]
        console.table("", ("degradation", "probability", "presence", "severity"), rows)
