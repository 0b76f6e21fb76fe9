"""Time and peak memory against the number of pixels, 0.25…24 MP.

Every size runs in a process of its own, because a peak of memory can only be read once.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from autodir.config import RestoreOptions
from autodir.errors import ConfigError
from autodir.evaluation.provenance import circumstances, peak_memory
from autodir.evaluation.suite import SCHEMA, result_path, write_result
from autodir.records import Image

RESULTS = Path(__file__).resolve().parents[1] / "results"
MEGAPIXELS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0)
_MEBI = 1 << 20


def size_of(megapixels: float) -> tuple[int, int]:
    """(height, width) of a 3:4 photo of so many million pixels."""
    height = round(math.sqrt(megapixels * 1e6 * 3 / 4))
    return height, round(height * 4 / 3)


def measure_one(model: str, megapixels: float, threads: int, degradation: str) -> dict[str, Any]:
    """One round on one photo, in this process."""
    from autodir.pipeline import Restorer  # the parent process never loads a model

    restorer = Restorer.from_pretrained(model, device="cpu", threads=threads)
    torch.set_num_threads(threads)
    height, width = size_of(megapixels)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(3, height, width, generator=generator).mul_(0.2).add_(0.4)
    before = peak_memory()
    started = time.perf_counter()
    options = RestoreOptions(max_steps=1, only=(degradation,))
    with torch.inference_mode():
        rounds = restorer.restore(Image(pixels=pixels), options)
    seconds = time.perf_counter() - started
    if not rounds.report.steps:
        raise ConfigError(
            f"the model sees no {degradation} in the test photo, so there was no round",
            "name another --degradation",
        )
    return {
        "megapixels": megapixels,
        "size": [height, width],
        "seconds": seconds,
        "peak_memory_bytes": peak_memory(),
        "loaded_memory_bytes": before,
        "model": json.loads(json.dumps(dict(restorer.info), default=str)),
    }


def tabulate(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row a size; the last column says how far from linear in pixels the time is."""
    unit = measured[0]["seconds"] / measured[0]["megapixels"]
    rows = []
    for one in measured:
        height, width = one["size"]
        each = one["seconds"] / one["megapixels"]
        peak = "" if one["peak_memory_bytes"] is None else f"{one['peak_memory_bytes'] / _MEBI:.0f}"
        rows.append(
            [
                f"{one['megapixels']:g} ({height}×{width})",
                f"{one['seconds']:.2f}",
                f"{each:.2f}",
                peak,
                f"{each / unit:.2f}",
            ]
        )
    columns = ["megapixels", "s a round", "s a megapixel", "peak MiB", "s a megapixel, first = 1"]
    return {"columns": columns, "rows": rows, "measured": list(measured)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every size in a child process and write the result."""
    parser = argparse.ArgumentParser(description="Time and memory against pixels.")
    parser.add_argument("--model", default="small")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--degradation", default="noise")
    parser.add_argument("--sizes", type=float, nargs="+", default=list(MEGAPIXELS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        one = measure_one(options.model, options.one, options.threads, options.degradation)
        print(json.dumps(one))
        return 0
    measured = []
    for megapixels in options.sizes:
        command = [sys.executable, __file__, "--one", str(megapixels), "--model", options.model]
        command += ["--threads", str(options.threads), "--degradation", options.degradation]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        measured.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{megapixels:g} MP: {measured[-1]['seconds']:.2f} s", file=sys.stderr)
    result = {
        "schema": SCHEMA,
        "suite": "speed_pixels",
        "title": "Cost against pixels",
        "kind": "speed",
        "model": measured[0]["model"],
        "circumstances": circumstances(),
        "notes": ["One round on a cold process; peak memory is that of the whole process."],
        **tabulate(measured),
    }
    write_result(result, result_path(options.out, result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
