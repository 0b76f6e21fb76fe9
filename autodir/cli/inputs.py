"""What the commands on photos share: find and read the inputs, open the model, count the failures.

Apart so that one file that fails is treated alike everywhere: it is shown, and the others go on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autodir.cli.console import Console
from autodir.config import OutputOptions, RuntimeOptions
from autodir.errors import AutodirError, ConfigError
from autodir.report import error_to_dict

if TYPE_CHECKING:
    from autodir.batch.local import Source
    from autodir.imaging.io import Photo
    from autodir.pipeline import Restorer

STREAM = "-"
"""The name of stdin among the inputs, and of stdout as the output."""

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...", help="Photos, folders, globs, or - for stdin.", show_default=False
    ),
]


class FilesFailedError(Exception):
    """Inputs failed and have been shown; what is left is the exit code.

    Args:
        errors: one error for each input that failed.
        is_alone: there was only one input, so that its error decides the exit code.
    """

    def __init__(self, errors: Sequence[AutodirError], *, is_alone: bool) -> None:
        super().__init__(f"{len(errors)} inputs failed")
        self.errors, self.is_alone = tuple(errors), is_alone


@dataclass(frozen=True, kw_only=True)
class Input:
    """One photo to work on, as a file or as what stdin carried.

    Attributes:
        source: the file and the folder it was found in; for stdin a made-up name.
        data: the content of stdin; None for a file.
    """

    source: Source
    data: bytes | None = None

    def __str__(self) -> str:
        """The name that reports and messages use."""
        return STREAM if self.data is not None else str(self.source.path)

    def read(self, max_pixels: int) -> Photo:
        """Decode the photo."""
        from autodir.imaging.io import read

        return read(self.source.path if self.data is None else self.data, max_pixels)

    def content(self) -> bytes:
        """The file byte for byte."""
        return self.source.path.read_bytes() if self.data is None else self.data


def find_inputs(names: Sequence[str], options: OutputOptions) -> list[Input]:
    """The photos that the arguments name; ``-`` alone is stdin.

    Raises:
        ConfigError: nothing is found, or stdin stands beside other inputs.
        ImageError: a folder cannot be listed.
    """
    from autodir.batch.local import Source, expand_inputs

    if STREAM in names:
        if len(names) > 1:
            raise ConfigError("stdin cannot stand beside other inputs.", "Give - alone.")
        return [Input(source=Source(path=Path("stdin")), data=sys.stdin.buffer.read())]
    output = options.output
    results = Path(output) if output and output != STREAM and "{" not in output else None
    found = expand_inputs(names, recursive=options.recursive, exclude=results)
    return [Input(source=source) for source in found]


def open_restorer(runtime: RuntimeOptions) -> Restorer:
    """Load the model that the user asked for."""
    from autodir.pipeline import Restorer

    return Restorer.from_pretrained(
        runtime.model,
        device=runtime.device,
        precision=runtime.precision,
        threads=runtime.threads,
    )


def go_through(
    inputs: Sequence[Input],
    work: Callable[[Input], None],
    *,
    console: Console,
    schema: str,
    fail_fast: bool,
) -> None:
    """Do ``work`` for every input; show those that fail and go on, or stop at the first.

    Args:
        inputs: what to work on.
        work: what to do with one.
        console: where failures are shown.
        schema: the schema of the JSON objects that stand for failures.
        fail_fast: stop at the first failure.

    Raises:
        FilesFailedError: at least one input failed.
    """
    errors: list[AutodirError] = []
    for one in inputs:
        try:
            work(one)
        except AutodirError as error:
            errors.append(error)
            if console.json:
                console.emit(error_to_dict(error, schema=schema, source=str(one)))
            else:
                console.error(error, str(one))
            if fail_fast:
                break
    if errors:
        raise FilesFailedError(errors, is_alone=len(inputs) == 1)
