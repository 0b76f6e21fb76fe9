"""Time one round on 512×512 against one pass of the classic NAFNet.

Both run in the same process and take turns, so that a busy machine slows both; medians are
compared.
The yardstick is NAFNet of width 32 (17 M parameters) in the faster of its two memory layouts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autodir.config import RestoreOptions
from autodir.correction.nafnet import NAFNet
from autodir.errors import ConfigError
from autodir.evaluation.datasets import add_gaussian
from autodir.evaluation.provenance import circumstances, peak_memory
from autodir.evaluation.suite import SCHEMA, result_path, write_result
from autodir.evaluation.systems import Repairer
from autodir.imaging.io import from_any
from autodir.records import Image

RESULTS = Path(__file__).resolve().parents[1] / "results"
ENCODER = [1, 1, 1, 28]
DECODER = [1, 1, 1, 1]


def yardstick() -> nn.Module:
    """The published NAFNet of width 32 with random weights: time does not depend on them."""
    return NAFNet(
        img_channel=3, width=32, middle_blk_num=1, enc_blk_nums=ENCODER, dec_blk_nums=DECODER
    ).eval()


def sample_photo(height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth colored texture with visible noise, (1, 3, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, max(height // 32, 2), max(width // 32, 2), generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return add_gaussian(smooth, 30, generator)


def interleave(
    jobs: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each job, one turn each, ``repeats`` times after ``warmup`` untimed turns."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(warmup + repeats):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            if turn >= warmup:
                times[name].append(time.perf_counter() - started)
    return times


def jobs_of(restorer: Repairer, yard: nn.Module, pixels: Tensor, key: str) -> dict[str, Any]:
    """What is timed, by name."""
    photo = Image(pixels=pixels[0])
    last = yardstick().to(memory_format=torch.channels_last)
    columns = pixels.contiguous(memory_format=torch.channels_last)
    forced = RestoreOptions(max_steps=1, only=(key,))
    return {
        "NAFNet 17 M": lambda: yard(pixels),
        "NAFNet 17 M, channels last": lambda: last(columns),
        "one round": lambda: restorer.restore(photo, forced),
        "diagnosis": lambda: restorer.diagnose(photo),
        "diffusion": lambda: restorer.apply_parts(pixels, key, correction=False),
        "correction": lambda: restorer.apply_parts(pixels, key, diffusion=False),
    }


def tabulate(times: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Medians and shares of the faster yardstick."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    unit = min(value for name, value in medians.items() if name.startswith("NAFNet"))
    rows = [
        [name, f"{value:.3f}", f"{min(times[name]):.3f}", f"{value / unit:.2f}"]
        for name, value in medians.items()
    ]
    return {
        "columns": ["512×512", "median s", "best s", "share of NAFNet"],
        "rows": rows,
        "medians": medians,
        "ratio": medians["one round"] / unit,
        "times": {name: list(values) for name, values in times.items()},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description="Time one round against one NAFNet pass.")
    parser.add_argument("--model", default="small")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--degradation", default="noise")
    parser.add_argument("--photo", type=Path, help="in place of a drawn one; its middle is taken")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    from autodir.pipeline import Restorer  # after --help

    restorer = Restorer.from_pretrained(options.model, device="cpu", threads=options.threads)
    torch.set_num_threads(options.threads)
    pixels = sample_photo(options.size, options.size)
    if options.photo is not None:
        photo = from_any(options.photo).pixels[None]
        top, left = (max(0, (side - options.size) // 2) for side in photo.shape[-2:])
        pixels = photo[..., top : top + options.size, left : left + options.size]
    with torch.inference_mode():
        jobs = jobs_of(restorer, yardstick(), pixels, options.degradation)
        table = tabulate(interleave(jobs, options.repeats))
        rounds = restorer.restore(
            Image(pixels=pixels[0]), RestoreOptions(max_steps=1, only=(options.degradation,))
        )
    steps = [step.degradation for step in rounds.report.steps]
    if not steps:
        raise ConfigError(
            f"the model sees no {options.degradation} in the test photo, so there was no round",
            "name another --degradation",
        )
    result = {
        "schema": SCHEMA,
        "suite": "speed_round",
        "title": "One round against one NAFNet pass",
        "kind": "speed",
        "model": dict(restorer.info),
        "circumstances": circumstances(),
        "notes": [f"One round = diagnosis, repair and verdict; treated: {', '.join(steps)}."],
        "peak_memory_bytes": peak_memory(),
        **table,
    }
    write_result(result, result_path(options.out, result))
    print(f"one round takes {table['ratio']:.2f} of one NAFNet pass")
    return 0


if __name__ == "__main__":
    sys.exit(main())
