"""The option classes: ranges, conversions, files and layers."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest

from autodir.config import (
    Options,
    OutputOptions,
    RestoreOptions,
    RuntimeOptions,
    TrainOptions,
    build,
    nearest,
)
from autodir.errors import ConfigError


def test_defaults_are_those_of_the_contract() -> None:
    assert RestoreOptions() == RestoreOptions(
        prompt=(), only=(), skip=(), strength=1.0, max_steps=4, sampler="euler",
        sampling_steps=None, guidance_text=1.0, guidance_image=1.0, structure_weight=None,
        color_fix=None, guard=True, seed=0, scale=1, tile=None,
        tile_overlap=None,
    )  # fmt: skip
    assert RuntimeOptions() == RuntimeOptions(
        model="small", device="auto", precision="auto", threads=None, offload=False, compile=False
    )
    assert OutputOptions().max_pixels == 200_000_000


@pytest.mark.parametrize(
    ("values", "samples"),
    [
        ({}, False),
        ({"only": ("rain",), "seed": 5, "strength": 0.5, "color_fix": "adain"}, False),
        ({"sampler": "ddim"}, True),
        ({"structure_weight": 0.0}, True),
        ({"fidelity": 0.5}, True),
        ({"two_stage": True}, True),
        ({"mix_clean": True}, True),
        ({"tile": 64}, True),
    ],
)
def test_what_asks_for_samples(values: dict[str, object], samples: bool) -> None:
    assert RestoreOptions(**values).samples == samples  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"strength": 1.01}, "cannot be"),
        ({"strength": -0.1}, "cannot be"),
        ({"strength": math.nan}, "nan"),
        ({"strength": "much"}, "'much'"),
        ({"strength": True}, "True"),
        ({"max_steps": 1.5}, "1.5"),
        ({"max_steps": True}, "True"),
        ({"max_steps": -1}, "cannot be"),
        ({"sampler": "eulr"}, "'eulr'"),
        ({"structure_weight": 2.5}, "cannot be"),
        ({"color_fix": "wavelets"}, "'wavelets'"),
        ({"scale": 3}, "3"),
        ({"scale": None}, "None"),
        ({"seed": -1}, "cannot be"),
        ({"tile": 7}, "cannot be"),
        ({"tile": 16, "tile_overlap": 16}, "tile-overlap cannot be"),
        ({"tile_overlap": 4}, "tile-overlap cannot be"),
        ({"guard": "yes"}, "'yes'"),
        ({"prompt": ("",)}, "empty"),
        ({"prompt": 5}, "5"),
        ({"only": ("rain",), "skip": ("rain",)}, "both"),
    ],
)
def test_restore_options_refuse_what_is_out_of_range(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        RestoreOptions(**values)  # type: ignore[arg-type]
    assert caught.value.hint


def test_a_misspelt_choice_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError) as caught:
        RestoreOptions(sampler="eulr")
    assert "Did you mean 'euler'?" in caught.value.hint
    assert nearest("qqqq", ("euler", "ddim")) is None


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_devices_are_accepted(device: str) -> None:
    assert RuntimeOptions(device=device).device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "", "cpu:0"])
def test_what_is_no_device_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="--device"):
        RuntimeOptions(device=device)


@pytest.mark.parametrize(
    "pair", [("overwrite", "rename"), ("skip_existing", "rename"), ("overwrite", "skip_existing")]
)
def test_answers_to_an_existing_result_exclude_each_other(pair: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        OutputOptions.from_mapping(dict.fromkeys(pair, True))


def test_harmless_types_are_converted() -> None:
    options = RestoreOptions.from_mapping(
        {"strength": 1, "only": ["rain, noise", "rain"], "prompt": "fog"}
    )
    assert options.strength == 1.0
    assert isinstance(options.strength, float)
    assert options.only == ("rain", "noise")
    assert options.prompt == ("fog",)
    training = TrainOptions.from_mapping(
        {"part": "all", "data": "photos", "out": "model", "budget": "150m"}
    )
    assert (training.data, training.budget) == (Path("photos"), 9000.0)


def test_a_missing_required_option_is_named_as_its_flag() -> None:
    with pytest.raises(ConfigError, match="--out is missing"):
        TrainOptions.from_mapping({"part": "all", "data": "photos"})


def test_options_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text('max-steps = 2\nonly = ["rain"]\n')
    assert RestoreOptions.from_toml(path) == RestoreOptions(max_steps=2, only=("rain",))


@pytest.mark.parametrize("text", ["max_step = 2", "[max_steps]", "max_steps = = 2"])
def test_unknown_keys_and_broken_toml_are_errors_naming_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "options.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        RestoreOptions.from_toml(path)
    assert caught.value.hint


def test_an_unknown_key_names_the_nearest_option_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("max_step = 2")
    with pytest.raises(ConfigError, match=r"max_step.*mine\.toml") as caught:
        RestoreOptions.from_toml(path)
    assert "'max_steps'" in caught.value.hint


def test_values_are_distributed_over_classes() -> None:
    restore, runtime = build((RestoreOptions, RuntimeOptions), {"seed": 3, "device": "cpu"})
    assert restore == RestoreOptions(seed=3)
    assert runtime == RuntimeOptions(device="cpu")


def test_options_become_plain_values_and_come_back() -> None:
    options = RestoreOptions(only=("rain",), tile=256)
    assert options.to_dict()["only"] == ["rain"]
    assert RestoreOptions.from_mapping(options.to_dict()) == options


@pytest.mark.parametrize("cls", [RestoreOptions, RuntimeOptions, OutputOptions, TrainOptions])
def test_options_are_frozen_slotted_and_say_what_each_field_is(cls: type[Options]) -> None:
    assert "__dict__" not in dir(cls)
    for spec in dataclasses.fields(cls):  # type: ignore[arg-type]
        assert spec.metadata["help"].endswith("."), spec.name


def test_config_does_not_import_torch() -> None:
    code = "import sys, autodir.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
