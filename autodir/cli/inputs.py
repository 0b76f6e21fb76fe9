"""What the commands on photos share: find and read the inputs, open the model, count the failures.

Apart so that one file that fails is treated alike everywhere: it is shown, and the others go on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autodir.cli.console import Console
from autodir.cli.tally import Tally
from autodir.config import OutputOptions, RuntimeOptions
from autodir.errors import AutodirError, ConfigError

if TYPE_CHECKING:
    from autodir.batch.isolation import Decoder
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


@dataclass(frozen=True, kw_only=True)
class Input:
    """One photo to work on, as a file or as what stdin carried.

    Attributes:
        source: the file and the folder it was found in; for stdin a made-up name.
        data: the content of stdin; None for a file.
        decoder: reads it; None: under the usual limits.
    """

    source: Source
    data: bytes | None = None
    decoder: Decoder | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """The name that reports and messages use."""
        return STREAM if self.data is not None else str(self.source.path)

    def read(self, max_pixels: int) -> Photo:
        """Decode the photo.

        Raises:
            ImageError: it cannot be read or is over a limit.
        """
        return self.decode(self.source.path if self.data is None else self.data, max_pixels)

    def decode(self, content: Path | bytes, max_pixels: int) -> Photo:
        """Decode a file or a content that is trusted no more than the input.

        Raises:
            ImageError: it cannot be read or is over a limit.
        """
        from autodir.batch.isolation import Decoder

        return (self.decoder or Decoder()).read(content, max_pixels)

    def content(self) -> bytes:
        """The file byte for byte."""
        from autodir.imaging.files import MAX_BYTES, read_limited

        limit = self.decoder.max_bytes if self.decoder else MAX_BYTES
        return read_limited(self.source.path, limit) if self.data is None else self.data


def find_inputs(names: Sequence[str], options: OutputOptions) -> list[Input]:
    """The photos that the arguments name; ``-`` alone is stdin.

    Raises:
        ConfigError: nothing is found, or stdin stands beside other inputs.
        ImageError: a folder cannot be listed.
    """
    from autodir.batch.local import Source, expand_inputs
    from autodir.batch.repair import open_decoder
    from autodir.imaging.files import check_size

    decoder = open_decoder(options)
    if STREAM in names:
        if len(names) > 1:
            raise ConfigError("stdin cannot stand beside other inputs.", "Give - alone.")
        data = sys.stdin.buffer.read(options.max_bytes + 1)
        check_size(data, "stdin", options.max_bytes)
        return [Input(source=Source(path=Path("stdin")), data=data, decoder=decoder)]
    output = options.output
    results = Path(output) if output and output != STREAM and "{" not in output else None
    found = expand_inputs(names, recursive=options.recursive, exclude=results)
    return [Input(source=source, decoder=decoder) for source in found]


def open_restorer(runtime: RuntimeOptions) -> Restorer:
    """Load the model that the user asked for."""
    from autodir.batch import repair

    return repair.open_restorer(runtime)


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
        KeyboardInterrupt: Ctrl-C was pressed; what was begun has been finished.
    """
    with Tally(len(inputs), console, schema) as tally:
        for one in inputs:
            if tally.stop.is_set():
                break
            try:
                work(one)
            except AutodirError as error:
                tally.fail(str(one), error)
                if fail_fast:
                    break
            else:
                tally.count("done")
