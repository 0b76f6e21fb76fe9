"""What happens to one photo between its file and that of its result, here or in other processes.

Apart from the restore loop, which knows no files, and from the command line, which a process that
only repairs does not need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from autodir.batch.child import Child, requests
from autodir.batch.isolation import Decoder
from autodir.config import OutputOptions, RestoreOptions, RuntimeOptions
from autodir.errors import AutodirError, ConfigError, DeviceError
from autodir.imaging.formats import format_of_suffix
from autodir.imaging.io import Photo
from autodir.records import Report

if TYPE_CHECKING:
    from autodir.pipeline import Callback, Restorer


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a photo.

    Attributes:
        report: what was found and done.
        render: the content of the result's file; None where that is the photo's own, byte for byte.
    """

    report: Report
    render: Callable[[], bytes | None]


def open_restorer(runtime: RuntimeOptions, restore: RestoreOptions | None = None) -> Restorer:
    """Load the model that the user asked for.

    Raises:
        CheckpointError, ConfigError, DeviceError: see `Restorer.from_pretrained`.
        PromptError: ``restore`` names a degradation that the model does not know.
    """
    from autodir.pipeline import Restorer  # a command that repairs nothing opens no model

    restorer = Restorer.from_pretrained(
        runtime.model,
        device=runtime.device,
        precision=runtime.precision,
        threads=runtime.threads,
        offload=runtime.offload,
        compile=runtime.compile,
    )
    for key in (*restore.only, *restore.skip) if restore else ():
        restorer.taxonomy.get(key)  # once for all photos, and before any work
    return restorer


def repair(
    restorer: Restorer,
    photo: Photo,
    options: RestoreOptions,
    target: Path | None,
    callback: Callback | None = None,
) -> Outcome:
    """Repair a photo; its result is encoded when `Outcome.render` is called.

    Args:
        restorer: the model.
        photo: decoded.
        options: what to repair and how.
        target: the name of the result, which decides about its format; None keeps the photo's.
        callback: see `Restorer.restore`.
    """
    restoration = restorer.restore(photo, options, callback)
    result, report = restoration.image, restoration.report
    assert isinstance(result, Photo)
    changed = repaired((step.degradation, step.verdict) for step in report.steps)
    is_unchanged = result.size == photo.size and (options.strength == 0 or not changed)
    if is_unchanged and _keeps_format(photo, target):
        return Outcome(report=report, render=_nothing)
    return Outcome(report=report, render=partial(result.to_bytes, target))


def repaired(steps: Iterable[tuple[str, str]]) -> list[str]:
    """The degradations of the rounds that changed the photo, each once.

    Args:
        steps: degradation and verdict of each round.
    """
    return list(dict.fromkeys(key for key, verdict in steps if verdict != "rolled back"))


class Repairer:
    """A process with a model of its own; see `repair`.

    Args:
        runtime: model, precision and threads; the device is the CPU.
        restore: what to repair and how.
        limits: of the files.
    """

    def __init__(
        self, runtime: RuntimeOptions, restore: RestoreOptions, limits: OutputOptions
    ) -> None:
        self._child = Child(serve_repairs, runtime, restore, limits, has_children=True)

    def open(self) -> dict[str, Any]:
        """Load the model; its name and hash.

        Raises:
            AutodirError: see `open_restorer`.
        """
        info: dict[str, Any] = self._ask(None, "the model")
        return info

    def repair(self, source: Path, target: Path | None) -> Outcome:
        """Read, repair and encode a photo.

        Raises:
            AutodirError: whatever fails there.
            DeviceError: the process ended, as it does where memory is short.
        """
        report, content = self._ask((source, target), str(source))
        return Outcome(report=report, render=lambda: content)

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def _ask(self, request: object, about: str) -> Any:
        try:
            answer = self._child.ask(request, Connection.recv)
        except ChildProcessError as error:
            raise DeviceError(
                f"the process that worked on {about} is gone ({error})",
                "If memory is short, use fewer --jobs.",
            ) from error
        if isinstance(answer, AutodirError):
            raise answer
        return answer


def open_repairers(
    jobs: int,
    runtime: RuntimeOptions,
    restore: RestoreOptions,
    limits: OutputOptions,
    resources: ExitStack,
) -> tuple[list[Repairer], dict[str, Any]]:
    """Start several processes at the same time; they, and name and hash of their model.

    Args:
        jobs: how many.
        runtime, restore, limits: see `Repairer`.
        resources: ends them.

    Raises:
        AutodirError: see `open_restorer`.
    """
    repairers = [Repairer(runtime, restore, limits) for _ in range(jobs)]
    for repairer in repairers:
        resources.callback(repairer.close)
    with ThreadPoolExecutor(jobs) as pool:
        *_, info = pool.map(Repairer.open, repairers)
    return repairers, info


def serve_repairs(
    connection: Connection, runtime: RuntimeOptions, restore: RestoreOptions, limits: OutputOptions
) -> None:
    """The life of a repairer's process: None → info; (source, target) → (report, content)."""
    decoder = open_decoder(limits)
    opened: Restorer | AutodirError
    try:
        opened = open_restorer(runtime, restore)
    except AutodirError as error:
        opened = error
    try:
        for request in requests(connection):
            if isinstance(opened, AutodirError):
                connection.send(opened)
                continue
            if request is None:
                connection.send(opened.info)
                continue
            source, target = request
            try:
                photo = decoder.read(source, limits.max_pixels)
                outcome = repair(opened, photo, restore, target)
                answer: object = (outcome.report, outcome.render())
            except AutodirError as error:
                answer = error
            connection.send(answer)
    finally:
        decoder.close()


def open_decoder(limits: OutputOptions) -> Decoder:
    """A decoder under the limits of the options."""
    return Decoder(
        max_bytes=limits.max_bytes, isolate=limits.isolate, timeout=limits.decode_timeout
    )


def share_threads(runtime: RuntimeOptions, jobs: int) -> int:
    """CPU threads for each of several processes.

    Raises:
        ConfigError: the model does not run on the CPU.
    """
    is_cpu = runtime.device == "cpu" or (runtime.device == "auto" and not torch.cuda.is_available())
    if not is_cpu:
        raise ConfigError(
            f"--jobs {jobs} needs the CPU; the device is {runtime.device}.",
            "One process keeps a GPU busy: leave --jobs out, or add --device cpu.",
        )
    return runtime.threads or max(1, torch.get_num_threads() // jobs)


def _keeps_format(photo: Photo, target: Path | None) -> bool:
    """Whether the bytes of the photo's file fit the name of the target."""
    source = photo.metadata.path
    if target is None or not target.suffix:
        return True
    if source is not None and source.suffix.lower() == target.suffix.lower():
        return True
    return format_of_suffix(target) == photo.metadata.format


def _nothing() -> None:
    """What an outcome renders where the photo's own file is the result."""
    return None
