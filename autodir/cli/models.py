"""``autodir models list|info|verify``: which models there are, and whether they are whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from autodir.cli.console import Console
from autodir.cli.flags import Json

if TYPE_CHECKING:
    from autodir.checkpoint import ModelInfo

MODELS_SCHEMA = "autodir.model/1"

app = typer.Typer(help="List, describe and verify models.", no_args_is_help=True)

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
