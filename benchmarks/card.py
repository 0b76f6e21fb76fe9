"""Write a model's card: what it was trained on, for how long, its curves and its numbers.

Apart from the tables because a card belongs to one model folder and is read beside its weights.
Every figure comes from the model's own index, its training logs, or a stored result.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from tables import fill, grid

from autodir.checkpoint import info

HERE = Path(__file__).resolve().parent
ROWS = 60
"""Rows kept of each training log: enough for a curve, small enough to commit."""


def keep_curves(folder: Path) -> None:
    """Thin the logs of ``.training`` into ``curves/``, so that they travel with the weights."""
    for log in sorted((folder / ".training").glob("*/losses.csv")):
        with log.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
        if not rows:
            continue
        size = max(1, math.ceil(len(rows) / ROWS))
        groups = [rows[start : start + size] for start in range(0, len(rows), size)]
        (folder / "curves").mkdir(exist_ok=True)
        path = folder / "curves" / f"{log.parent.name}.csv"
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(rows[0])
            writer.writerows([_mean(group, key) for key in rows[0]] for group in groups)


def _mean(rows: Sequence[Mapping[str, str]], key: str) -> str:
    values = [float(row[key]) for row in rows if row[key] not in ("", "nan")]
    return f"{sum(values) / len(values):.5g}" if values else ""


def draw_curves(folder: Path, width: int = 900, row: int = 110) -> None:
    """One strip for each stage: its loss, from the first to the last row of its curve."""
    curves = sorted((folder / "curves").glob("*.csv"))
    if not curves:
        return
    picture = Image.new("RGB", (width, row * len(curves)), "white")
    pen = ImageDraw.Draw(picture)
    for index, path in enumerate(curves):
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
        values = [float(line["loss"]) for line in rows]
        low, high = min(values), max(values)
        top = index * row
        scale = (row - 40) / ((high - low) or 1.0)
        points = [
            (
                130 + (width - 150) * place / max(1, len(values) - 1),
                top + row - 15 - (value - low) * scale,
            )
            for place, value in enumerate(values)
        ]
        pen.line(points, fill=(30, 90, 160), width=2)
        pen.text((8, top + 15), path.stem, fill="black")
        pen.text((8, top + 35), f"loss {values[0]:.3g} to {values[-1]:.3g}", fill="black")
        pen.text((8, top + 55), f"{rows[-1]['step']} steps", fill="black")
        pen.line([(0, top + row - 1), (width, top + row - 1)], fill=(200, 200, 200))
    picture.save(folder / "curves" / "curves.png")


def stages(training: Mapping[str, Any]) -> list[str]:
    """The rows of the training table: one for each run of each stage."""

    def pairs(name: str, run: Mapping[str, Any]) -> str:
        known = run.get("pairs") or {}
        own = known if name == "trial" else run.get("experts", known)  # trials see all of them
        used = [count for key, count in known.items() if key in own]
        return str(sum(used)) if used else ""

    rows = [
        [
            f"{name} ({', '.join(run['experts'])})" if run.get("experts") else name,
            f"{float(run['seconds']) / 60:.1f}",
            str(run.get("learning_rate", "")),
            str(run.get("photos", "")),
            pairs(name, run),
            f"{run.get('device', 'cpu')}, {run.get('threads', '')} threads",
        ]
        for name, runs in training.items()
        for run in runs
    ]
    header = ["stage", "minutes", "learning rate", "photos", "real pairs", "device"]
    lines: list[str] = grid(header, rows)
    return lines


def card(folder: Path, words: str, results: Path) -> str:
    """The card: the words of ``card.md`` with the generated parts filled in."""
    about = info(folder)
    calibration = json.loads((folder / "biqa" / "calibration.json").read_text("utf-8"))
    chosen = calibration.get("chosen_on", {})
    sizes = grid(
        ["part", "parameters"], [[name, f"{count:,}"] for name, count in about.parameters.items()]
    )
    low, high = chosen.get("clean_touched_interval", (0.0, 1.0))
    found = chosen.get("degraded_found")  # unknown where the threshold has other clean photos
    own = calibration.get("thresholds")
    levels = (
        "Thresholds " + ", ".join(f"{key.replace('_', ' ')} {at:.2f}" for key, at in own.items())
        if own
        else f"Clean threshold {calibration['clean_threshold']:.3f}"
    )
    threshold = (
        f"{levels}; chosen on {chosen.get('clean_photos', 0)} clean and "
        f"{chosen.get('degraded_photos', 0)} degraded "
        f"views of held-out photos: {chosen.get('clean_touched', 0)} clean ones above (95 % "
        f"interval of the share {low:.1%} to {high:.1%}), of the degraded ones "
        f"{'' if found is None else f'{found} found, '}{chosen.get('degraded_named', 0)} named "
        "rightly."
    )
    parts = {
        "parameters": "\n".join(sizes),
        "stages": "\n".join(stages(about.training)),
        "calibration": threshold,
        "size": f"{about.bytes / 1e6:.1f} MB",
    }
    for key, text in parts.items():
        words = words.replace("{{" + key + "}}", text)
    return str(fill(words, results))


def main() -> None:
    """Regenerate the card of a model folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = HERE.parent / "checkpoints" / "small"
    parser.add_argument("folder", type=Path, nargs="?", default=usual)
    arguments = parser.parse_args()
    keep_curves(arguments.folder)
    draw_curves(arguments.folder)
    words = (HERE / "card.md").read_text("utf-8")
    text = card(arguments.folder, words, HERE / "results")
    (arguments.folder / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
