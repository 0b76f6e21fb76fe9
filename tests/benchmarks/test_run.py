import json

import numpy as np
import pytest
from PIL import Image

SUITE = 'schema = 1\nsystems = ["input", "classical"]\n[[set]]\nfolders = ["LOL_eval15"]\n'


@pytest.fixture
def dark(tmp_path):
    """One dark picture with its target, and a suite for it that needs no model."""
    ramp = np.linspace(40, 200, 32 * 24 * 3).reshape(24, 32, 3)
    for place, scale in (("target", 1), ("input", 0.2)):
        folder = tmp_path / "eval/LOL_eval15" / place
        folder.mkdir(parents=True)
        Image.fromarray((ramp * scale).astype(np.uint8)).save(folder / "1.png")
    suite = tmp_path / "dark.toml"
    suite.write_text(SUITE, "utf-8")
    return suite


def test_suite_is_run_and_written_and_summed_up(program, dark, tmp_path, capsys):
    out = tmp_path / "out.json"
    code = program("run").main([str(dark), "--data", str(tmp_path), "--out", str(out)])
    assert code == 0
    assert json.loads(out.read_text("utf-8"))["sets"]["LOL_eval15"]["classical"]["gain"] > 1
    assert "classical" in capsys.readouterr().out


def test_unknown_suite_is_told_in_one_line(program, capsys):
    assert program("run").main(["pared"]) == 1
    assert "Did you mean 'paired'" in capsys.readouterr().err


def test_recognition_is_summed_up(program):
    result = {
        "suite": "recognition",
        "kind": "recognition",
        "seconds": 1.0,
        "recognition": {"accuracy": 0.5, "false_alarms": None},
    }
    assert "accuracy 0.5" in program("run").summary(result)[1]


def test_sheet_shows_input_result_and_target(program, dark, tmp_path):
    out = tmp_path / "sheets/sheet.jpg"
    arguments = [str(dark), str(out), "--data", str(tmp_path), "--systems", "classical"]
    assert program("sheet").main([*arguments, "--height", "48"]) == 0
    with Image.open(out) as sheet:
        assert sheet.format == "JPEG"
        assert sheet.width == 3 * 64 + 4 * 6
        assert sheet.height == 48 + 15 + 2 * 6 + 6
        pixels = np.asarray(sheet.convert("RGB")).astype(float)
    panels = [pixels[10:50, 6 + i * 70 : 70 + i * 70].mean() for i in range(3)]
    assert panels[0] < panels[1]
    assert panels[0] < panels[2]
