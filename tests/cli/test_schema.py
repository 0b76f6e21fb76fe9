"""``autodir schema``: the list, one schema, and that it holds for what a command writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from autodir.schema import names

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def test_without_a_name_every_schema_is_listed(run: Run, capsys: Capture) -> None:
    assert run("schema") == 0
    first = [line.partition(" ")[0] for line in capsys.readouterr().out.splitlines()]
    assert [word for word in first if "/" in word] == names()


@pytest.mark.usefixtures("restorer")
def test_the_printed_schema_holds_for_the_lines_of_the_command(
    run: Run, dark: Path, capsys: Capture
) -> None:
    assert run("schema", "diagnosis") == 0
    schema = json.loads(capsys.readouterr().out)
    assert run("diagnose", "dark.png", "--json") == 0
    jsonschema.validate(json.loads(capsys.readouterr().out), schema)


def test_an_unknown_name_ends_with_2(run: Run) -> None:
    assert run("schema", "weather") == 2
