"""``autodir models``: what there is, and whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from autodir import checkpoint
from autodir.checkpoint import ModelInfo
from autodir.conversion import official
from autodir.conversion.official import Conversion
from autodir.errors import CheckpointError
from autodir.schema import json_schema

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelInfo:
    """One model that is there, and no other."""
    described = ModelInfo(
        name="tiny",
        folder=tmp_path / "tiny",
        scale="small",
        parameters={"unet": 1_500_000, "scm": 500_000},
        bytes=4_000_000,
        sha256="0123456789abcdef" * 4,
        training={"command": "autodir train all"},
    )

    def info(name: str) -> ModelInfo:
        if name != "tiny":
            raise CheckpointError(f"no model {name!r}", "known models: tiny")
        return described

    monkeypatch.setattr(checkpoint, "list_models", lambda: [described])
    monkeypatch.setattr(checkpoint, "info", info)
    monkeypatch.setattr(checkpoint, "verify", lambda name: [str(info(name).folder / "a.json")])
    return described


def test_models_are_listed_with_size_and_hash(run: Run, capsys: Capture) -> None:
    assert run("models", "list") == 0
    out = capsys.readouterr().out
    for text in ("tiny", "small", "2.0 M", "4.0 MB", "0123456789ab"):
        assert text in out


def test_the_list_is_json_lines_where_asked_for(run: Run, capsys: Capture) -> None:
    assert run("models", "list", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    document = json.loads(line)
    assert (document["schema"], document["name"]) == ("autodir.model/1", "tiny")
    assert document["parameters"] == {"unet": 1_500_000, "scm": 500_000}


def test_an_empty_list_says_so(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(checkpoint, "list_models", list)
    assert run("models", "list") == 0
    assert "no model" in capsys.readouterr().out


def test_a_model_is_described(run: Run, capsys: Capture) -> None:
    assert run("models", "info", "tiny") == 0
    out = capsys.readouterr().out
    for text in ("1,500,000", "autodir train all"):
        assert text in out
    assert run("models", "info", "tiny", "--json") == 0
    assert json.loads(capsys.readouterr().out)["error"] is None


def test_a_whole_model_is_verified(run: Run, capsys: Capture) -> None:
    assert run("models", "verify", "tiny") == 0
    assert "1 files are as they were saved" in capsys.readouterr().out
    assert run("models", "verify", "tiny", "--json") == 0
    assert json.loads(capsys.readouterr().out)["whole"] is True


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A conversion that only notes what it was asked for."""
    asked: list[dict[str, Any]] = []

    def convert(source: Path, folder: Path, *, tell: official.Tell, **how: Any) -> Conversion:
        asked.append({"source": source, "folder": folder, **how})
        tell("unet: 686 tensors")
        return Conversion(
            folder=folder,
            layout="autodir",
            source_sha256="ab" * 32,
            consumed=2188,
            ignored={"noise schedule": ("betas",), "positions": ("x.position_ids",)},
            tensors={"unet": 686},
            wide=("scm.intro",),
            seconds=61.4,
        )

    monkeypatch.setattr(official, "convert", convert)
    return asked


def test_a_conversion_says_what_it_did(
    run: Run, capsys: Capture, conversions: list[dict[str, Any]]
) -> None:
    assert run("models", "convert", "autodir.ckpt", "mine", "--dtype", "fp32") == 0
    usual = {"layout": None, "besides": {}, "diagnosis": "small"}
    files = {"source": Path("autodir.ckpt"), "folder": Path("mine"), "dtype": "fp32"}
    assert conversions == [files | usual]
    out = capsys.readouterr().out
    for words in (
        "unet: 686 tensors", "2188 keys consumed, 2 ignored", "noise schedule: betas", "scm.intro",
        "in 61 s", "→ mine",
    ):  # fmt: skip
        assert words in out


def test_a_conversion_is_one_json_object_where_asked_for(
    run: Run, capsys: Capture, conversions: list[dict[str, Any]]
) -> None:
    assert run("models", "convert", "autodir.ckpt", "mine", "--json") == 0
    assert conversions[0]["dtype"] == "fp16"
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["consumed"]) == ("autodir.conversion/1", 2188)
    schema = jsonschema.Draft202012Validator(json_schema("conversion"))
    assert [error.message for error in schema.iter_errors(document)] == []


def test_files_beside_the_first_are_handed_on(run: Run, conversions: list[dict[str, Any]]) -> None:
    arguments = ("--layout", "stablesr-768v", "--base", "sd21.ckpt", "--cfw", "cfw.ckpt")
    assert run("models", "convert", "sr.ckpt", "mine", *arguments, "--diagnosis", "mine") == 0
    (asked,) = conversions
    assert asked["layout"] == "stablesr-768v"
    assert asked["besides"] == {"base": Path("sd21.ckpt"), "cfw": Path("cfw.ckpt")}
    assert asked["diagnosis"] == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [(("missing.ckpt", "mine"), 4, "CheckpointError"), (("a.ckpt", "."), 2, "ConfigError")],
)
def test_a_conversion_that_cannot_be_leaves_nothing(
    run: Run, capsys: Capture, tmp_path: Path, arguments: tuple[str, ...], code: int, kind: str
) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"nothing")
    assert run("models", "convert", *arguments, "--json") == code
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == kind
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_missing_model_ends_with_4(command: str, run: Run, capsys: Capture) -> None:
    assert run("models", command, "huge", "--json") == 4
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "CheckpointError"
