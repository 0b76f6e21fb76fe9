"""Run a suite: sets × systems → scores, summed up and written as one JSON file.

Apart from the sets and the systems so that the bookkeeping (resume, order, files) is in one place.
A run that was stopped goes on where it was: each finished picture is a line of a journal beside the
results, named after everything that could change a number.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from autodir.errors import ConfigError, ContractError
from autodir.evaluation.aggregate import overall, summarize
from autodir.evaluation.datasets import Case, data_root, load_set
from autodir.evaluation.metrics import PerceptualMetric, measure, quantize
from autodir.evaluation.plan import Suite, check_systems, load_suite
from autodir.evaluation.provenance import circumstances, code_digest, peak_memory
from autodir.evaluation.recognition import recognize
from autodir.evaluation.systems import MODEL_FREE, SYSTEMS, Repairer

SCHEMA = "autodir.benchmark/1"
_LOG_EVERY = 20.0

_log = logging.getLogger(__name__)


def run_suite(
    suite: Path | str,
    data: Path | None,
    restorer: Repairer | None,
    *,
    limit: int | None = None,
    systems: Sequence[str] | None = None,
    sets: Sequence[str] | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Score every system of a suite on every set of it.

    Args:
        suite: the path of a suite file, or its name.
        data: the folder that holds the test sets (or its parent); None: see `data_root`.
        restorer: the model; None serves suites whose systems need none.
        limit: at most so many pictures of each folder, evenly spaced.
        systems: instead of the suite's own; "input" is always among them.
        sets: only sets whose name begins with one of these texts.
        out: a ``.json`` file to write, or the folder of all results, which gets
            ``<suite>/<date>-<commit>.json``; None writes nothing and keeps no journal.

    Returns:
        What is written: ``schema suite title kind circumstances model seed limit`` and, by kind,
        ``sets overall rows`` or ``recognition``.

    Raises:
        ConfigError: the suite, a system or the data folder is unknown, or a model is missing.
    """
    plan = load_suite(suite)
    root = data_root(data)
    specs = [spec for spec in plan.sets if sets is None or spec.name.startswith(tuple(sets))]
    if not specs:
        raise ConfigError(f"{plan.name} has no set named like {', '.join(sets or ())}")
    columns = dict.fromkeys(("input", *check_systems(plan.systems if systems is None else systems)))
    if restorer is None and (plan.kind == "recognition" or not MODEL_FREE.issuperset(columns)):
        raise ConfigError(f"the suite {plan.name!r} needs a model", "name one with --model")
    model = {} if restorer is None else json.loads(json.dumps(dict(restorer.info), default=str))
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "suite": plan.name,
        "suite_sha256": plan.digest,
        "title": plan.title,
        "kind": plan.kind,
        "seed": plan.seed,
        "limit": limit,
        "model": model,
        "circumstances": circumstances(),
    }
    journal = Journal(_journal_path(out, plan, model))
    started = time.perf_counter()
    if plan.kind == "recognition" and restorer is not None:
        result["recognition"] = recognize(specs, root, restorer, seed=plan.seed, limit=limit)
    else:
        rows = []
        metrics = [PerceptualMetric(name) for name in plan.metrics]
        for spec in specs:
            for case in load_set(spec, root, plan.seed, limit):
                rows += _score_case(case, list(columns), restorer, metrics, plan.seed, journal)
        result |= _tables(plan, rows, list(columns))
        result["rows"] = rows
    result["seconds"] = time.perf_counter() - started
    result["peak_memory_bytes"] = peak_memory()
    if out is not None:
        write_result(result, result_path(out, result))
    journal.close()
    return result


def _score_case(
    case: Case,
    columns: Sequence[str],
    restorer: Repairer | None,
    metrics: Sequence[PerceptualMetric],
    seed: int,
    journal: Journal,
) -> list[dict[str, Any]]:
    rows = []
    for column in columns:
        row = journal.find(case.set, case.name, column)
        if row is None:
            row = _score(case, column, restorer, metrics, seed)
            journal.add(row)
        rows.append(row)
    return rows


def _score(
    case: Case,
    column: str,
    restorer: Repairer | None,
    metrics: Sequence[PerceptualMetric],
    seed: int,
) -> dict[str, Any]:
    started = time.perf_counter()
    # A model-free system never looks at its restorer, see MODEL_FREE and the check in run_suite.
    with torch.inference_mode():
        answer = SYSTEMS[column](restorer, case, seed)  # type: ignore[arg-type]
    seconds = time.perf_counter() - started
    image = quantize(answer.image.float().cpu())
    if image.shape != case.input.shape:
        raise ContractError(f"{column} turned {case.name} from {case.input.shape} to {image.shape}")
    scores = None if case.target is None else measure(image, case.target, case.protocol)
    return {
        "set": case.set,
        "case": case.name,
        "system": column,
        "psnr": None if scores is None else scores.psnr,
        "ssim": None if scores is None else scores.ssim,
        "metrics": {metric.name: metric(image, case.target) for metric in metrics},
        "changed": not torch.equal(image, quantize(case.input)),
        "treated": list(answer.treated),
        "seconds": seconds,
    }


def _tables(plan: Suite, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> dict[str, Any]:
    """``sets``: set → system → figures; ``goals`` beside them; ``overall``: system → figures."""
    sets: dict[str, dict[str, dict[str, Any]]] = {}
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        inputs = {
            row["case"]: row for row in own if row["system"] == "input" and row["psnr"] is not None
        }
        sets[name] = {
            column: summarize([row for row in own if row["system"] == column], inputs)
            for column in columns
        }
    goals = {
        spec.name: {"psnr": spec.goal_psnr, "gain": spec.goal_gain}
        for spec in plan.sets
        if spec.name in sets
    }
    totals = {column: overall(sets, column) for column in columns}
    return {"sets": sets, "goals": goals, "overall": totals}


class Journal:
    """Finished rows of a run, one JSON line each, so that a stopped run can go on.

    Args:
        path: the file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._spoken = time.monotonic()
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._remember(line)
            _log.info("going on after %d finished results of %s", len(self._rows), path)
            # A killed run may leave half a line: what was understood is written back whole.
            lines = [json.dumps(row) + "\n" for row in self._rows.values()]
            path.write_text("".join(lines), encoding="utf-8")

    def find(self, set_name: str, case: str, system: str) -> dict[str, Any] | None:
        """The finished row, or None."""
        return self._rows.get((set_name, case, system))

    def add(self, row: dict[str, Any]) -> None:
        """Remember a row, on disk too; says from time to time how far the run is."""
        self._rows[_key(row)] = row
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if time.monotonic() - self._spoken > _LOG_EVERY:
            self._spoken = time.monotonic()
            _log.info("%d results, now at %s, %s", len(self._rows), row["case"], row["system"])

    def close(self) -> None:
        """The run is complete: the journal has served."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _remember(self, line: str) -> None:
        try:
            row = json.loads(line)
            self._rows[_key(row)] = row
        except (ValueError, KeyError, TypeError):
            _log.warning("left out an unreadable line of the journal")


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["set"], row["case"], row["system"]


def write_result(result: dict[str, Any], path: Path) -> None:
    """Write JSON through a temporary name, so that a result file is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    scratch.write_text(text + "\n", encoding="utf-8")
    scratch.replace(path)
    _log.info("wrote %s", path)


def result_path(out: Path, result: dict[str, Any]) -> Path:
    """``out`` where it is a file name, else a new name below it: results are never replaced."""
    if out.suffix == ".json":
        return out
    about = result["circumstances"]
    stem = f"{about['time'][:10]}-{about['commit']}"
    folder: Path = out / result["suite"]
    taken = {path.stem for path in folder.glob("*.json")}
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(taken) + 2))
    free = next(name for name in names if name not in taken)
    return folder / f"{free}.json"


def _journal_path(out: Path | None, plan: Suite, model: dict[str, Any]) -> Path | None:
    if out is None:
        return None
    facts = json.dumps([SCHEMA, plan.digest, code_digest(), model], sort_keys=True)
    name = f"{plan.name}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.partial.jsonl"
    folder = out.parent if out.suffix == ".json" else out / plan.name
    return folder / name
