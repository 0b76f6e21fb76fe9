"""``autodir replay``: the same again, or said to be another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]

fake = pytest.mark.usefixtures("restorer")


@pytest.fixture
def sidecar(run: Run, restorer: object, dark: Path) -> Path:
    """That of a repaired photo."""
    assert run("fix", "dark.png", "--seed", "7", "--sidecar", "--quiet") == 0
    return dark.with_name("dark.restored.json")


def test_the_same_result_ends_with_0(run: Run, sidecar: Path, capsys: Capture) -> None:
    assert run("replay", sidecar, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    result = sidecar.with_name("dark.restored.png").read_bytes()
    assert document["same"] is document["same_decisions"] is True
    assert document["sha256"] == hashlib.sha256(result).hexdigest()
    assert document["differences"] == []
    assert sorted(path.name for path in sidecar.parent.iterdir()) == [
        "dark.png",
        "dark.restored.json",
        "dark.restored.png",
    ]


def test_another_result_ends_with_11_and_says_what_differs(
    run: Run, sidecar: Path, capsys: Capture
) -> None:
    changed = json.loads(sidecar.read_text())
    changed["output"]["sha256"] = "00"
    changed["model"]["sha256"] = "ff"
    changed["steps"] = []
    sidecar.write_text(json.dumps(changed))
    assert run("replay", sidecar) == 11
    out = capsys.readouterr().out
    assert "another result" in out
    assert "other decisions" in out
    assert "changed since: the weights" in out


def test_the_repeated_result_can_be_written(run: Run, sidecar: Path) -> None:
    assert run("replay", sidecar, "-o", "again.png", "--quiet") == 0
    again = sidecar.with_name("again.png").read_bytes()
    assert again == sidecar.with_name("dark.restored.png").read_bytes()


@fake
def test_a_clean_photo_is_replayed_byte_for_byte(run: Run, good: Path) -> None:
    assert run("fix", "good.jpg", "--sidecar", "--quiet") == 0
    assert run("replay", "good.restored.json", "--quiet") == 0


def test_a_photo_that_has_changed_is_not_replayed(run: Run, sidecar: Path) -> None:
    PIL.Image.new("RGB", (4, 4)).save(sidecar.with_name("dark.png"))
    assert run("replay", sidecar) == 3


@fake
def test_what_is_no_sidecar_ends_with_2(run: Run, dark: Path) -> None:
    assert run("replay", dark) == 2


def test_the_sidecar_keeps_its_schema(sidecar: Path) -> None:
    import jsonschema

    from autodir.schema import json_schema

    document = json.loads(sidecar.read_text())
    jsonschema.validate(document, json_schema(document["schema"]))
    assert document["options"]["seed"] == 7


@fake
def test_a_result_is_never_there_without_its_sidecar(
    run: Run, dark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Path, target: Path) -> Path:
        if ".restored" in Path(target).name and Path(target).suffix == ".png":
            raise KeyboardInterrupt
        return rename(self, target)

    rename = Path.replace
    monkeypatch.setattr(Path, "replace", killed)
    run("fix", "dark.png", "--sidecar", "--quiet")
    assert not dark.with_name("dark.restored.png").exists()
    assert dark.with_name("dark.restored.json").exists()


def test_the_same_photo_from_stdin_has_no_sidecar(run: Run, dark: Path) -> None:
    assert run("fix", "dark.png", "-o", "-", "--sidecar", "--quiet") == 0
    assert not dark.with_name("dark.restored.json").exists()


def test_a_real_model_repeats_itself_and_half_a_repair_is_another_result(
    run: Run, dark: Path, tiny_model_folder: Path, capsys: Capture
) -> None:
    model = ("--model", tiny_model_folder, "--threads", "1", "--device", "cpu")
    free = ("--max-steps", "1", "--no-guard", "--structure-weight", "0", "--color-fix", "none")
    assert run("fix", "dark.png", *model, *free, "--seed", "5", "--sidecar", "--quiet") == 0
    sidecar = dark.with_name("dark.restored.json")
    assert run("replay", sidecar) == 0
    assert "the same result" in capsys.readouterr().out
    changed = json.loads(sidecar.read_text())
    changed["options"]["strength"] = 0.5
    sidecar.write_text(json.dumps(changed))
    assert run("replay", sidecar, "--json") == 11
    document = json.loads(capsys.readouterr().out)
    assert (document["same"], document["same_decisions"]) == (False, True)
