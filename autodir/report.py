"""Diagnosis, plan and restoration as JSON objects with a versioned schema.

Apart because these objects are a contract: programs read them, so a field changes only with its
schema.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from autodir.errors import AutodirError

if TYPE_CHECKING:  # records needs torch, and the command line reports its own errors without it
    from autodir.records import Diagnosis, Report, Step

DIAGNOSIS_SCHEMA = "autodir.diagnosis/1"
RESTORATION_SCHEMA = "autodir.restoration/1"
PLAN_SCHEMA = "autodir.plan/1"
DEGRADATION_SCHEMA = "autodir.degradation/1"
ERROR_SCHEMA = "autodir.error/1"

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

_EMPTY: dict[str, dict[str, Any]] = {
    DIAGNOSIS_SCHEMA: {
        "width": None,
        "height": None,
        "model": None,
        "clean": None,
        "main": None,
        "probabilities": {},
        "presence": {},
        "severity": {},
    },
    RESTORATION_SCHEMA: {
        "output": None,
        "clean": None,
        "steps": [],
        "stopped": None,
        "seed": None,
        "model": None,
        "model_sha256": None,
        "options": {},
        "versions": {},
        "seconds": None,
    },
    PLAN_SCHEMA: {"clean": None, "plan": []},
    DEGRADATION_SCHEMA: {"output": None, "seed": None, "degradations": []},
    ERROR_SCHEMA: {},
}


class Planned(Protocol):
    """What is read of one planned round; `autodir.pipeline.PlannedStep` fits."""

    @property
    def prompt(self) -> str | None:
        """The user's words, where a prompt decided."""

    @property
    def degradation(self) -> str:
        """The key of the degradation to repair."""

    @property
    def probability(self) -> float:
        """Its probability in [0, 1]."""

    @property
    def structure_weight(self) -> float:
        """The weight of the structural correction, in [0, 2]."""


def diagnosis_to_dict(
    diagnosis: Diagnosis, *, source: str, size: tuple[int, int], model: str
) -> dict[str, Any]:
    """The JSON form of a diagnosis.

    Args:
        diagnosis: what was found.
        source: the input as the user named it.
        size: (height, width) of the photo in pixels.
        model: the model's name.
    """
    return {
        "schema": DIAGNOSIS_SCHEMA,
        "input": source,
        "width": size[1],
        "height": size[0],
        "model": model,
        "clean": diagnosis.is_clean,
        "main": diagnosis.main.key if diagnosis.main else None,
        "probabilities": plain(diagnosis.probabilities),
        "presence": plain(diagnosis.presence),
        "severity": {
            key: plain({"value": found.value, "error": found.error, "unit": found.unit})
            for key, found in diagnosis.severity.items()
        },
        "error": None,
    }


def restoration_to_dict(
    report: Report, *, source: str | None = None, output: str | None = None
) -> dict[str, Any]:
    """The JSON form of a restoration; ``versions`` is the provenance besides the model.

    Args:
        report: what was found and done.
        source: the input as the user named it; None for an image in memory.
        output: where the result was written; None where it was not.
    """
    provenance = dict(report.provenance)
    model, digest = provenance.pop("model", None), provenance.pop("model_sha256", None)
    return {
        "schema": RESTORATION_SCHEMA,
        "input": source,
        "output": output,
        "clean": report.clean,
        "steps": [step_to_dict(step) for step in report.steps],
        "stopped": report.stopped,
        "seed": report.options.get("seed"),
        "model": model,
        "model_sha256": digest,
        "options": plain(report.options),
        "versions": plain(provenance),
        "seconds": round(report.seconds, 3),
        "error": None,
    }


def amount(severity: Mapping[str, Any]) -> str:
    """A severity in words: ``24.1 ± 2.0 levels``."""
    return f"{severity['value']:.3g} ± {severity['error']:.2g} {severity['unit']}".rstrip()


def step_to_dict(step: Step) -> dict[str, Any]:
    """The JSON form of one round; ``measures`` are the figures behind the verdict."""
    return {
        "index": step.index,
        "degradation": step.degradation,
        "probability": plain(step.probability),
        "prompt": step.prompt,
        "verdict": step.verdict,
        "why": step.why,
        "seconds": round(step.seconds, 3),
        "measures": plain(step.measures),
    }


def plan_to_dict(plan: Iterable[Planned], *, source: str) -> dict[str, Any]:
    """The JSON form of a plan: the rounds a restoration would begin with; none if clean."""
    rounds = [
        {
            "prompt": planned.prompt,
            "degradation": planned.degradation,
            "probability": plain(planned.probability),
            "structure_weight": plain(planned.structure_weight),
        }
        for planned in plan
    ]
    return {
        "schema": PLAN_SCHEMA,
        "input": source,
        "clean": not rounds,
        "plan": rounds,
        "error": None,
    }


def degradation_to_dict(
    drawn: Iterable[tuple[str, Mapping[str, object]]],
    *,
    source: str,
    output: str | None,
    seed: int,
) -> dict[str, Any]:
    """The JSON form of a degraded copy.

    Args:
        drawn: key and parameters of each degradation, in the order applied.
        source: the input as the user named it.
        output: where the copy was written; None where it was not.
        seed: the seed of the command.
    """
    return {
        "schema": DEGRADATION_SCHEMA,
        "input": source,
        "output": output,
        "seed": seed,
        "degradations": [
            {"degradation": key, "parameters": plain(parameters)} for key, parameters in drawn
        ],
        "error": None,
    }


def error_to_dict(
    error: AutodirError, *, schema: str = ERROR_SCHEMA, source: str | None = None
) -> dict[str, Any]:
    """The object in place of a result that could not be made: the same fields, empty."""
    return {"schema": schema, "input": source, **_EMPTY[schema], "error": error.to_dict()}


def skipped_to_dict(*, source: str, why: str) -> dict[str, Any]:
    """The JSON form of a restoration that was not made, because its result is there."""
    blank = {"schema": RESTORATION_SCHEMA, "input": source, **_EMPTY[RESTORATION_SCHEMA]}
    return {**blank, "stopped": why, "error": None}


def to_json(document: Mapping[str, Any]) -> str:
    """One line of JSON, without NaN, which is no JSON; a file name that is no UTF-8 is escaped."""
    document = plain(document)
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    return json.dumps(document, allow_nan=False) if _LONE_SURROGATE.search(text) else text


def plain(value: Any) -> Any:
    """``value`` in JSON's types: tuples as lists, floats to 6 digits, NaN and ∞ as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if isinstance(value, bool) or value is None or isinstance(value, int | str):
        return value
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else repr(value)
