"""Where a degradation is: photos of which one half is degraded, and how well the half is found."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autodir.evaluation.aggregate import bootstrap_interval
from autodir.evaluation.provenance import circumstances
from autodir.evaluation.suite import SCHEMA, result_path, write_result
from autodir.pipeline import Restorer
from autodir.records import Image
from autodir.synthesis.specification import Specification, degrade
from autodir.training.data import PhotoPool

RESULTS = Path(__file__).resolve().parent / "results"


def half_degraded(photo: Tensor, key: str, severity: float, seed: int) -> tuple[Tensor, Tensor]:
    """A photo (1, 3, H, W) with one half degraded, and the mask (H, W) of that half."""
    wanted = [Specification(key=key, severity=severity)]
    degraded, _ = degrade(photo, wanted, seed)
    height, width = photo.shape[-2:]
    mask = torch.zeros(height, width, dtype=torch.bool)
    rows = slice(0, height // 2) if seed % 4 == 0 else slice(height // 2, None)
    columns = slice(0, width // 2) if seed % 4 == 1 else slice(width // 2, None)
    if seed % 4 in (0, 3):
        mask[rows] = True
    else:
        mask[:, columns] = True
    return torch.where(mask, degraded, photo), mask


def overlap(found: Tensor, mask: Tensor) -> float:
    """Intersection over union of two masks of one size."""
    union = int((found | mask).sum())
    return float((found & mask).sum()) / union if union else 1.0


Overlaps = dict[str, list[float]]


def measure(restorer: Restorer, photos: Sequence[Tensor], severity: float) -> Overlaps:
    """The overlap of each photo by degradation; the border is that of ``--only-where-needed``."""
    found: Overlaps = {degradation.key: [] for degradation in restorer.taxonomy}
    for seed, photo in enumerate(photos):
        for key, overlaps in found.items():
            half, mask = half_degraded(photo, key, severity, seed)
            where = restorer.maps(Image(pixels=half[0]))[key].where()
            overlaps.append(overlap(where > 0.5, mask))
    return found


def report(found: Overlaps, model: dict[str, Any], severity: float) -> dict[str, Any]:
    """The result file: every overlap, and a table of the means."""
    everything = [one for overlaps in found.values() for one in overlaps]
    rows = []
    for key, overlaps in [*found.items(), ("all", everything)]:
        mean, interval = sum(overlaps) / len(overlaps), bootstrap_interval(overlaps)
        told = "" if interval is None else f"{interval[0]:.2f}…{interval[1]:.2f}"
        rows.append([key, str(len(overlaps)), f"{mean:.3f}", told])
    return {
        "schema": SCHEMA,
        "suite": "maps",
        "title": "Half-degraded photos",
        "kind": "maps",
        "model": model,
        "severity": severity,
        "circumstances": circumstances(),
        "columns": ["degradation", "photos", "IoU", "95 %"],
        "rows": rows,
        "overlaps": found,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Degrade halves of held-out photos, find them, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean photos")
    parser.add_argument("--model", default="small")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--side", type=int, default=384)
    parser.add_argument("--severity", type=float, default=0.7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    pool = PhotoPool(options.data, held_out=True, limit=options.photos)
    generator = torch.Generator().manual_seed(0)
    photos = [pool.crops(1, options.side, generator) for _ in range(options.photos)]
    restorer = Restorer.from_pretrained(options.model)
    found = measure(restorer, photos, options.severity)
    result = report(
        found, {key: str(value) for key, value in restorer.info.items()}, options.severity
    )
    write_result(result, result_path(options.out, result))
    for row in result["rows"]:
        print("  ".join(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
