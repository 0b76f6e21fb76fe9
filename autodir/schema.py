"""The JSON Schema of every object that a command writes, by name and version.

Apart from the code that writes them, because this is what other programs may rely on: within a
version fields are added, and none is removed or changes its meaning.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from autodir.errors import ConfigError
from autodir.options import suggestion

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_NAME = re.compile(r"(?:autodir\.)?(?P<name>[a-z]+)(?:/(?P<version>\d+))?")

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_SECONDS: Schema = {"type": "number", "minimum": 0}
_HASH: Schema = {"type": "string", "pattern": "^[0-9a-f]+$"}
_ANYTHING: Schema = {"type": "object"}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _table(values: Schema) -> Schema:
    """An object whose keys are not known beforehand."""
    return {"type": "object", "additionalProperties": values}


def _object(properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    """An object with these fields, all of them present but the optional ones."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
    }


_ERROR: Schema = _or_null(_object({"kind": _TEXT, "message": _TEXT, "hint": _TEXT}))
_KEY: Schema = {"type": "string", "description": "the key of a degradation"}

_STEP = _object(
    {
        "index": _COUNT,
        "degradation": _KEY,
        "probability": _SHARE,
        "prompt": _or_null(_TEXT),
        "verdict": {"enum": ["kept", "blended", "rolled back"]},
        "why": _TEXT,
        "seconds": _SECONDS,
        "measures": _table(_or_null(_NUMBER)),
    }
)
_SEVERITY = _object({"value": _NUMBER, "error": _SECONDS, "unit": _TEXT})
_FILE = _object({"path": _TEXT, "sha256": _HASH, "bytes": _COUNT})

_MODEL: dict[str, Schema] = {
    "name": _TEXT,
    "folder": _TEXT,
    "scale": _TEXT,
    "parameters": _table(_COUNT),
    "bytes": _COUNT,
    "sha256": _HASH,
    "training": _ANYTHING,
}
_CHECK: dict[str, Schema] = {"model": _TEXT, "files": _list(_TEXT), "whole": _FLAG}


def _lines() -> dict[str, tuple[str, dict[str, Schema], tuple[str, ...]]]:
    """By name and version: what the object is, its own fields, and those that may be absent."""
    return {
        "diagnosis/1": (
            "what is wrong with one photo",
            {
                "input": _or_null(_TEXT),
                "width": _or_null(_COUNT),
                "height": _or_null(_COUNT),
                "model": _or_null(_TEXT),
                "clean": _or_null(_FLAG),
                "main": _or_null(_KEY),
                "probabilities": _table(_SHARE),
                "presence": _table(_SHARE),
                "severity": _table(_SEVERITY),
                "maps": _table(_TEXT),
            },
            ("maps",),
        ),
        "restoration/1": (
            "what was found in one photo and done about it",
            {
                "input": _or_null(_TEXT),
                "output": _or_null(_TEXT),
                "clean": _or_null(_FLAG),
                "steps": _list(_STEP),
                "stopped": _or_null(_TEXT),
                "seed": _or_null(_COUNT),
                "model": _or_null(_TEXT),
                "model_sha256": _or_null(_HASH),
                "options": _ANYTHING,
                "versions": _table(_TEXT),
                "seconds": _or_null(_SECONDS),
            },
            (),
        ),
        "plan/1": (
            "the rounds that a restoration would begin with",
            {
                "input": _or_null(_TEXT),
                "clean": _or_null(_FLAG),
                "plan": _list(
                    _object(
                        {
                            "prompt": _or_null(_TEXT),
                            "degradation": _KEY,
                            "probability": _SHARE,
                            "structure_weight": {"type": "number", "minimum": 0, "maximum": 2},
                        }
                    )
                ),
            },
            (),
        ),
        "degradation/1": (
            "what was done to make a degraded copy",
            {
                "input": _or_null(_TEXT),
                "output": _or_null(_TEXT),
                "seed": _or_null(_COUNT),
                "degradations": _list(_object({"degradation": _KEY, "parameters": _ANYTHING})),
            },
            (),
        ),
        "error/1": ("why a command could not run", {"input": _or_null(_TEXT)}, ()),
        "model/1": (
            "one model, or the check of its files",
            _MODEL | _CHECK,
            (*_MODEL, *_CHECK),
        ),
        "conversion/1": (
            "what became of a published checkpoint",
            {
                "folder": _TEXT,
                "layout": _TEXT,
                "source_sha256": _HASH,
                "consumed": _COUNT,
                "ignored": _table(_list(_TEXT)),
                "tensors": _table(_COUNT),
                "wide": _list(_TEXT),
                "seconds": _SECONDS,
            },
            (),
        ),
        "doctor/1": (
            "versions, devices and models of an installation",
            {
                "system": _TEXT,
                "versions": _table(_TEXT),
                "cpu": _object({"cores": _or_null(_COUNT), "threads": _COUNT}),
                "devices": _list(_object({"name": _TEXT, "description": _TEXT})),
                "models": _list(_object({"name": _TEXT, "sha256": _HASH, "error": _ERROR})),
            },
            (),
        ),
        "benchmark/1": (
            "the scores of a model on a suite",
            {
                "suite": _TEXT,
                "suite_sha256": _HASH,
                "title": _TEXT,
                "kind": _TEXT,
                "seed": _COUNT,
                "limit": _or_null(_COUNT),
                "model": _ANYTHING,
                "circumstances": _ANYTHING,
                "sets": _ANYTHING,
                "goals": _ANYTHING,
                "overall": _ANYTHING,
                "rows": _list(_ANYTHING),
                "recognition": _ANYTHING,
                "seconds": _SECONDS,
                "peak_memory_bytes": _or_null(_COUNT),
                "error": _ERROR,
            },
            ("sets", "goals", "overall", "rows", "recognition", "error"),
        ),
        "noise/1": (
            "the measured noise of a camera",
            {"space": _TEXT, "levels": _list(_ANYTHING), "error": _ERROR},
            ("error",),
        ),
        "ledger/1": (
            "a file that a run has finished or failed on",
            {
                "time": _TEXT,
                "status": {"enum": ["done", "failed"]},
                "input": _TEXT,
                "file": _ANYTHING,
                "suffixes": _TEXT,
                "options": _TEXT,
                "output": _TEXT,
                "result": _ANYTHING,
                "document": _ANYTHING,
                "error": _ERROR,
            },
            ("file", "suffixes", "options", "output", "result", "document", "error"),
        ),
        "sidecar/1": (
            "everything that is needed to repeat a restoration and to compare the result",
            {
                "input": _FILE,
                "output": _FILE,
                "model": _object({"name": _TEXT, "sha256": _HASH}),
                "program": _object({"sha256": _HASH, "versions": _table(_TEXT)}),
                "machine": _ANYTHING,
                "runtime": _ANYTHING,
                "options": _ANYTHING,
                "files": _ANYTHING,
                "clean": _FLAG,
                "steps": _list(_STEP),
                "stopped": _TEXT,
                "error": {"type": "null"},
            },
            (),
        ),
        "replay/1": (
            "whether a repeated restoration gave the same file",
            {
                "sidecar": _or_null(_TEXT),
                "input": _or_null(_TEXT),
                "output": _or_null(_TEXT),
                "same": _or_null(_FLAG),
                "same_decisions": _or_null(_FLAG),
                "sha256": _or_null(_HASH),
                "expected_sha256": _or_null(_HASH),
                "differences": _list(_TEXT),
            },
            (),
        ),
    }


def names() -> list[str]:
    """The names of all schemas, such as ``diagnosis/1``."""
    return list(_lines())


def describe(name: str) -> str:
    """One phrase about the objects of a schema."""
    return _lines()[find(name)][0]


def find(name: str) -> str:
    """The full name of a schema: ``diagnosis``, ``autodir.diagnosis`` → ``diagnosis/1``.

    Without a version it is the newest one.

    Raises:
        ConfigError: there is no such schema.
    """
    match = _NAME.fullmatch(name.strip())
    known = names()
    if match is not None:
        same = [full for full in known if full.partition("/")[0] == match["name"]]
        wanted = [f for f in same if match["version"] in (None, f.partition("/")[2])]
        if wanted:
            return max(wanted, key=lambda full: int(full.partition("/")[2]))
    raise ConfigError(f"There is no schema {name!r}.", suggestion(name, known))


def json_schema(name: str) -> Schema:
    """The JSON Schema (draft 2020-12) of one kind of object.

    Args:
        name: as `find` takes it.

    Raises:
        ConfigError: there is no such schema.
    """
    full = find(name)
    what, fields, optional = _lines()[full]
    own = {"schema": {"const": f"autodir.{full}"}, **fields}
    own.setdefault("error", _ERROR)
    return {
        "$schema": DRAFT,
        "$id": f"urn:autodir:{full.replace('/', ':')}",
        "title": f"autodir.{full}: {what}",
        **copy.deepcopy(_object(own, optional)),
    }
