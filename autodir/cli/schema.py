"""``autodir schema [NAME]``: what the JSON objects of each command look like."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from autodir import schema as schemas
from autodir.cli.console import Console


def schema(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Such as diagnosis, or diagnosis/1.", show_default=False
        ),
    ] = None,
) -> None:
    """List the kinds of JSON objects that the commands write, or print the JSON Schema of one."""
    if name is not None:
        typer.echo(json.dumps(schemas.json_schema(name), indent=2, ensure_ascii=False))
        return
    rows = [(full, schemas.describe(full)) for full in schemas.names()]
    Console().table("", ("schema", "of"), rows)
