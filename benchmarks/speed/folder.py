"""Memory of ``autodir fix`` while it goes through a folder of many photos: it must not grow.

The run is a process of its own, watched from outside; the curve is resident memory against the
photos that its ledger says are done. Linux alone tells another process's memory in /proc.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from autodir.batch.ledger import LEDGER_NAME
from autodir.checkpoint import find_model, info
from autodir.errors import ConfigError
from autodir.evaluation.provenance import circumstances
from autodir.evaluation.suite import SCHEMA, result_path, write_result

RESULTS = Path(__file__).resolve().parents[1] / "results"
_MEBI = 1 << 20
_ROWS = 10


def make_photos(folder: Path, count: int, side: int) -> None:
    """Write ``count`` different noisy photos of ``side`` × ``side`` pixels."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        level = generator.integers(40, 200)
        samples = np.clip(generator.normal(level, 20, (side, side, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:06d}.jpg"), samples)


def resident(pid: int) -> int:
    """Bytes of a process that are in memory now."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def watch(command: Sequence[str], ledger: Path, interval: float) -> list[dict[str, float]]:
    """Run a command, and take down seconds, lines of its ledger and memory until it ends.

    Raises:
        ConfigError: the command failed.
    """
    curve: list[dict[str, float]] = []
    started, lines, place = time.perf_counter(), 0, 0
    process = subprocess.Popen(command)
    while process.poll() is None:
        if ledger.is_file():
            with ledger.open("rb") as file:
                file.seek(place)
                new = file.read()
            lines, place = lines + new.count(b"\n"), place + len(new)
            seconds, size = time.perf_counter() - started, resident(process.pid)
            if size:  # none where the process has just ended
                curve.append({"seconds": seconds, "photos": lines, "bytes": size})
        time.sleep(interval)
    if process.returncode != 0:
        raise ConfigError(f"the run failed with code {process.returncode}")
    return curve


def tabulate(curve: Sequence[Mapping[str, float]], count: int) -> dict[str, Any]:
    """Ten points of the curve, and how much memory the second half has added to the first.

    Args:
        curve: from `watch`.
        count: all photos.
    """
    rows, at, first = [], 0, curve[0]["bytes"]
    for tenth in range(1, _ROWS + 1):
        at = next(
            (i for i in range(at, len(curve)) if curve[i]["photos"] >= tenth * count / _ROWS),
            len(curve) - 1,
        )
        point = curve[at]
        rate = point["photos"] / point["seconds"]
        rows.append(
            [
                f"{point['photos']:.0f}",
                f"{point['seconds']:.1f}",
                f"{rate:.1f}",
                f"{point['bytes'] / _MEBI:.0f}",
            ]
        )
    tenth_in, half, all_of_it = (
        max((one["bytes"] for one in curve if one["photos"] <= share * count), default=first)
        for share in (0.1, 0.5, 1.0)
    )
    return {
        "columns": ["photos done", "s", "photos/s", "resident MiB"],
        "rows": rows,
        "growth_after_half": all_of_it / half - 1,
        "growth_after_tenth": all_of_it / tenth_in - 1,
        "curve": list(curve),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the photos, go through them, and write the result."""
    parser = argparse.ArgumentParser(description="Memory over a folder of many photos.")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--side", type=int, default=64, help="of a photo, in pixels")
    parser.add_argument("--model", default="small")
    parser.add_argument("--max-steps", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between two looks")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    about = info(find_model(options.model))
    with tempfile.TemporaryDirectory() as place:
        photos, results = Path(place) / "photos", Path(place) / "results"
        make_photos(photos, options.count, options.side)
        command = [sys.executable, "-m", "autodir", "fix", str(photos), "-o", f"{results}/"]
        command += ["--model", options.model, "--max-steps", str(options.max_steps), "--quiet"]
        command += ["--device", "cpu", "--threads", str(options.threads)]
        curve = watch(command, results / LEDGER_NAME, options.interval)
        written = sum(1 for _ in results.glob("*.jpg"))
    if written != options.count:
        raise ConfigError(f"{written} results of {options.count} photos")
    table = tabulate(curve, options.count)
    note = (
        f"{options.count} JPEG files of {options.side}×{options.side} pixels; after the first half "
        f"the peak grew by {100 * table['growth_after_half']:.1f} %."
    )
    result = {
        "schema": SCHEMA,
        "suite": "speed_folder",
        "title": "A folder of many photos",
        "kind": "speed",
        "model": {"name": about.name, "sha256": about.sha256},
        "circumstances": circumstances(),
        "notes": [note],
        "count": options.count,
        **table,
    }
    write_result(result, result_path(options.out, result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
