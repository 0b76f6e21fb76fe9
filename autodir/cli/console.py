"""What a person sees: lines, progress, panels; and the JSON lines that a program reads.

Apart so that one place knows which stream carries what: with JSON or an image on stdout, people are
spoken to on stderr.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console as RichConsole
from rich.logging import RichHandler
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from autodir.errors import AutodirError
from autodir.report import to_json


class SamplingProgress(Protocol):
    """What is read of one sampling step; `autodir.diffusion.samplers.SamplingStep` fits."""

    @property
    def index(self) -> int:
        """0 for the first."""

    @property
    def total(self) -> int:
        """The number of sampling steps."""


Advance = Callable[[SamplingProgress], None]

_LEVELS = {0: logging.WARNING, 1: logging.INFO}
_RATE_SECONDS = 600.0  # long, since a photo may take a minute


class Console:
    """The two streams of one command.

    Args:
        json: results are JSON lines on stdout.
        quiet: say nothing but errors.
        verbose: 0, 1 (measures and what the library logs as information) or 2 (debug messages).
        stdout_taken: stdout carries an image.
    """

    def __init__(
        self,
        *,
        json: bool = False,
        quiet: bool = False,
        verbose: int = 0,
        stdout_taken: bool = False,
    ) -> None:
        self.json, self.quiet, self.verbose = json, quiet, verbose
        self._errors = _rich_console(to_stderr=True)
        self._shown: Progress | None = None
        self._people = self._errors if json or stdout_taken else _rich_console(to_stderr=False)
        _log_to(self._errors, logging.ERROR if quiet else _LEVELS.get(verbose, logging.DEBUG))

    def say(self, text: str, style: str = "") -> None:
        """One line for a person; nothing when quiet."""
        if not self.quiet:
            self._people.print(Text(text, style=style), soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table for a person; nothing when quiet."""
        if self.quiet:
            return
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._people.print(table)

    def emit(self, document: Mapping[str, Any]) -> None:
        """One JSON line on stdout."""
        sys.stdout.write(to_json(document) + "\n")
        sys.stdout.flush()

    def error(self, error: AutodirError, source: str | None = None) -> None:
        """A panel on stderr: what happened, and what can be done about it."""
        lines = Text(error.message)
        if error.hint:
            lines.append("\n" + error.hint, style="dim")
        title = error.kind if source is None else f"{error.kind} · {source}"
        self._errors.print(
            Panel(lines, title=Text(title), title_align="left", border_style="red", expand=False)
        )

    @contextmanager
    def progress(self, label: str) -> Iterator[Advance | None]:
        """A bar on stderr while the body runs; None where stderr is no terminal, or when quiet.

        Yields:
            A callback for each sampling step, which moves the bar.
        """
        if not self._has_bars():
            yield None
            return
        with self._bars() as bars:
            task = bars.add_task(label, total=None, unit="steps")

            def advance(step: SamplingProgress) -> None:
                bars.update(task, completed=step.index + 1, total=step.total)

            try:
                yield advance
            finally:
                bars.remove_task(task)

    @contextmanager
    def overall(self, total: int) -> Iterator[Callable[[bool], None]]:
        """A bar for all photos of a command, with their rate and the remaining time.

        Args:
            total: the number of photos; one alone has no bar.

        Yields:
            Moves the bar by a photo, or takes one that was no work out of the account.
        """
        if total < 2 or not self._has_bars():
            yield lambda is_work: None
            return
        with self._bars() as bars:
            task = bars.add_task("photos", total=total, unit="photos")

            def advance(is_work: bool) -> None:
                left = bars.tasks[0].total or 0
                bars.update(task, advance=int(is_work), total=left - (not is_work))

            yield advance

    def _has_bars(self) -> bool:
        return not self.quiet and self._errors.is_terminal and not self._errors.is_dumb_terminal

    @contextmanager
    def _bars(self) -> Iterator[Progress]:
        """The one display of bars, shared by those inside one another."""
        if self._shown is not None:
            yield self._shown
            return
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(),
            TimeElapsedColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(
            *columns,
            console=self._errors,
            transient=True,
            speed_estimate_period=_RATE_SECONDS,
            redirect_stdout=sys.stdout.isatty(),  # what goes to a file stays out of the display
        ) as self._shown:
            try:
                yield self._shown
            finally:
                self._shown = None


class _Rate(ProgressColumn):
    """So many in a second, or in a minute."""

    def render(self, task: Task) -> Text:
        speed = task.speed or 0.0
        number, time = (speed, "s") if speed >= 1 else (60 * speed, "min")
        return Text(f"{number:.2g} {task.fields['unit']}/{time}" if speed else "")


def _rich_console(*, to_stderr: bool) -> RichConsole:
    return RichConsole(stderr=to_stderr, highlight=False, markup=False, emoji=False)


def _log_to(console: RichConsole, level: int) -> None:
    """Show the package's log records of ``level`` and above on stderr."""
    package = logging.getLogger("autodir")
    package.handlers[:] = [RichHandler(console=console, show_time=False, show_path=False)]
    package.setLevel(level)
