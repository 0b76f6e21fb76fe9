"""Reports as JSON: the fields of the contract, and nothing that is no JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autodir.config import RestoreOptions
from autodir.errors import ImageError
from autodir.prompts import Degradation, load_taxonomy
from autodir.records import Diagnosis, Mixture, Report, Severity, Step
from autodir.report import (
    DIAGNOSIS_SCHEMA,
    ERROR_SCHEMA,
    PLAN_SCHEMA,
    RESTORATION_SCHEMA,
    amount,
    diagnosis_to_dict,
    error_to_dict,
    plain,
    plan_to_dict,
    restoration_to_dict,
    to_json,
)

PROVENANCE = {"model": "small", "model_sha256": "ab12", "autodir": "0.1.0", "torch": "2.15"}


@dataclass(frozen=True)
class Planned:
    prompt: str | None
    degradation: str
    probability: float
    structure_weight: float


def rain() -> Degradation:
    return load_taxonomy().get("rain")


def diagnosis(main: Degradation | None) -> Diagnosis:
    probabilities = {"rain": 0.93, "no": 0.07} if main else {"rain": 0.02, "no": 0.98}
    return Diagnosis(
        probabilities=probabilities,
        presence={"rain": 0.98},
        main=main,
        mixture=Mixture(phrases=("A photo needs rain artifact reduction",), weights=(1.0,)),
        severity={"noise": Severity(value=12.3456, error=1.5, unit="levels")},
    )


def report(*steps: Step, provenance: Mapping[str, Any] = PROVENANCE) -> Report:
    return Report(
        clean=not steps,
        steps=steps,
        stopped="no degradation left",
        first=diagnosis(rain() if steps else None),
        last=diagnosis(None),
        options=RestoreOptions(seed=7, only=("rain",)).to_dict(),
        provenance=provenance,
        seconds=2.40004,
    )


def step() -> Step:
    return Step(
        index=0,
        degradation="rain",
        probability=0.93,
        prompt=None,
        verdict="kept",
        why="there is less rain than before",
        seconds=2.1,
        measures={"distance": math.nan},
    )


def test_a_diagnosis_has_the_fields_of_the_contract_in_order() -> None:
    document = diagnosis_to_dict(
        diagnosis(rain()), source="photo.jpg", size=(512, 768), model="small"
    )
    assert document == {
        "schema": "autodir.diagnosis/1",
        "input": "photo.jpg",
        "width": 768,
        "height": 512,
        "model": "small",
        "clean": False,
        "main": "rain",
        "probabilities": {"rain": 0.93, "no": 0.07},
        "presence": {"rain": 0.98},
        "severity": {"noise": {"value": 12.3456, "error": 1.5, "unit": "levels"}},
        "error": None,
    }


def test_a_clean_diagnosis_names_no_degradation() -> None:
    document = diagnosis_to_dict(diagnosis(None), source="a", size=(1, 1), model="small")
    assert (document["clean"], document["main"]) == (True, None)


def test_a_restoration_has_the_fields_of_the_contract() -> None:
    document = restoration_to_dict(report(step()), source="photo.jpg", output="out.jpg")
    assert document["schema"] == "autodir.restoration/1"
    assert (document["input"], document["output"]) == ("photo.jpg", "out.jpg")
    assert (document["clean"], document["stopped"]) == (False, "no degradation left")
    assert (document["seed"], document["seconds"]) == (7, 2.4)
    assert (document["model"], document["model_sha256"]) == ("small", "ab12")
    assert document["versions"] == {"autodir": "0.1.0", "torch": "2.15"}
    assert document["options"]["only"] == ["rain"]
    assert document["error"] is None
    assert document["steps"] == [
        {
            "index": 0,
            "degradation": "rain",
            "probability": 0.93,
            "prompt": None,
            "verdict": "kept",
            "why": "there is less rain than before",
            "seconds": 2.1,
            "measures": {"distance": None},
        }
    ]


def test_the_stored_options_repeat_the_restoration() -> None:
    document = json.loads(to_json(restoration_to_dict(report(step()))))
    assert RestoreOptions.from_mapping(document["options"]) == RestoreOptions(
        seed=7, only=("rain",)
    )


def test_a_plan_has_one_entry_for_each_round() -> None:
    planned = Planned("get rid of the fog", "haze", 0.97, 1.0)
    document = plan_to_dict([planned], source="photo.jpg")
    assert document == {
        "schema": "autodir.plan/1",
        "input": "photo.jpg",
        "clean": False,
        "plan": [
            {
                "prompt": "get rid of the fog",
                "degradation": "haze",
                "probability": 0.97,
                "structure_weight": 1.0,
            }
        ],
        "error": None,
    }
    assert plan_to_dict([], source="photo.jpg")["clean"] is True


@pytest.mark.parametrize("schema", [DIAGNOSIS_SCHEMA, RESTORATION_SCHEMA, PLAN_SCHEMA])
def test_a_failure_has_the_fields_of_a_result(schema: str) -> None:
    results = {
        DIAGNOSIS_SCHEMA: diagnosis_to_dict(diagnosis(None), source="a", size=(1, 1), model="m"),
        RESTORATION_SCHEMA: restoration_to_dict(report()),
        PLAN_SCHEMA: plan_to_dict([], source="a"),
    }
    failure = error_to_dict(ImageError("broken", "take another"), schema=schema, source="a.jpg")
    assert failure.keys() == results[schema].keys()
    assert failure["schema"] == schema
    assert failure["error"] == {"kind": "ImageError", "message": "broken", "hint": "take another"}


def test_an_error_without_an_input_has_a_schema_of_its_own() -> None:
    failure = error_to_dict(ImageError("broken"))
    assert (failure["schema"], failure["input"]) == (ERROR_SCHEMA, None)


def test_json_is_one_line_of_strict_json_in_readable_text() -> None:
    text = to_json({"why": "1 → 2\nnew line", "x": math.inf, "path": Path("a/b"), "t": (1, 2)})
    assert "\n" not in text
    assert "→" in text
    assert json.loads(text) == {"why": "1 → 2\nnew line", "x": None, "path": "a/b", "t": [1, 2]}


def test_a_file_name_that_is_no_utf8_survives() -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    text = to_json({"input": name})
    text.encode("utf-8")
    assert json.loads(text)["input"] == name


def test_plain_values_are_rounded_and_strange_ones_described() -> None:
    assert plain({"a": 1 / 3, 2: {True}}) == {"a": 0.333333, "2": [True]}
    assert plain(b"x") == "b'x'"


def test_a_severity_is_told_with_its_error_and_unit() -> None:
    assert amount({"value": 24.06, "error": 2.0, "unit": "levels"}) == "24.1 ± 2 levels"
    assert amount({"value": 0.5, "error": 0.1, "unit": ""}) == "0.5 ± 0.1"
