"""``autodir fix INPUT...``: find out what is wrong with photos, and repair it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from autodir.cli.console import Console
from autodir.cli.flags import ConfigFile, Json, Preset, Quiet, Verbose, flags, gather
from autodir.cli.inputs import Input, Inputs, find_inputs, go_through, open_restorer
from autodir.cli.results import Results, goes_to_stdout
from autodir.config import OutputOptions, RestoreOptions, RuntimeOptions
from autodir.errors import ConfigError
from autodir.report import (
    PLAN_SCHEMA,
    RESTORATION_SCHEMA,
    plan_to_dict,
    restoration_to_dict,
    skipped_to_dict,
)

if TYPE_CHECKING:
    from autodir.imaging.io import Photo
    from autodir.pipeline import PlannedStep, Restorer
    from autodir.records import Report, Step

_SKIPPED = "skipped, the result exists"
_DONE = {"kept": "repaired", "blended": "repaired in part", "rolled back": "rolled back"}


@flags(RestoreOptions, RuntimeOptions, OutputOptions)
def fix(
    inputs: Inputs,
    given: Mapping[str, Any],
    *,
    preset: Preset = None,
    config: ConfigFile = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Find out what is wrong with photos, repair it, and leave good photos alone.

    The result of photo.jpg is photo.restored.jpg beside it; the photo itself is never replaced
    unless it is named as the output together with --overwrite.
    """
    restore, runtime, output = gather(
        (RestoreOptions, RuntimeOptions, OutputOptions), given, preset=preset, config=config
    )
    to_stdout = goes_to_stdout(inputs, output)
    if json and to_stdout:
        raise ConfigError("--json and the photo would share stdout.", "Name a file with --output.")
    console = Console(json=json, quiet=quiet, verbose=verbose, stdout_taken=to_stdout)
    found = find_inputs(inputs, output)
    results = Results(found, output)
    restorer = open_restorer(runtime)
    for key in (*restore.only, *restore.skip):  # once for all inputs, and before any work
        restorer.taxonomy.get(key)
    fixing = _Fixing(restorer, restore, output, console, results, name_inputs=len(found) > 1)
    go_through(
        found,
        fixing.plan if output.dry_run else fixing.fix,
        console=console,
        schema=PLAN_SCHEMA if output.dry_run else RESTORATION_SCHEMA,
        fail_fast=output.fail_fast,
    )


class _Fixing:
    """What is done with each input."""

    def __init__(
        self,
        restorer: Restorer,
        restore: RestoreOptions,
        output: OutputOptions,
        console: Console,
        results: Results,
        *,
        name_inputs: bool,
    ) -> None:
        self._restorer, self._restore, self._output = restorer, restore, output
        self._console, self._results, self._name_inputs = console, results, name_inputs

    def fix(self, one: Input) -> None:
        """Repair one photo, write the result, and say what was done."""
        from autodir.batch.local import needs_diagnosis

        # A name that is taken is found out before the work, wherever it is known by then.
        late = needs_diagnosis(self._output.output)
        target = None if self._results.to_stdout or late else self._results.place(one)
        if target is None and not self._results.to_stdout and not late:
            self._skip(one)
            return
        photo = one.read(self._output.max_pixels)
        with self._console.progress(str(one)) as advance:
            restoration = self._restorer.restore(photo, self._restore, callback=advance)
        report, result = restoration.report, cast("Photo", restoration.image)
        if late:
            target = self._results.place(one, repaired(report))
            if target is None:
                self._skip(one)
                return
        is_unchanged = result.size == photo.size and (
            self._restore.strength == 0 or not repaired(report)
        )
        self._results.write(result, one, target, is_unchanged=is_unchanged)
        self._show(report, one, target)

    def plan(self, one: Input) -> None:
        """Say what would be done with one photo; write nothing."""
        photo = one.read(self._output.max_pixels)
        planned: Sequence[PlannedStep] = self._restorer.plan(photo, self._restore)
        if self._console.json:
            self._console.emit(plan_to_dict(planned, source=str(one)))
            return
        self._name(one)
        for number, step in enumerate(planned, start=1):
            words = f"  “{step.prompt}”" if step.prompt else ""
            found = f"{step.degradation} {step.probability:.2f}"
            self._console.say(f"{number}  {found}{words}  structure {step.structure_weight:.2f}")
        if not planned:
            self._console.say("clean: nothing would be changed")

    def _show(self, report: Report, one: Input, target: Path | None) -> None:
        where = None if target is None else str(target)
        if self._console.json:
            self._console.emit(restoration_to_dict(report, source=str(one), output=where))
            return
        self._name(one)
        for step in report.steps:
            self._console.say(round_line(step))
            if self._console.verbose:
                self._console.say(f"   {step.why}", style="dim")
                for name, value in step.measures.items():
                    self._console.say(f"   {name} {value:.4g}", style="dim")
        self._console.say("clean: nothing to repair" if report.clean else report.stopped)
        if where is not None:
            self._console.say(f"→ {where}")

    def _skip(self, one: Input) -> None:
        """Say that the result is there already."""
        if self._console.json:
            self._console.emit(skipped_to_dict(source=str(one), why=_SKIPPED))
        else:
            self._console.say(f"{one}: {_SKIPPED}")

    def _name(self, one: Input) -> None:
        if self._name_inputs:
            self._console.say(str(one), style="bold")


def repaired(report: Report) -> list[str]:
    """The degradations of the rounds that changed the photo, each once."""
    kept = (step.degradation for step in report.steps if step.verdict != "rolled back")
    return list(dict.fromkeys(kept))


def round_line(step: Step) -> str:
    """One round in one line: ``1  rain 0.93  →  repaired  2.1 s``."""
    words = f"  “{step.prompt}”" if step.prompt else ""
    found = f"{step.index + 1}  {step.degradation} {step.probability:.2f}{words}"
    return f"{found}  →  {_DONE[step.verdict]}  {step.seconds:.1f} s"
