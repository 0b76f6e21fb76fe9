"""``autodir fix``: what is written, what is said, and what is left alone."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("restorer")


def documents(capture: Capture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capture.readouterr().out.splitlines()]


def mean(path: Path) -> float:
    with PIL.Image.open(path) as image:
        return float(np.asarray(image).mean())


def save(path: Path, like: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(like.read_bytes())
    return path


def test_the_result_lies_beside_the_photo(run: Run, dark: Path, capsys: Capture) -> None:
    assert run("fix", "dark.png") == 0
    result = dark.with_name("dark.restored.png")
    assert mean(result) > mean(dark) + 50
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1  underexposure 0.90  →  repaired  2.1 s"
    assert lines[1] == "no degradation left"
    assert lines[2] == "→ dark.restored.png"


def test_a_clean_photo_is_copied_byte_for_byte_and_said_to_be_clean(
    run: Run, good: Path, capsys: Capture
) -> None:
    assert run("fix", "good.jpg") == 0
    assert good.with_name("good.restored.jpg").read_bytes() == good.read_bytes()
    assert "clean" in capsys.readouterr().out


def test_a_clean_photo_is_converted_where_another_format_is_asked_for(run: Run, good: Path) -> None:
    assert run("fix", "good.jpg", "-o", "out.png") == 0
    with PIL.Image.open(good.with_name("out.png")) as image:
        assert image.format == "PNG"


def test_strength_zero_gives_the_input_bit_for_bit(run: Run, dark: Path) -> None:
    assert run("fix", "dark.png", "--strength", "0") == 0
    assert dark.with_name("dark.restored.png").read_bytes() == dark.read_bytes()


def test_rounds_that_are_all_rolled_back_leave_the_bytes_alone(
    run: Run, dark: Path, capsys: Capture
) -> None:
    assert run("fix", "dark.png", "--seed", "13") == 0
    assert dark.with_name("dark.restored.png").read_bytes() == dark.read_bytes()
    assert "rolled back" in capsys.readouterr().out


def test_an_enlarged_photo_is_never_a_copy(run: Run, good: Path) -> None:
    assert run("fix", "good.jpg", "--scale", "2", "--strength", "0", "-o", "big.png") == 0
    with PIL.Image.open(good.with_name("big.png")) as image:
        assert image.size == (32, 24)


def test_json_is_one_object_with_the_fields_of_the_contract(
    run: Run, dark: Path, capsys: Capture
) -> None:
    assert run("fix", "dark.png", "--json", "--seed", "7") == 0
    (document,) = documents(capsys)
    assert document["schema"] == "autodir.restoration/1"
    assert (document["input"], document["output"]) == ("dark.png", "dark.restored.png")
    assert (document["seed"], document["model"], document["clean"]) == (7, "small", False)
    assert document["steps"][0]["verdict"] == "kept"
    assert document["error"] is None


def test_one_file_that_fails_does_not_stop_the_others(
    run: Run, dark: Path, good: Path, capsys: Capture
) -> None:
    bad = dark.with_name("bad.png")
    bad.write_bytes(b"no image")
    assert run("fix", "bad.png", "dark.png", "missing.png", "good.jpg", "--json") == 1
    errors = [document["error"] and document["error"]["kind"] for document in documents(capsys)]
    assert errors == ["ImageError", None, "ImageError", None]
    assert not bad.with_name("bad.restored.png").exists()


def test_fail_fast_stops_at_the_first_failure(run: Run, dark: Path, capsys: Capture) -> None:
    dark.with_name("bad.png").write_bytes(b"no image")
    assert run("fix", "bad.png", "dark.png", "--json", "--fail-fast") == 1
    assert len(documents(capsys)) == 1


def test_a_single_input_that_fails_gives_its_own_exit_code(
    run: Run, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert run("fix", "bad.png") == 3
    assert "bad.png" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.png"]


def test_a_missing_photo_gets_no_folder(run: Run, tmp_path: Path) -> None:
    assert run("fix", "nowhere/photo.png") == 3
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_without_images_is_a_config_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run("fix", "empty") == 2
    assert run("fix", "*.png") == 2


def test_folders_and_globs_are_mirrored_in_the_output(run: Run, dark: Path, good: Path) -> None:
    save(dark.parent / "album/deep/c.png", dark)
    save(dark.parent / "album/a.png", dark)
    assert run("fix", "album", "*.jpg", "--recursive", "-o", "out") == 0
    found = {path.relative_to(dark.parent) for path in (dark.parent / "out").rglob("[!.]*.*")}
    assert found == {Path("out/a.png"), Path("out/deep/c.png"), Path("out/good.jpg")}


def test_a_template_names_what_was_repaired(run: Run, dark: Path, good: Path) -> None:
    assert run("fix", "dark.png", "good.jpg", "-o", "{degradations}/{stem}{ext}") == 0
    assert (dark.parent / "underexposure/dark.png").exists()
    assert (dark.parent / "clean/good.jpg").exists()


def test_a_result_that_exists_is_not_replaced_unasked(
    run: Run, dark: Path, capsys: Capture
) -> None:
    taken = dark.with_name("dark.restored.png")
    taken.write_bytes(b"mine")
    assert run("fix", "dark.png") == 3
    assert run("fix", "dark.png", "--skip-existing", "--json") == 0
    assert taken.read_bytes() == b"mine"
    (document,) = documents(capsys)
    assert "skipped" in document["stopped"]
    assert run("fix", "dark.png", "--rename") == 0
    assert taken.read_bytes() == b"mine"
    assert mean(dark.with_name("dark.restored-2.png")) > mean(dark)
    assert run("fix", "dark.png", "--overwrite") == 0
    assert mean(taken) > mean(dark)


def test_the_photo_itself_is_replaced_only_when_named_as_output(run: Run, dark: Path) -> None:
    before = dark.read_bytes()
    assert run("fix", "dark.png", "-o", ".", "--overwrite") == 3
    assert dark.read_bytes() == before
    assert run("fix", "dark.png", "-o", "dark.png") == 3
    assert dark.read_bytes() == before
    assert run("fix", "dark.png", "-o", "dark.png", "--overwrite") == 0
    assert dark.read_bytes() != before


def test_two_results_never_share_a_name(run: Run, dark: Path) -> None:
    save(dark.parent / "a/x.png", dark)
    save(dark.parent / "b/x.png", dark)
    assert run("fix", "a/x.png", "b/x.png", "-o", "out/") == 2


def test_dry_run_prints_the_plan_and_writes_nothing(
    run: Run, dark: Path, good: Path, capsys: Capture
) -> None:
    before = sorted(path.name for path in dark.parent.iterdir())
    assert run("fix", "dark.png", "good.jpg", "--dry-run", "--json", "-o", "out/") == 0
    plans = documents(capsys)
    assert [plan["schema"] for plan in plans] == ["autodir.plan/1"] * 2
    assert [plan["clean"] for plan in plans] == [False, True]
    assert plans[0]["plan"][0]["degradation"] == "underexposure"
    assert run("fix", "dark.png", "--dry-run", "--prompt", "too dark", "--prompt", "dark") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1  underexposure 0.97  “too dark”")
    assert len(lines) == 2
    assert sorted(path.name for path in dark.parent.iterdir()) == before


def test_a_prompt_stands_in_the_line_of_its_round(run: Run, dark: Path, capsys: Capture) -> None:
    assert run("fix", "dark.png", "--prompt", "too dark") == 0
    assert "underexposure 0.97  “too dark”  →  repaired" in capsys.readouterr().out


def test_a_prompt_that_names_nothing_known_is_a_prompt_error(
    run: Run, dark: Path, capsys: Capture
) -> None:
    assert run("fix", "dark.png", "--prompt", "make coffee", "--json") == 2
    (document,) = documents(capsys)
    assert document["error"]["kind"] == "PromptError"
    assert document["error"]["hint"]


def test_quiet_says_nothing_and_verbose_says_why(run: Run, dark: Path, capsys: Capture) -> None:
    assert run("fix", "dark.png", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert run("fix", "dark.png", "-v", "--overwrite") == 0
    out = capsys.readouterr().out
    assert "it is brighter" in out
    assert "gain 1.5" in out


def test_stdin_goes_to_stdout(
    run: Run,
    dark: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(dark.read_bytes())))
    assert run("fix", "-") == 0
    out, err = capsysbinary.readouterr()
    with PIL.Image.open(io.BytesIO(out)) as image:
        assert (image.format, image.size) == ("PNG", (16, 12))
        assert float(np.asarray(image).mean()) > mean(dark)
    assert "repaired" in err.decode()


def test_a_clean_photo_passes_through_stdout_byte_for_byte(
    run: Run,
    good: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(good.read_bytes())))
    assert run("fix", "-") == 0
    assert capsysbinary.readouterr().out == good.read_bytes()


def test_stdin_can_be_written_to_a_file_and_reported_as_json(
    run: Run, good: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(good.read_bytes())))
    assert run("fix", "-", "-o", "out.jpg", "--json") == 0
    (document,) = documents(capsys)
    assert (document["input"], document["output"]) == ("-", "out.jpg")
    assert good.with_name("out.jpg").read_bytes() == good.read_bytes()


@pytest.mark.parametrize(
    "arguments", [("-", "dark.png"), ("-", "--json"), ("dark.png", "good.jpg", "-o", "-")]
)
def test_streams_that_cannot_be_shared_are_refused(
    run: Run, dark: Path, good: Path, arguments: tuple[str, ...]
) -> None:
    assert run("fix", *arguments) == 2


def test_too_many_pixels_are_refused_before_decoding(run: Run, dark: Path, capsys: Capture) -> None:
    assert run("fix", "dark.png", "--max-pixels", "100") == 3
    assert "--max-pixels" in capsys.readouterr().err


def test_the_model_is_opened_once_as_asked(run: Run, dark: Path, good: Path, restorer: Any) -> None:
    flags = ("--device", "cpu", "--threads", "2", "--precision", "fp32")
    assert run("fix", "dark.png", "good.jpg", *flags) == 0
    assert restorer.opened == [("small", "cpu", "fp32", 2)]


def test_a_model_that_is_missing_is_a_checkpoint_error(run: Run, dark: Path) -> None:
    assert run("fix", "dark.png", "--model", "large") == 4


@pytest.mark.parametrize("flag", ["--only", "--skip"])
def test_an_unknown_degradation_is_one_error_for_all_inputs(
    run: Run, dark: Path, good: Path, flag: str, capsys: Capture
) -> None:
    assert run("fix", "dark.png", "good.jpg", flag, "rian", "--json") == 2
    (document,) = documents(capsys)
    assert document["error"]["kind"] == "PromptError"
    assert "rain" in document["error"]["hint"]


def test_presets_and_files_are_read(run: Run, dark: Path, capsys: Capture) -> None:
    dark.with_name("mine.toml").write_text("max_steps = 0\n")
    assert run("fix", "dark.png", "--preset", "night", "--config", "mine.toml", "--json") == 0
    (document,) = documents(capsys)
    assert document["options"]["max_steps"] == 0
    assert "underexposure" in document["options"]["only"]
