"""``autodir diagnose``: says what is wrong and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("restorer")


def test_one_line_for_each_photo_and_nothing_is_written(
    run: Run, dark: Path, good: Path, capsys: Capture
) -> None:
    assert run("diagnose", "dark.png", "good.jpg") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["dark.png  underexposure 0.90  also noise 0.60", "good.jpg  clean"]
    assert sorted(path.name for path in dark.parent.iterdir()) == ["dark.png", "good.jpg"]


def test_json_has_the_fields_of_the_contract(run: Run, dark: Path, capsys: Capture) -> None:
    assert run("diagnose", "dark.png", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "autodir.diagnosis/1"
    assert (document["input"], document["model"]) == ("dark.png", "small")
    assert (document["width"], document["height"]) == (16, 12)
    assert (document["clean"], document["main"]) == (False, "underexposure")
    assert sum(document["probabilities"].values()) == pytest.approx(1)
    assert document["error"] is None


def test_a_folder_is_searched_and_bad_files_are_reported(
    run: Run, dark: Path, good: Path, capsys: Capture
) -> None:
    dark.with_name("bad.png").write_bytes(b"")
    assert run("diagnose", ".", "--json") == 1
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = {document["input"]: document["error"] for document in documents}
    assert kinds["bad.png"]["kind"] == "ImageError"
    assert kinds["dark.png"] is None
    assert len(kinds) == 3


def test_verbose_shows_every_figure(run: Run, dark: Path, capsys: Capture) -> None:
    assert run("diagnose", "dark.png", "-v") == 0
    out = capsys.readouterr().out
    assert "presence" in out
    assert "0.950" in out


@pytest.mark.parametrize(
    ("wanted", "code"), [("any", 10), ("noise,underexposure", 10), ("noise", 0), ("fog", 2)]
)
def test_fail_on_ends_with_10_where_one_is_found(
    run: Run, dark: Path, wanted: str, code: int
) -> None:
    assert run("diagnose", "dark.png", "--fail-on", wanted) == code


def test_fail_on_lets_clean_photos_pass(run: Run, good: Path) -> None:
    assert run("diagnose", "good.jpg", "--fail-on", "any") == 0


def test_a_heat_map_of_each_degradation_is_written(
    run: Run, dark: Path, good: Path, capsys: Capture
) -> None:
    assert run("diagnose", ".", "--map", "maps", "--json") == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert documents[0]["maps"] == {
        "noise": "maps/dark.png.noise.png",
        "rain": "maps/dark.png.rain.png",
    }
    written = sorted(path.name for path in (dark.parent / "maps").iterdir())
    expected = [f"{n}.{key}.png" for n in ("dark.png", "good.jpg") for key in ("noise", "rain")]
    assert written == expected
    with PIL.Image.open(dark.parent / "maps/dark.png.noise.png") as image:
        assert image.size == (16, 12)
        assert sum(image.getpixel((3, 3))) / 3 / 255 == pytest.approx(0.5, abs=0.01)


def test_severity_stands_in_the_json_and_is_shown_when_verbose(
    run: Run, dark: Path, capsys: Capture
) -> None:
    assert run("diagnose", "dark.png", "--json") == 0
    severity = json.loads(capsys.readouterr().out)["severity"]
    assert severity == {"noise": {"value": 3.06, "error": 1.0, "unit": "levels"}}
    assert run("diagnose", "dark.png", "-v") == 0
    assert "3.06 ± 1 levels" in capsys.readouterr().out


def test_flags_that_write_are_unknown_here(run: Run, dark: Path) -> None:
    assert run("diagnose", "dark.png", "--overwrite") == 2
