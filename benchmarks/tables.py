"""Write the tables of ``benchmarks/README.md`` from the newest result of each suite.

Apart from the runs so that a table can only ever show what a stored result says: nothing is typed.
A table stands between ``<!-- table NAME -->`` and ``<!-- end NAME -->``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autodir.evaluation.metrics import PSNR_CEILING
from autodir.evaluation.systems import TITLES

HERE = Path(__file__).resolve().parent
Result = Mapping[str, Any]

RELIABILITY = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)
"""Borders of the bins in which presence is compared with the truth."""

_BLOCK = re.compile(r"(<!-- table (?P<name>\w+) -->\n).*?(<!-- end (?P=name) -->)", re.DOTALL)


def newest(results: Path, suite: str) -> Result | None:
    """The latest result of a suite by the time written in it; None where there is none."""
    found = [json.loads(path.read_text("utf-8")) for path in (results / suite).glob("*.json")]
    return max(found, key=lambda result: str(result["circumstances"]["time"]), default=None)


def fill(document: str, results: Path) -> str:
    """The document with every table rewritten."""

    def table(match: re.Match[str]) -> str:
        result = newest(results, match["name"])
        lines = ["*Not run yet.*"] if result is None else RENDERERS[result["kind"]](result)
        return f"{match[1]}\n" + "\n".join(lines) + f"\n\n{match[3]}"

    return _BLOCK.sub(table, document)


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; the first column is text, the others are numbers."""
    rule = ["---", *("--:" for _ in header[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]


def restoration(result: Result) -> list[str]:
    """PSNR and gain by set and system, and the totals; without targets what was repaired."""
    systems = list(result["overall"])
    main = next((name for name in ("whole", "plain") if name in systems), systems[-1])
    if all(totals["gain"] is None for totals in result["overall"].values()):
        return repaired(result, main)
    header = ["set (n)", *(TITLES.get(name, name) for name in systems), "95 % of gain", "harmed"]
    header += ["goal", "to go"]
    rows = []
    for name, figures in result["sets"].items():
        chosen, goal = figures[main], result["goals"].get(name, {})
        rows.append(
            [
                f"{name} ({chosen['cases']})",
                *(_cell(figures[system], figures["input"]) for system in systems),
                _interval(chosen["gain_interval"]),
                _percent(chosen["harmed"]),
                *_goal(chosen, goal),
            ]
        )
    totals = result["overall"]
    empty = ["", "", ""]
    gains = [_signed(totals[name]["gain"]) for name in systems]
    rows.append(["**mean gain over sets**", *gains, "", *empty])
    worst = [_signed(totals[name]["worst_gain"]) for name in systems]
    rows.append(["worst set", *worst, "", *empty])
    rows.append(["harmed", *(_percent(totals[name]["harmed"]) for name in systems), "", *empty])
    seconds = [_number(totals[name]["seconds"], 2) for name in systems]
    rows.append(["seconds a picture", *seconds, "", *empty])
    note = f"PSNR in dB (gain over the input); interval, harmed share and goal: {TITLES[main]}."
    return [*grid(header, rows), "", note, "", _origin(result)]


def repaired(result: Result, system: str) -> list[str]:
    """By set, in how many photos something was repaired, and what."""
    rows = []
    for name, figures in result["sets"].items():
        own = [row for row in result["rows"] if (row["set"], row["system"]) == (name, system)]
        kinds = Counter(key for row in own for key in row["treated"]).most_common()
        rows.append(
            [
                name,
                str(len(own)),
                str(sum(bool(row["treated"]) for row in own)),
                ", ".join(f"{key.replace('_', ' ')} {count}" for key, count in kinds) or "·",
                _number(figures[system]["seconds"], 2),
            ]
        )
    header = ["set", "photos", "repaired", "of what", "seconds a picture"]
    return [*grid(header, rows), "", f"System: {TITLES[system]}.", "", _origin(result)]


def recognition(result: Result) -> list[str]:
    """Accuracy by kind and by set, and the confusion matrix."""
    found = result["recognition"]
    shares = grid(
        ["", "share", "pictures"],
        [
            [
                f"right label (95 %: {_interval(found['interval'], percent=True)})",
                _percent(found["accuracy"]),
                str(found["pictures"]),
            ],
            ["real photos", _percent(found["real"]), ""],
            ["synthetic", _percent(found["synthetic"]), ""],
            ["softmax alone", _percent(found["argmax"]), ""],
            [
                "false alarms on clean",
                _percent(found["false_alarms"]),
                str(found["clean_pictures"]),
            ],
        ],
    )
    sets = grid(
        ["set", "right", "pictures"],
        [
            [name, _percent(figures["accuracy"]), str(figures["pictures"])]
            for name, figures in found["sets"].items()
        ],
    )
    labels = found["labels"]
    matrix = grid(
        ["true ↓ named →", *labels],
        [
            [label, *(str(count) if count else "·" for count in counts)]
            for label, counts in zip(labels, found["confusion"], strict=True)
        ],
    )
    curve = grid(
        ["presence says", "in the mean", "really there", "pictures"],
        [
            [f"{low:.0%} to {high:.0%}", f"{said:.1%}", f"{true:.1%}", str(count)]
            for low, high, said, true, count in reliability(found["rows"])
        ],
    )
    return [*shares, "", *sets, "", *matrix, "", *curve, "", _origin(result)]


def reliability(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, float, float, int]]:
    """What presence says against what is there: lower and upper border, mean, true share, count.

    Each picture counts once for each degradation. Bins without pictures are left out.
    """
    pairs = [
        (said, float(key in row["true"])) for row in rows for key, said in row["presence"].items()
    ]
    curve = []
    for low, high in itertools.pairwise(RELIABILITY):
        own = [(said, true) for said, true in pairs if low <= said < high or said == high == 1]
        if own:
            mean, share = (sum(column) / len(own) for column in zip(*own, strict=True))
            curve.append((low, high, mean, share, len(own)))
    return curve


def listing(result: Result) -> list[str]:
    """Whatever a script measured, as it named its columns."""
    rows = [[str(cell) for cell in row] for row in result["rows"]]
    notes = [*result["notes"], ""] if result.get("notes") else []
    return [*grid(result["columns"], rows), "", *notes, _origin(result)]


RENDERERS: dict[str, Callable[[Result], list[str]]] = {
    "restoration": restoration,
    "recognition": recognition,
    "speed": listing,
    "severity": listing,
    "maps": listing,
    "parts": listing,
}


def _cell(figures: Result, untouched: Result) -> str:
    if figures["psnr"] is None or untouched["psnr"] == PSNR_CEILING:
        return f"{_percent(figures['untouched'])} untouched"
    gain = "" if figures["gain"] == 0 else f" ({_signed(figures['gain'])})"
    return f"{figures['psnr']:.2f}{gain}"


def _goal(figures: Result, goal: Result) -> list[str]:
    """What is asked for, and how much is missing; nothing is missing where the goal is met."""
    if figures["psnr"] is None:
        return ["", ""]
    if goal.get("psnr") is not None:
        return [f"≥ {goal['psnr']:.1f}", _missing(goal["psnr"] - figures["psnr"])]
    if goal.get("gain") is not None:
        return [f"≥ {_signed(goal['gain'])}", _missing(goal["gain"] - figures["gain"])]
    return ["", ""]


def _missing(gap: float) -> str:
    return "met" if gap <= 0 else f"{gap:.2f}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _interval(bounds: Sequence[float] | None, *, percent: bool = False) -> str:
    if bounds is None:
        return ""
    low, high = bounds
    return f"{100 * low:.1f}…{100 * high:.1f}" if percent else f"{low:+.2f}…{high:+.2f}"


def _origin(result: Result) -> str:
    about, model = result["circumstances"], result.get("model", {})
    digest = str(model.get("model_sha256") or model.get("sha256") or "")[:12]
    machine = about["hardware"]
    place = machine["gpu"] or f"{machine['processor']}, {machine['threads']} threads"
    limit = "" if result.get("limit") is None else f" · at most {result['limit']} of each folder"
    model_name = model.get("name") or model.get("model") or "no model"
    named = f"{model_name} `{digest}`" if digest else str(model_name)
    return f"{about['time'][:10]} · commit `{about['commit']}` · {named} · {place}{limit}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the document in place; with ``--check`` only say whether it is up to date."""
    parser = argparse.ArgumentParser(description="Write the benchmark tables.")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--document", type=Path, default=HERE / "README.md")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if stale")
    options = parser.parse_args(arguments)
    before = options.document.read_text("utf-8")
    after = fill(before, options.results)
    if options.check:
        return int(before != after)
    options.document.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
