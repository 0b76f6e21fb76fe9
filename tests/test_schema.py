"""Schemas: valid themselves, found by every spelling, and true of what the package writes."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from autodir.errors import ConfigError, ImageError
from autodir.report import DIAGNOSIS_SCHEMA, PLAN_SCHEMA, RESTORATION_SCHEMA, error_to_dict
from autodir.schema import describe, find, json_schema, names


def problems(document: dict[str, Any], name: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(json_schema(name))
    return [error.message for error in validator.iter_errors(document)]


@pytest.mark.parametrize("name", names())
def test_every_schema_is_valid_and_says_what_it_is(name: str) -> None:
    schema = json_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema"] == {"const": f"autodir.{name}"}
    assert describe(name) in schema["title"]
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize(
    "spelling", ["diagnosis", "diagnosis/1", "autodir.diagnosis", "autodir.diagnosis/1"]
)
def test_a_schema_is_found_by_every_spelling(spelling: str) -> None:
    assert find(spelling) == "diagnosis/1"


@pytest.mark.parametrize("name", ["diagnosys", "diagnosis/2", ""])
def test_an_unknown_schema_is_a_configuration_error(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find(name)
    assert "diagnosis/1" in caught.value.hint


@pytest.mark.parametrize("schema", [DIAGNOSIS_SCHEMA, RESTORATION_SCHEMA, PLAN_SCHEMA])
def test_a_failure_has_the_schema_of_the_result(schema: str) -> None:
    failure = error_to_dict(ImageError("broken"), schema=schema, source="a.jpg")
    assert problems(failure, schema) == []


def test_a_missing_field_a_wrong_type_and_another_version_are_noticed() -> None:
    failure = error_to_dict(ImageError("broken"), schema=DIAGNOSIS_SCHEMA, source="a.jpg")
    assert problems(failure | {"width": "wide"}, "diagnosis") != []
    assert problems(failure | {"schema": "autodir.diagnosis/2"}, "diagnosis") != []
    assert problems({k: v for k, v in failure.items() if k != "main"}, "diagnosis") != []


def test_fields_may_be_added_within_a_version() -> None:
    failure = error_to_dict(ImageError("broken"), schema=DIAGNOSIS_SCHEMA, source="a.jpg")
    assert problems(failure | {"mood": "good"}, "diagnosis") == []


def test_a_changed_copy_changes_no_later_schema() -> None:
    json_schema("plan")["properties"].clear()
    assert "plan" in json_schema("plan")["properties"]
