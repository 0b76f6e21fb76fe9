"""Flags mirror the option classes, and layers override one another in the stated order."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from autodir.cli.flags import flags, gather, load_preset, preset_names
from autodir.config import (
    Options,
    OutputOptions,
    RestoreOptions,
    RuntimeOptions,
    TrainOptions,
    flag_name,
)
from autodir.errors import ConfigError
from autodir.prompts import load_taxonomy

CLASSES: list[type[Options]] = [RestoreOptions, RuntimeOptions, OutputOptions, TrainOptions]


def received(arguments: list[str], *classes: type[Options]) -> dict[str, Any]:
    """What a command with the flags of ``classes`` is given for a command line."""
    seen: dict[str, Any] = {}
    app = typer.Typer()

    @app.command()
    @flags(*classes)
    def command(given: Mapping[str, Any]) -> None:
        seen.update(given)

    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return seen


@pytest.mark.parametrize("cls", CLASSES)
def test_every_field_is_a_flag_of_the_same_name(cls: type[Options]) -> None:
    app = typer.Typer()

    @app.command()
    @flags(cls)
    def command(given: Mapping[str, Any]) -> None:
        pass

    (group,) = [typer.main.get_command(app)]
    offered = {name for parameter in group.params for name in parameter.opts}
    assert {flag_name(spec) for spec in dataclasses.fields(cls)} <= offered  # type: ignore[arg-type]


def test_only_flags_that_are_given_arrive() -> None:
    assert received([], RestoreOptions, OutputOptions) == {}
    given = received(
        ["--max-steps", "2", "--no-guard", "--only", "rain,noise", "--only", "blur", "-o", "out"],
        RestoreOptions,
        OutputOptions,
    )
    assert given == {
        "max_steps": 2,
        "guard": False,
        "only": ["rain,noise", "blur"],
        "output": "out",
    }


def test_given_flags_become_options() -> None:
    given = received(["--strength", "0.5", "--prompt", "a", "--prompt", "b"], RestoreOptions)
    assert gather((RestoreOptions,), given) == (RestoreOptions(strength=0.5, prompt=("a", "b")),)


def test_a_budget_is_given_as_a_duration() -> None:
    given = received(["--budget", "2h", "--data", "d", "--out", "o", "--part", "all"], TrainOptions)
    (options,) = gather((TrainOptions,), given)
    assert options.budget == 7200


def test_a_field_can_be_left_out() -> None:
    app = typer.Typer()

    @app.command()
    @flags(OutputOptions, leave_out=("dry_run",))
    def command(given: Mapping[str, Any]) -> None:
        pass

    assert CliRunner().invoke(app, ["--dry-run"]).exit_code == 2


def test_a_flag_overrides_the_file_and_the_file_the_preset(tmp_path: Path) -> None:
    preset = load_preset("night")
    file = tmp_path / "mine.toml"
    file.write_text("max_steps = 9\nseed = 5\n")
    (options,) = gather((RestoreOptions,), {"seed": 6}, preset="night", config=file)
    assert (options.max_steps, options.seed) == (9, 6)
    assert options.only == tuple(preset["only"])


def test_an_unknown_key_names_its_layer(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("max_step = 9\n")
    with pytest.raises(ConfigError, match=r"max_step.*mine\.toml"):
        gather((RestoreOptions,), {}, config=file)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="nigth") as caught:
        load_preset("nigth")
    assert "'night'" in caught.value.hint


def test_the_promised_presets_exist() -> None:
    assert {"old-photo", "night", "rainy-day"} <= set(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_holds_valid_options_and_known_degradations(name: str) -> None:
    options = RestoreOptions.from_mapping(load_preset(name), name)
    taxonomy = load_taxonomy()
    for key in (*options.only, *options.skip):
        assert taxonomy.get(key).key == key
    assert options != RestoreOptions()
