from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "tiny"
    shutil.copytree(tiny_model_folder, copy)
    log = copy / ".training" / "diffusion" / "losses.csv"
    log.parent.mkdir(parents=True)
    with log.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["step", "seconds", "loss"])
        writer.writerows([step, step / 2, 100 / step] for step in range(1, 241))
    return copy


def test_curves_keep_the_means_of_equal_groups(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("card", None)
    import card

    card.keep_curves(folder)
    with (folder / "curves" / "diffusion.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == card.ROWS
    assert float(rows[0]["step"]) == 2.5
    card.draw_curves(folder)
    assert (folder / "curves" / "curves.png").is_file()


def test_card_states_the_parts_of_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import card

    text = card.card(folder, "{{parameters}}\n{{stages}}", folder)
    assert "| unet |" in text
    assert "{{" not in text


@pytest.mark.parametrize(
    ("own", "expected"),
    [({"low_resolution": 0.1, "rain": 0.456}, "low resolution 0.10, rain 0.46;"), (None, "0.320;")],
)
def test_card_states_the_thresholds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, own: dict[str, float] | None, expected: str
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import card

    figures = {"clean_threshold": 0.32, "thresholds": own, "chosen_on": {"clean_photos": 7}}
    (folder / "biqa" / "calibration.json").write_text(json.dumps(figures), encoding="utf-8")
    text = card.card(folder, "{{calibration}}", folder)
    assert expected in text
    assert "7 clean" in text
