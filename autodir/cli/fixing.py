"""What `fix` does with each photo before and after its repair; each stage has its own thread.

Apart from the command, which puts options, model and this together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autodir.batch.ledger import Entry, Fingerprint, Ledger
from autodir.batch.local import needs_diagnosis
from autodir.batch.repair import Outcome, repaired
from autodir.batch.twins import Original, Twins
from autodir.cli.accounts import Accounts
from autodir.cli.console import Console
from autodir.cli.inputs import Input
from autodir.cli.results import Results, ledger_folder
from autodir.cli.tally import Tally
from autodir.config import BatchOptions, OutputOptions
from autodir.errors import AutodirError, ImageError
from autodir.imaging.files import keep_attributes, read_limited, sweep
from autodir.report import restoration_to_dict, skipped_to_dict

if TYPE_CHECKING:
    from autodir.imaging.io import Photo

_EXISTS = "skipped, the result exists"
_DONE = {"kept": "repaired", "blended": "repaired in part", "rolled back": "rolled back"}


@dataclass(frozen=True, kw_only=True)
class Ready:
    """An input before its repair; nothing is to be repaired where it is skipped or has an entry.

    Attributes:
        target: the name of its result; None for stdout.
        is_placed: the name is free; if not, only its suffix is certain.
        is_skipped: a result exists.
        done: what an earlier run has written down about it.
        file: what it holds; None where no ledger is kept.
        twin: an input before it with the same content.
        photo: decoded; None where another process does that.
    """

    target: Path | None = None
    is_placed: bool = False
    is_skipped: bool = False
    done: Entry | None = None
    file: Fingerprint | None = None
    twin: Original[tuple[Input, Ready]] | None = None
    photo: Photo | None = None

    @property
    def is_settled(self) -> bool:
        """Nothing is left to repair."""
        return self.is_skipped or self.done is not None or self.twin is not None


class Fixing:
    """The stages around the repair.

    Args:
        inputs: all of them.
        results: where their results go.
        output, batch: the options.
        options: stands for whatever else decides how results look.
        console: where is said what was done.
        tally: counts what was done.
        accounts: keeps the page and the sidecars.

    Raises:
        ConfigError: another run is writing to the same folder.
        ImageError: a ledger cannot be written.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        results: Results,
        output: OutputOptions,
        batch: BatchOptions,
        options: str,
        console: Console,
        tally: Tally,
        accounts: Accounts,
    ) -> None:
        self._results, self._output, self._batch = results, output, batch
        self._console, self._tally, self._several = console, tally, len(inputs) > 1
        self._accounts = accounts
        # Under --rename and {degradations} a name is certain when all before it are written.
        self._places_late = results.to_stdout or output.rename or needs_diagnosis(output.output)
        self._twins: Twins[tuple[Input, Ready]] = Twins()
        self._ledgers: dict[Path, Ledger] = {}
        is_batch = self._several or batch.resume or inputs[0].source.folder is not None
        if is_batch and not results.to_stdout:
            self._open_ledgers(inputs, options)

    def close(self) -> None:
        """Let other runs write to the same folders."""
        for ledger in self._ledgers.values():
            ledger.close()

    def prepare(self, one: Input) -> Ready:
        """Find out whether there is anything to repair, and read the photo.

        Raises:
            ImageError: it cannot be read, or its result cannot be written.
        """
        path, ledger = one.source.path, self._ledger(one)
        if ledger is not None and self._batch.resume and (entry := ledger.find(path)):
            return Ready(done=entry)
        target = None if self._results.to_stdout else self._results.target(one)
        if not self._places_late:
            target = self._results.place(one)
            if target is None:
                return Ready(is_skipped=True)
        file = twin = None
        if ledger is not None and path.is_file() and path.stat().st_size <= self._output.max_bytes:
            file = Fingerprint.of(path)
            twin = self._twins.find(path, file.sha256 + _suffixes(one, target))
            earlier = self._batch.resume and self._find_twin(file, _suffixes(one, target))
            if twin is None and earlier:
                twin = Original(Path(earlier.document["input"]), is_settled=True)
        photo = one.read(self._output.max_pixels) if self._batch.jobs == 1 and not twin else None
        return Ready(
            target=target, is_placed=not self._places_late, file=file, twin=twin, photo=photo
        )

    def finish(self, one: Input, done: tuple[Ready, Outcome | None] | AutodirError) -> None:
        """Write the result, and say what was done or why not."""
        error: AutodirError | None = None
        try:
            if not self._settle(one, done):
                return
        except AutodirError as failure:
            error = failure
            self._fail(one, failure)
        for twin, ready in self._twins.settle(one.source.path, error):
            self.finish(twin, (ready, None))

    def _settle(self, one: Input, done: tuple[Ready, Outcome | None] | AutodirError) -> bool:
        """Finish one input, unless it has to wait for its twin."""
        if isinstance(done, AutodirError):
            raise done
        ready, outcome = done
        if ready.twin is not None and not ready.twin.is_settled:
            ready.twin.waiting.append((one, ready))
            return False
        if outcome is not None:
            document = restoration_to_dict(outcome.report, source=str(one))
            content = outcome.render()
            self._deliver(one, ready, document, one.content() if content is None else content)
        elif ready.twin is not None:
            self._copy(one, ready, ready.twin)
        else:
            self._pass_over(one, ready.done)
        return True

    def _copy(self, one: Input, ready: Ready, twin: Original[tuple[Input, Ready]]) -> None:
        """Take over the result of a file with the same content."""
        if twin.error is not None:
            raise ImageError(
                f"{one} has the content of {twin.path}, which failed: {twin.error.message}",
                hint=twin.error.hint,
            )
        entry = self._find_twin(ready.file, _suffixes(one, ready.target))
        if entry is None:
            raise ImageError(f"the result of {twin.path} is gone", hint="run again with --resume")
        document = {**entry.document, "input": str(one)}
        self._deliver(one, ready, document, read_limited(entry.output), f"as {twin.path}")

    def _find_twin(self, file: Fingerprint | None, suffixes: str) -> Entry | None:
        """What this or an earlier run has written down about another file with the same content."""
        entries = (ledger.find_content(file, suffixes) for ledger in self._ledgers.values() if file)
        return next((entry for entry in entries if entry is not None), None)

    def _deliver(
        self, one: Input, ready: Ready, document: dict[str, Any], content: bytes, note: str = ""
    ) -> None:
        """Find the name of the result, write it, and say so."""
        steps = [(step["degradation"], step["verdict"]) for step in document["steps"]]
        target, changed = ready.target, repaired(steps)
        if target is not None and not ready.is_placed:
            target = self._results.place(one, changed)
            if target is None:
                self._pass_over(one, None)
                return
        document["output"] = None if target is None else str(target)
        if ready.file is not None and not ready.file.is_of(one.source.path):
            raise ImageError(f"{one} has changed while it was repaired", hint="run again")
        if not (target and target.exists() and _is_file_with(one, target, content)):
            seal = partial(self._seal, one, ready, document, content)
            self._results.write(content, target, seal)
        elif target is not None:
            self._accounts.write_sidecar(one, document, content)
        self._accounts.delivered(one, document, content)
        self._show(one, document, note)
        self._tally.count("clean" if document["clean"] else "repaired" if changed else "unchanged")

    def _seal(
        self, one: Input, ready: Ready, document: Mapping[str, Any], content: bytes, whole: Path
    ) -> None:
        """Before the result gets its name: what it takes over, its sidecar, its line."""
        if one.data is None:
            keep_attributes(
                one.source.path,
                whole,
                times=self._batch.keep_times,
                permissions=self._batch.keep_permissions,
            )
        self._accounts.write_sidecar(one, document, content)
        ledger = self._ledger(one)
        if ledger is None or ready.file is None:
            return
        result = Fingerprint.known(whole.stat(), hashlib.sha256(content).hexdigest())
        entry = Entry(output=Path(document["output"]), result=result, document=document)
        ledger.add(one.source.path, ready.file, _suffixes(one, ready.target), entry)

    def _pass_over(self, one: Input, entry: Entry | None) -> None:
        """Say that the result is there already."""
        if entry is None:
            document, text, what = skipped_to_dict(source=str(one), why=_EXISTS), _EXISTS, "skipped"
        else:
            document = {**entry.document, "input": str(one), "output": str(entry.output)}
            text = what = "done in an earlier run"
        if self._console.json:
            self._console.emit(document)
        else:
            self._console.say(f"{one}: {text}")
        self._accounts.passed_over(one, document)
        self._tally.count(what, is_work=False)

    def _fail(self, one: Input, error: AutodirError) -> None:
        ledger = self._ledger(one)
        if ledger is not None:
            ledger.add_failure(one.source.path, error)
        self._accounts.failed(one, error)
        self._tally.fail(str(one), error)
        if self._output.fail_fast:
            self._tally.stop.set()

    def _show(self, one: Input, document: Mapping[str, Any], note: str) -> None:
        console = self._console
        if console.json:
            console.emit(document)
            return
        if self._several:
            console.say(f"{one}  {note}".rstrip(), style="bold")
        for step in document["steps"]:
            console.say(round_line(step))
            if console.verbose:
                console.say(f"   {step['why']}", style="dim")
                for name, value in step["measures"].items():
                    console.say(f"   {name} {value:.4g}", style="dim")
        console.say("clean: nothing to repair" if document["clean"] else document["stopped"])
        if document["output"] is not None:
            console.say(f"→ {document['output']}")

    def _open_ledgers(self, inputs: Sequence[Input], options: str) -> None:
        """Open a ledger in each folder of results that is there, and keep other runs out of it."""
        for one in inputs:
            folder = ledger_folder(one, self._output)
            if folder.is_dir() and folder not in self._ledgers:
                self._ledgers[folder] = Ledger(folder, options)
        if self._batch.resume:
            below = {self._results.target(one).parent for one in inputs}
            if needs_diagnosis(self._output.output):
                found = (path for folder in self._ledgers for path in folder.rglob("*"))
                below = {path for path in found if path.is_dir()}
            sweep(below | set(self._ledgers))

    def _ledger(self, one: Input) -> Ledger | None:
        return self._ledgers.get(ledger_folder(one, self._output)) if self._ledgers else None


def round_line(step: Mapping[str, Any]) -> str:
    """One round in one line: ``1  rain 0.93  →  repaired  2.1 s``."""
    words = f"  “{step['prompt']}”" if step["prompt"] else ""
    found = f"{step['index'] + 1}  {step['degradation']} {step['probability']:.2f}{words}"
    return f"{found}  →  {_DONE[step['verdict']]}  {step['seconds']:.1f} s"


def _suffixes(one: Input, target: Path | None) -> str:
    """Those of a file and its result: with the content they decide how the result looks."""
    return f"{one.source.path.suffix}>{'' if target is None else target.suffix}".lower()


def _is_file_with(one: Input, target: Path, content: bytes) -> bool:
    """Whether the result is the photo's own file and that holds it already."""
    own = one.data is None and target.samefile(one.source.path)
    return own and one.content() == content
