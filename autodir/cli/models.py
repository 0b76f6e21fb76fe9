"""``autodir models list|info|verify|convert``: which models there are, and how they get here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autodir.cli.console import Console
from autodir.cli.flags import Json

if TYPE_CHECKING:
    from autodir.checkpoint import ModelInfo
    from autodir.conversion.official import Conversion

MODELS_SCHEMA = "autodir.model/1"
CONVERSION_SCHEMA = "autodir.conversion/1"

app = typer.Typer(help="List, describe, verify and convert models.", no_args_is_help=True)

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A model's name, or the path of a model folder.", show_default=False
    ),
]


@app.command("list")
def list_(json: Json = False) -> None:
    """List the models that come with autodir."""
    from autodir.checkpoint import list_models

    console, models = Console(json=json), list_models()
    if json:
        for model in models:
            console.emit(model_to_dict(model))
        return
    console.table("", ("model", "scale", "parameters", "size", "sha256"), model_rows(models))
    if not models:
        console.say("no model is installed")


@app.command()
def info(model: Model, json: Json = False) -> None:
    """Describe one model."""
    from autodir.checkpoint import info as describe

    console, described = Console(json=json), describe(model)
    if json:
        console.emit(model_to_dict(described))
        return
    facts = [
        ("name", described.name),
        ("folder", str(described.folder)),
        ("scale", described.scale),
        ("size", f"{described.bytes / 1e6:.1f} MB"),
        ("sha256", described.sha256),
        *((f"{part}, parameters", f"{count:,}") for part, count in described.parameters.items()),
        *((f"training, {name}", str(value)) for name, value in described.training.items()),
    ]
    console.table("", ("fact", "value"), facts)


@app.command()
def verify(model: Model, json: Json = False) -> None:
    """Check every file of a model against its recorded hash."""
    from autodir.checkpoint import verify as check

    console, files = Console(json=json), check(model)
    if json:
        whole = {"schema": MODELS_SCHEMA, "model": model, "files": files, "whole": True}
        console.emit(whole | {"error": None})
    else:
        console.say(f"{model}: {len(files)} files are as they were saved")


@app.command()
def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="Published weights: autodir.ckpt, or of LAYOUT."),
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The model folder to write.")],
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="NAME", help="Stored numbers: fp16 or fp32.")
    ] = "fp16",
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            metavar="LAYOUT",
            help="autodir, stablesr, stablesr-768v, diffbir or diffbir-v2.1; by the names of the "
            "tensors by default.",
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option("--base", metavar="FILE", help="Stable Diffusion 2.1, where it is apart."),
    ] = None,
    cfw: Annotated[
        Path | None,
        typer.Option("--cfw", metavar="FILE", help="StableSR's decoder, for --fidelity."),
    ] = None,
    diagnosis: Annotated[
        str,
        typer.Option(
            "--diagnosis", metavar="MODEL", help="Whose diagnosis leads StableSR or DiffBIR."
        ),
    ] = "small",
    json: Json = False,
) -> None:
    """Make a model folder of published weights; nothing in the files is executed."""
    from autodir.conversion.official import convert as convert_checkpoint

    console = Console(json=json)
    besides = {use: path for use, path in (("base", base), ("cfw", cfw)) if path is not None}
    done = convert_checkpoint(
        checkpoint, folder, dtype=dtype, layout=layout, besides=besides, diagnosis=diagnosis,
        tell=console.say,
    )  # fmt: skip
    if json:
        console.emit(conversion_to_dict(done))
        return
    console.say(f"{done.consumed} keys consumed, {sum(map(len, done.ignored.values()))} ignored")
    for reason, names in done.ignored.items():
        console.say(f"  {reason}: {', '.join(names)}", style="dim")
    if done.wide:
        console.say(f"kept in fp32, too large for fp16: {', '.join(done.wide)}")
    console.say(
        f"written, read back and compared in {done.seconds:.0f} s; see {folder / 'README.md'}"
    )
    console.say(f"→ {done.folder}")


def conversion_to_dict(done: Conversion) -> dict[str, Any]:
    """The JSON form of a conversion."""
    return {
        "schema": CONVERSION_SCHEMA,
        "folder": str(done.folder),
        "layout": done.layout,
        "source_sha256": done.source_sha256,
        "consumed": done.consumed,
        "ignored": {reason: list(names) for reason, names in done.ignored.items()},
        "tensors": dict(done.tensors),
        "wide": list(done.wide),
        "seconds": done.seconds,
        "error": None,
    }


def model_to_dict(model: ModelInfo) -> dict[str, Any]:
    """The JSON form of a model's description."""
    return {"schema": MODELS_SCHEMA, **model.to_dict(), "error": None}


def model_rows(models: list[ModelInfo]) -> list[tuple[str, ...]]:
    """Name, scale, parameters, size and the head of the hash of each model."""
    return [
        (
            model.name,
            model.scale,
            f"{sum(model.parameters.values()) / 1e6:.1f} M",
            f"{model.bytes / 1e6:.1f} MB",
            model.sha256[:12],
        )
        for model in models
    ]
