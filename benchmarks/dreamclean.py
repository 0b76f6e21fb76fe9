"""What γ buys and costs: DreamClean on degraded photos, ``python benchmarks/dreamclean.py DIR``.

Apart from the suites because it measures one sampler alone: no diagnosis, no correction, no guard.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from autodir.checkpoint import info, load_model
from autodir.diffusion.dreamclean import DreamClean
from autodir.diffusion.model import LatentDiffusion
from autodir.evaluation.metrics import psnr
from autodir.evaluation.provenance import circumstances
from autodir.evaluation.suite import SCHEMA, result_path, write_result
from autodir.imaging.io import read
from autodir.records import Mixture, NoiseSource
from autodir.synthesis.specification import degrade, parse_degradation
from autodir.techniques import TechniqueOptions
from autodir.training.data import SUFFIXES

RESULTS = Path(__file__).resolve().parent / "results"
BLIND = Mixture(phrases=("A photo",), weights=(1.0,))
"""Any phrase will do: this sampler hears none."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="DreamClean's fidelity against gamma.")
    parser.add_argument("photos", type=Path, help="folder of clean photos")
    parser.add_argument("--with", dest="chain", default="noise:sigma=25", help="the degradation")
    parser.add_argument("--gammas", type=float, nargs="+", default=[0, 0.02, 0.05, 0.1, 0.3, 1])
    parser.add_argument("--depth", type=float, default=0.2, help="tau / T")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--limit", type=int, default=4, help="at most so many photos")
    parser.add_argument("--side", type=int, default=128, help="side of the central crop")
    parser.add_argument("--model", default="small")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder, or a .json file")
    return parser.parse_args(arguments)


def measure(
    diffusion: LatentDiffusion, pairs: Sequence[tuple[Tensor, Tensor]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row for each γ: PSNR to the clean and to the degraded photo, in dB, and the seconds."""
    rows = []
    for gamma in options.gammas:
        settings = TechniqueOptions(gamma=gamma, inversion_depth=options.depth)
        to_clean, to_input, begun = list[float](), list[float](), time.perf_counter()
        for clean, degraded in pairs:
            result = diffusion.sample(
                diffusion.condition(degraded, BLIND), NoiseSource(0),
                sampler="dreamclean", steps=options.steps, techniques=settings,
            )  # fmt: skip
            to_clean.append(psnr(result, clean))
            to_input.append(psnr(result, degraded))
        rows.append({
            "gamma": gamma,
            "kept": (1 - gamma) ** options.steps,
            "psnr_to_clean": statistics.mean(to_clean),
            "psnr_to_input": statistics.mean(to_input),
            "evaluations": DreamClean(gamma=gamma).evaluations(options.steps),
            "seconds": (time.perf_counter() - begun) / len(pairs),
        })  # fmt: skip
    return rows


def pairs_of(options: argparse.Namespace) -> list[tuple[Tensor, Tensor]]:
    """Central crops and their degraded copies, (1, 3, S, S) each."""
    files = sorted(p for p in options.photos.rglob("*") if p.suffix.lower() in SUFFIXES)
    pairs = []
    for seed, path in enumerate(files[: options.limit]):
        pixels = read(path, 10**9).pixels
        side = min(options.side, *pixels.shape[-2:])
        top, left = ((size - side) // 2 for size in pixels.shape[-2:])
        clean = pixels[None, :, top : top + side, left : left + side]
        pairs.append((clean, degrade(clean, [parse_degradation(options.chain)], seed)[0]))
    return pairs


def report(
    rows: Sequence[dict[str, Any]], before: float, options: argparse.Namespace
) -> dict[str, Any]:
    """The result file: the table, and every figure behind it."""
    about = info(options.model)
    note = (
        f"{options.chain}, {options.limit} photos cut to {options.side}², input {before:.2f} dB; "
        f"{options.steps} levels from {options.depth:g} of the chain, the U-Net hears nothing of "
        "photo or prompt."
    )
    return {
        "schema": SCHEMA,
        "suite": "dreamclean",
        "title": "What γ buys and costs",
        "kind": "speed",
        "model": {"name": about.name, "sha256": about.sha256},
        "circumstances": circumstances(),
        "columns": ["γ", "old noise kept", "PSNR to clean", "PSNR to input", "evaluations", "s"],
        "rows": [
            [
                f"{row['gamma']:g}", f"{row['kept']:.3f}", f"{row['psnr_to_clean']:.2f}",
                f"{row['psnr_to_input']:.2f}", str(row["evaluations"]), f"{row['seconds']:.2f}",
            ]
            for row in rows
        ],
        "notes": [note],
        "input_psnr": before,
        "figures": list(rows),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 where it ended."""
    options = parse(arguments)
    pairs = pairs_of(options)
    diffusion = load_model(options.model).latent_diffusion()
    before = statistics.mean(psnr(degraded, clean) for clean, degraded in pairs)
    rows = measure(diffusion, pairs, options)
    print(f"{options.chain}, {len(pairs)} photos, input {before:.2f} dB, depth {options.depth}")
    result = report(rows, before, options)
    write_result(result, result_path(options.out, result))
    for cells in result["rows"]:
        print("  ".join(cells))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
