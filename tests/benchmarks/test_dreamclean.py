"""The table of fidelity against γ is measured, not typed."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.Image
import pytest


def test_one_row_for_each_gamma(
    program: Callable[[str], ModuleType],
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    out = tmp_path / "table.json"
    arguments = [
        str(tmp_path), "--model", str(tiny_model_folder), "--steps", "2", "--side", "32",
        "--gammas", "0", "0.5", "--out", str(out),
    ]  # fmt: skip
    assert program("dreamclean").main(arguments) == 0
    result = json.loads(out.read_text())
    figures = result["figures"]
    assert [row["gamma"] for row in figures] == [0, 0.5]
    assert [row["evaluations"] for row in figures] == [4, 6]
    assert figures[1]["kept"] == 0.25
    assert figures[0]["psnr_to_clean"] != figures[1]["psnr_to_clean"]
    assert result["rows"][1][:2] == ["0.5", "0.250"]
    assert "0.5  0.250" in capsys.readouterr().out
