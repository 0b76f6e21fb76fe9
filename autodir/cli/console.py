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
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
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
        if self.quiet or not self._errors.is_terminal or self._errors.is_dumb_terminal:
            yield None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._errors, transient=True) as bar:
            task = bar.add_task(label, total=None)

            def advance(step: SamplingProgress) -> None:
                bar.update(task, completed=step.index + 1, total=step.total)

            yield advance


def _rich_console(*, to_stderr: bool) -> RichConsole:
    return RichConsole(stderr=to_stderr, highlight=False, markup=False, emoji=False)


def _log_to(console: RichConsole, level: int) -> None:
    """Show the package's log records of ``level`` and above on stderr."""
    package = logging.getLogger("autodir")
    package.handlers[:] = [RichHandler(console=console, show_time=False, show_path=False)]
    package.setLevel(level)
