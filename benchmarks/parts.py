"""What each part adds: one round with the true label on many held-out photos, part by part.

Apart from the suites, whose sets hold two to twenty photos each, too few to tell a tenth of a
decibel: ``python benchmarks/parts.py --data ../shared/data``. The photos are the held-out ones of
the training data, degraded by synthesis or, where there are real pairs, by those.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from autodir.evaluation.aggregate import bootstrap_interval, mean
from autodir.evaluation.provenance import circumstances
from autodir.evaluation.suite import SCHEMA, result_path, write_result
from autodir.pipeline import Restorer
from autodir.synthesis.operators import quantize_8bit
from autodir.training.batches import Batches
from autodir.training.data import PairPool, PhotoPool
from autodir.training.losses import decibels_gained

RESULTS = Path(__file__).resolve().parent / "results"
SIDE = 256
SCALE = (0.15, 0.7)
"""Most of a scene is in each of the photos."""
SEVERAL = "several"
"""Two or three degradations, of which the main one is to be repaired."""
PARTS: Mapping[str, Mapping[str, bool]] = {
    "diffusion": {"correction": False}, "correction": {"diffusion": False}, "both": {},
}  # fmt: skip
DRAWN = 4

Gains = dict[str, list[float]]


def gains(restorer: Restorer, batches: Batches, key: str, count: int, seed: int = 0) -> Gains:
    """Decibels gained on photos with one degradation, or with `SEVERAL`, by part.

    Args:
        restorer: whose parts are asked, with the true label.
        batches: held-out photos and pairs.
        key: a degradation, or `SEVERAL`.
        count: photos, rounded up to a whole batch.
        seed: of the photos, the degradations and the samples.
    """
    source = batches.with_share((0, 1, 0)) if key == SEVERAL else batches.alone(key)
    generator, found = torch.Generator().manual_seed(seed), {part: list[float]() for part in PARTS}
    while len(found["both"]) < count:
        drawn = source.draw(DRAWN, SIDE, generator, scale=SCALE)
        for index, label in enumerate(drawn.label.tolist()):
            photo = quantize_8bit(drawn.degraded[index : index + 1])
            target = drawn.target[index : index + 1]
            for part, how in PARTS.items():
                result = restorer.apply_parts(photo, batches.taxonomy.keys[label], seed=seed, **how)
                found[part].append(float(decibels_gained(photo, result.cpu(), target, 1e-10)))
    return found


def rows_of(found: Mapping[str, Gains]) -> list[list[str]]:
    """The cells of the table; the last one is what the diffusion adds, with its interval."""
    rows = []
    for key, parts in found.items():
        added = [
            both - alone for both, alone in zip(parts["both"], parts["correction"], strict=True)
        ]
        low, high = bootstrap_interval(added) or (float("nan"),) * 2
        rows.append([
            key.replace("_", " "), str(len(added)),
            *(f"{mean(parts[part]):+.2f}" for part in PARTS),
            f"{mean(added):+.2f} ({low:+.2f}…{high:+.2f})",
        ])  # fmt: skip
    return rows


def report(found: Mapping[str, Gains], restorer: Restorer) -> dict[str, Any]:
    """The result file: every gain, and the table."""
    return {
        "schema": SCHEMA,
        "suite": "parts",
        "title": "What each part adds",
        "kind": "parts",
        "model": dict(restorer.info),
        "circumstances": circumstances(),
        "columns": [
            "degradation", "photos", "diffusion alone", "correction alone", "both",
            "the diffusion adds (95 %)",
        ],
        "rows": rows_of(found),
        "gains": {key: {part: [round(one, 4) for one in each] for part, each in parts.items()}
                  for key, parts in found.items()},
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts, print the table, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="holds train/ and pairs/")
    parser.add_argument("--model", default="small")
    parser.add_argument("--photos", type=int, default=128, help="of each degradation")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    restorer = Restorer.from_pretrained(options.model, device="cpu", threads=options.threads)
    batches = Batches(
        PhotoPool(options.data / "train", held_out=True),
        PairPool(options.data / "pairs", held_out=True),
        restorer.taxonomy,
    )
    found: dict[str, Gains] = {}
    for key in (*batches.keys, SEVERAL):
        found[key] = gains(restorer, batches, key, options.photos)
        print("  ".join(rows_of({key: found[key]})[0]), flush=True)
    result = report(found, restorer)
    write_result(result, result_path(options.out, result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
