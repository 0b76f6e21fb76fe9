"""Where the result of each input goes, and how it gets there: a whole file or none, or stdout.

Apart because `fix` and `degrade` write under the same rules.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autodir.cli.inputs import STREAM, Input
from autodir.config import OutputOptions
from autodir.errors import ConfigError

if TYPE_CHECKING:
    from autodir.imaging.files import BeforeRename


class Results:
    """The places of the results of one command.

    Args:
        inputs: all photos of the command.
        options: where the results go, and what happens where a name is taken.
        beside: what follows the stem where no output is given; None: ``.restored`` and suffix.

    Raises:
        ConfigError: several results for one place, or an output that no format goes with.
        ImageError: a folder cannot be written to.
    """

    def __init__(
        self, inputs: Sequence[Input], options: OutputOptions, beside: str | None = None
    ) -> None:
        from autodir.batch.local import check_distinct, needs_diagnosis

        self._options, self._beside = options, beside
        self._several = len(inputs) > 1
        self.to_stdout = goes_to_stdout([str(one) for one in inputs], options)
        if self.to_stdout and self._several:
            raise ConfigError("stdout holds one photo only.", "Name a folder with --output.")
        if not self.to_stdout:
            targets = [self.target(one, ()) for one in inputs]
            folders = [target.parent for target in targets]
            if needs_diagnosis(options.output):
                folders = [_fixed_part(str(options.output))]
            else:
                check_distinct(targets)
            if not options.dry_run:
                _check_folders(folders, make=options.output is not None)

    def place(self, one: Input, degradations: Sequence[str] = ()) -> Path | None:
        """The file that the result of an input goes to; None where the input is to be skipped.

        Args:
            one: the input.
            degradations: keys of what was done, for a template's ``{degradations}``.

        Raises:
            ImageError: the name is taken, and no option says what to do.
        """
        from autodir.batch.local import settle_output

        return settle_output(
            self.target(one, degradations),
            one.source,
            output=self._options.output,
            overwrite=self._options.overwrite,
            skip_existing=self._options.skip_existing,
            rename=self._options.rename,
        )

    def write(
        self, content: bytes, target: Path | None, before_rename: BeforeRename | None = None
    ) -> None:
        """Write the content of a result: a whole file or none, or stdout.

        Args:
            content: the encoded result.
            target: from `place`; None writes to stdout.
            before_rename: see `autodir.imaging.files.write_atomic`.

        Raises:
            ImageError: the file cannot be written.
        """
        from autodir.imaging.files import write_atomic

        if target is None:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            write_atomic(content, target, before_rename)

    def target(self, one: Input, degradations: Sequence[str] = ()) -> Path:
        """The name that a result is to have, which may be taken; its suffix is certain at once."""
        from autodir.batch.local import plan_output

        if self._options.output is None and self._beside is not None:
            return one.source.path.with_name(one.source.path.stem + self._beside)
        return plan_output(one.source, self._options.output, degradations, several=self._several)


def goes_to_stdout(inputs: Sequence[str], options: OutputOptions) -> bool:
    """Whether the result is written to stdout: ``--output -``, or stdin without an output."""
    from_stdin = options.output is None and list(inputs) == [STREAM]
    return (options.output == STREAM or from_stdin) and not options.dry_run


def ledger_folder(one: Input, options: OutputOptions) -> Path:
    """The folder that holds the result of an input and those of all inputs that belong to it."""
    output, source = options.output, one.source
    if output is None:
        return source.folder or source.path.parent
    if "{" in output:
        return _fixed_part(output)
    target = Path(output)
    return target if target.is_dir() else target.parent


def _fixed_part(template: str) -> Path:
    """The folder of a template, as far as it is known before the work."""
    parts = Path(template).parent.parts
    variable = (place for place, part in enumerate(parts) if "{" in part)
    return Path(*parts[: next(variable, len(parts))])


def _check_folders(folders: Sequence[Path], *, make: bool) -> None:
    """Make sure that each folder can be written to; a photo that is missing gets no folder made."""
    from autodir.batch.local import check_writable

    for folder in dict.fromkeys(folders):
        if make or folder.is_dir():
            check_writable(folder)
