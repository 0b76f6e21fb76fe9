"""``autodir replay FILE``: repeat a restoration from its sidecar, and compare the results."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from autodir.cli.console import Console
from autodir.cli.flags import Json, Quiet

REPLAY_SCHEMA = "autodir.replay/1"


class ResultDiffersError(Exception):
    """A replay gave another file than the one that its sidecar tells of."""


def replay(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A sidecar that fix --sidecar has written.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the repeated result here.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Repeat a restoration, and say whether the result is the same to the last bit.

    Exits with 0 if it is, with 11 if it is not. What has changed since, such as the weights or the
    number of cores, is named.
    """
    console = Console(json=json, quiet=quiet)
    document, content = repeat(file)
    if output is not None:
        from autodir.imaging.files import write_atomic

        write_atomic(content, output)
        document["output"] = str(output)
    if json:
        console.emit(document)
    else:
        _show(document, console)
    if not document["same"]:
        raise ResultDiffersError(str(file))


def repeat(file: Path) -> tuple[dict[str, Any], bytes]:
    """Repair a photo as its sidecar says.

    Returns:
        The JSON object of the comparison, and the content of the new result.

    Raises:
        AutodirError: the sidecar, the photo or the model cannot be read.
    """
    from autodir.batch import sidecar as sidecars
    from autodir.batch.isolation import Decoder
    from autodir.batch.repair import open_restorer, repair
    from autodir.report import step_to_dict

    then = sidecars.read_sidecar(file)
    path, original = sidecars.read_input(then, file)
    restorer = open_restorer(then["runtime"], then["restore"])
    photo = Decoder().read(path, then["limits"].max_pixels)
    outcome = repair(restorer, photo, then["restore"], Path(then["output"]["path"]))
    rendered = outcome.render()
    content = original if rendered is None else rendered
    digest = hashlib.sha256(content).hexdigest()
    steps = [step_to_dict(step) for step in outcome.report.steps]
    weights = str(restorer.info.get("model_sha256"))
    document = {
        "schema": REPLAY_SCHEMA,
        "sidecar": str(file),
        "input": str(path),
        "output": None,
        "same": digest == then["output"]["sha256"],
        "same_decisions": sidecars.decisions(steps) == sidecars.decisions(then["steps"]),
        "sha256": digest,
        "expected_sha256": then["output"]["sha256"],
        "differences": sidecars.differences(then, weights, sidecars.surroundings()),
        "error": None,
    }
    return document, content


def _show(document: dict[str, Any], console: Console) -> None:
    same = document["same"]
    console.say("the same result" if same else "another result", style="bold")
    if not same:
        console.say(f"sha256 {document['sha256']} instead of {document['expected_sha256']}")
        alike = "the same" if document["same_decisions"] else "other"
        console.say(f"{alike} decisions in the rounds")
    for difference in document["differences"]:
        console.say(f"changed since: {difference}")
    if document["output"] is not None:
        console.say(f"→ {document['output']}")
