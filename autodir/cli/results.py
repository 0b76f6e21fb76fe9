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
    from autodir.imaging.io import Photo


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
            targets = [self._target(one, ()) for one in inputs]
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
            self._target(one, degradations),
            one.source,
            output=self._options.output,
            overwrite=self._options.overwrite,
            skip_existing=self._options.skip_existing,
            rename=self._options.rename,
        )

    def write(self, photo: Photo, one: Input, target: Path | None, *, is_unchanged: bool) -> None:
        """Write a result: encoded, or the input byte for byte where nothing changed.

        Args:
            photo: the result.
            one: the input that it was made from.
            target: from `place`; None writes to stdout.
            is_unchanged: the pixels are the input's.

        Raises:
            ImageError: the photo cannot be written.
        """
        from autodir.imaging.io import copy_atomic, encode, write_atomic

        if target is None:
            content = one.content() if is_unchanged else encode(photo)
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        elif not (is_unchanged and _keeps_format(photo, one, target)):
            photo.save(target, overwrite=True)  # `place` has asked the user's options before
        elif one.data is not None:
            write_atomic(one.data, target)
        elif not (target.exists() and target.samefile(one.source.path)):
            copy_atomic(one.source.path, target)

    def _target(self, one: Input, degradations: Sequence[str]) -> Path:
        from autodir.batch.local import plan_output

        if self._options.output is None and self._beside is not None:
            return one.source.path.with_name(one.source.path.stem + self._beside)
        return plan_output(one.source, self._options.output, degradations, several=self._several)


def goes_to_stdout(inputs: Sequence[str], options: OutputOptions) -> bool:
    """Whether the result is written to stdout: ``--output -``, or stdin without an output."""
    from_stdin = options.output is None and list(inputs) == [STREAM]
    return (options.output == STREAM or from_stdin) and not options.dry_run


def _keeps_format(photo: Photo, one: Input, target: Path) -> bool:
    """Whether the bytes of the input fit the name of the target."""
    from autodir.imaging.formats import format_of_suffix

    if not target.suffix or target.suffix.lower() == one.source.path.suffix.lower():
        return True
    return format_of_suffix(target) == photo.metadata.format


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
