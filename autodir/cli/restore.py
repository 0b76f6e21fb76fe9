"""``autodir fix INPUT...``: find out what is wrong with photos, and repair it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from autodir.cli.accounts import Accounts, ReportFile, Sidecar
from autodir.cli.console import Console
from autodir.cli.flags import ConfigFile, Json, Preset, Quiet, Verbose, flags, gather
from autodir.cli.inputs import Input, Inputs, find_inputs, go_through
from autodir.cli.results import Results, goes_to_stdout
from autodir.cli.tally import Tally
from autodir.config import BatchOptions, OutputOptions, RestoreOptions, RuntimeOptions
from autodir.errors import ConfigError
from autodir.report import PLAN_SCHEMA, RESTORATION_SCHEMA, plan_to_dict

if TYPE_CHECKING:
    from autodir.batch.repair import Outcome, Repairer
    from autodir.cli.fixing import Ready
    from autodir.pipeline import PlannedStep, Restorer


@flags(RestoreOptions, RuntimeOptions, OutputOptions, BatchOptions)
def fix(
    inputs: Inputs,
    given: Mapping[str, Any],
    *,
    report: ReportFile = None,
    sidecar: Sidecar = False,
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
    restore, runtime, output, batch = gather(
        (RestoreOptions, RuntimeOptions, OutputOptions, BatchOptions),
        given,
        preset=preset,
        config=config,
    )
    to_stdout = goes_to_stdout(inputs, output)
    if json and to_stdout:
        raise ConfigError("--json and the photo would share stdout.", "Name a file with --output.")
    console = Console(json=json, quiet=quiet, verbose=verbose, stdout_taken=to_stdout)
    found = find_inputs(inputs, output)
    results = Results(found, output)
    batch = dataclasses.replace(batch, jobs=min(batch.jobs, len(found)))
    with ExitStack() as resources:
        if output.dry_run:
            _plan_all(found, restore, runtime, output, console)
            return
        workers: Sequence[_InThisProcess] | Sequence[_InAnother]
        if batch.jobs == 1:
            workers = [_InThisProcess(runtime, restore, console)]
        else:
            runtime = _share(runtime, batch.jobs)
            workers = _open_others(batch.jobs, runtime, restore, output, resources)
        kept = (runtime, output) if sidecar else None
        accounts = Accounts(len(found), report, workers[0].info, output.max_pixels, kept)
        resources.enter_context(accounts)
        _fix_all(found, results, restore, output, batch, console, workers, accounts)


class _InThisProcess:
    """Repairs what has been read ahead."""

    def __init__(self, runtime: RuntimeOptions, restore: RestoreOptions, console: Console) -> None:
        from autodir.batch.repair import open_restorer

        self._restorer = open_restorer(runtime, restore)
        self._restore, self._console = restore, console
        self.info = self._restorer.info

    def __call__(self, one: Input, ready: Ready) -> tuple[Ready, Outcome | None]:
        from autodir.batch.repair import repair

        photo, ready = ready.photo, dataclasses.replace(ready, photo=None)
        if photo is None:
            return ready, None
        with self._console.progress(str(one)) as advance:
            return ready, repair(self._restorer, photo, self._restore, ready.target, advance)


class _InAnother:
    """Lets a process read and repair."""

    def __init__(self, repairer: Repairer, info: Mapping[str, Any]) -> None:
        self._repairer, self.info = repairer, info

    def __call__(self, one: Input, ready: Ready) -> tuple[Ready, Outcome | None]:
        if ready.is_settled:
            return ready, None
        return ready, self._repairer.repair(one.source.path, ready.target)


def _share(runtime: RuntimeOptions, jobs: int) -> RuntimeOptions:
    """The options of each of several processes on one CPU."""
    from autodir.batch.repair import share_threads

    return dataclasses.replace(runtime, device="cpu", threads=share_threads(runtime, jobs))


def _open_others(
    jobs: int,
    runtime: RuntimeOptions,
    restore: RestoreOptions,
    output: OutputOptions,
    resources: ExitStack,
) -> list[_InAnother]:
    """Start processes that share the CPU."""
    from autodir.batch.repair import open_repairers

    repairers, info = open_repairers(jobs, runtime, restore, output, resources)
    return [_InAnother(repairer, info) for repairer in repairers]


def _fix_all(
    found: Sequence[Input],
    results: Results,
    restore: RestoreOptions,
    output: OutputOptions,
    batch: BatchOptions,
    console: Console,
    workers: Sequence[_InThisProcess] | Sequence[_InAnother],
    accounts: Accounts,
) -> None:
    """Read ahead, repair, and write behind."""
    from autodir.batch.ledger import options_digest
    from autodir.batch.stream import stream
    from autodir.cli.fixing import Fixing

    model = workers[0].info.get("model_sha256")
    options = options_digest({"restore": restore.to_dict(), "model": model})
    with Tally(len(found), console, RESTORATION_SCHEMA) as tally, ExitStack() as resources:
        fixing = Fixing(found, results, output, batch, options, console, tally, accounts)
        resources.callback(fixing.close)
        stream(
            found,
            prepare=fixing.prepare,
            workers=workers,
            finish=fixing.finish,
            stop=tally.stop,
            fail_fast=output.fail_fast,
        )


def _plan_all(
    found: Sequence[Input],
    restore: RestoreOptions,
    runtime: RuntimeOptions,
    output: OutputOptions,
    console: Console,
) -> None:
    """Say what would be done; write nothing."""
    from autodir.batch.repair import open_restorer

    restorer: Restorer = open_restorer(runtime, restore)

    def plan(one: Input) -> None:
        photo = one.read(output.max_pixels)
        planned: Sequence[PlannedStep] = restorer.plan(photo, restore)
        if console.json:
            console.emit(plan_to_dict(planned, source=str(one)))
            return
        if len(found) > 1:
            console.say(str(one), style="bold")
        for number, step in enumerate(planned, start=1):
            words = f"  “{step.prompt}”" if step.prompt else ""
            found_here = f"{step.degradation} {step.probability:.2f}"
            console.say(f"{number}  {found_here}{words}  structure {step.structure_weight:.2f}")
        if not planned:
            console.say("clean: nothing would be changed")

    go_through(found, plan, console=console, schema=PLAN_SCHEMA, fail_fast=output.fail_fast)
