"""What tiles cost and whether they show: differences from the untiled result, and peak memory.

Differences are taken on a photo of which both the whole and the tiles fit, with tiles so small that
there are many borders; memory on 4000×3000 pixels, in a process of its own, because a peak can only
be read once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from autodir.config import RestoreOptions
from autodir.diffusion.tiled import decode_tiled, encode_tiled, reach
from autodir.errors import ConfigError
from autodir.evaluation.provenance import circumstances, peak_memory
from autodir.evaluation.suite import SCHEMA, result_path, write_result
from autodir.imaging.tiles import cores, grid
from autodir.records import Image, Mixture, NoiseSource

RESULTS = Path(__file__).resolve().parents[1] / "results"
SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "rainy-rocket.jpg"
LEVEL = 255
"""Differences are told in levels of an 8-bit picture."""
_MEBI = 1 << 20


def sample_photo(height: int, width: int, path: Path = SAMPLE) -> Tensor:
    """A real photo (1, 3, H, W) in [0, 1], resized."""
    with PIL.Image.open(path) as photo:
        resized = photo.convert("RGB").resize((width, height), PIL.Image.Resampling.BICUBIC)
        return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)[None].float() / LEVEL


def borders(
    size: tuple[int, int], tile: int, context: int, align: int = 1
) -> tuple[list[int], ...]:
    """Rows and columns of an image at which a part of it begins, the first ones left out."""
    parts = cores(size, tile, context, align)
    rows = sorted({part.inner.top for part in parts} - {0})
    return rows, sorted({part.inner.left for part in parts} - {0})


def differences(whole: Tensor, tiled: Tensor, at: tuple[Sequence[int], ...]) -> dict[str, float]:
    """How far two results differ, and how much steeper one of them is across the borders.

    Args:
        whole: (1, 3, H, W) in [0, 1].
        tiled: the same shape.
        at: rows and columns that are the first of a tile.

    Returns:
        Levels of 255: the largest and the mean difference, the largest in the two pixels at each
        side of a border, and the largest step that the tiles add across a border.
    """
    error = (tiled - whole).abs() * LEVEL
    near, steps = [0.0], [0.0]
    for axis, places in zip((-2, -1), at, strict=True):
        for place in places:
            near.append(float(error.narrow(axis, place - 2, 4).amax()))
            step = (tiled - whole).narrow(axis, place - 1, 2).diff(dim=axis).abs()
            steps.append(float(step.amax()) * LEVEL)
    return {
        "largest": float(error.amax()),
        "mean": float(error.mean()),
        "at_borders": max(near),
        "step": max(steps),
    }


def compare(
    restorer: Any, pixels: Tensor, degradation: str, tile: int
) -> dict[str, dict[str, float]]:
    """Whole against tiles for the autoencoder, the correction and the sampling.

    Args:
        restorer: the model.
        pixels: (1, 3, H, W) in [0, 1], sides multiples of what the networks need.
        degradation: what is repaired.
        tile: side in pixels of all tiles; those of the sampling overlap by half of it.
    """
    diffusion, scm, size = restorer.diffusion, restorer.corrector, _size(pixels)
    network, factor = diffusion.autoencoder, diffusion.autoencoder.factor
    reaches = reach(network.config)
    mixture = Mixture(phrases=(restorer.taxonomy.prompt(degradation),), weights=(1.0,))
    text = diffusion.phrases.mixture(mixture)
    whole = network.encode(pixels)
    tiled = encode_tiled(network, pixels, tile)
    found = {
        "encoder": differences(
            network.decode(whole), network.decode(tiled), borders(size, tile, reaches[0], factor)
        )
    }
    small = borders(_size(whole), tile // factor, reaches[1])
    found["decoder"] = differences(
        network.decode(whole),
        decode_tiled(network, whole, tile // factor),
        tuple([place * factor for place in side] for side in small),
    )
    usual = scm.tile, scm.overlap
    scm.tile = max(size) + 1
    with scm.network.local_statistics(scm.window):  # those that tiles have
        corrected = scm.correct(pixels, pixels, text)
    scm.tile, scm.overlap = tile, 0
    cells = scm.network.grid(scm.window)
    found["correction"] = differences(
        corrected,
        scm.correct(pixels, pixels, text),
        borders(size, -(-tile // cells) * cells, 0, cells),
    )
    scm.tile, scm.overlap = usual
    conditioning = diffusion.condition(pixels, mixture, max_pixels=size[0] * size[1])
    side = tile // diffusion.multiple * (diffusion.multiple // factor)
    sampled = [diffusion.sample(conditioning, NoiseSource(0), tile=one) for one in (None, side)]
    windows = grid(_size(whole), side, side // 2)
    places = tuple(
        sorted({edge * factor for edge in edges} - {0, length})
        for edges, length in (
            ([n for w in windows for n in (w.top, w.top + w.height)], size[0]),
            ([n for w in windows for n in (w.left, w.left + w.width)], size[1]),
        )
    )
    found["sampling"] = differences(sampled[0], sampled[1], places)
    return found


def _size(x: Tensor) -> tuple[int, int]:
    return int(x.shape[-2]), int(x.shape[-1])


def measure_large(
    model: str, size: tuple[int, int], latents: tuple[int, int], degradation: str, threads: int
) -> dict[str, Any]:
    """One round on a large photo in tiles, in this process."""
    from autodir.pipeline import Restorer  # the parent process opens its own

    restorer = Restorer.from_pretrained(model, device="cpu", threads=threads)
    loaded = peak_memory()
    pixels = sample_photo(*size)[0]
    pixels += torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    options = RestoreOptions(
        max_steps=1, only=(degradation,), tile=latents[0], tile_overlap=latents[1]
    )
    started = time.perf_counter()
    with torch.inference_mode():
        done = restorer.restore(Image(pixels=pixels.clamp_(0, 1)), options)
    if not done.report.steps:
        raise ConfigError(
            f"the model sees no {degradation} in the test photo, so there was no round",
            "name another --degradation",
        )
    return {
        "size": list(size),
        "seconds": time.perf_counter() - started,
        "loaded_memory_bytes": loaded,
        "peak_memory_bytes": peak_memory(),
    }


def tabulate(
    found: Mapping[str, Mapping[str, float]], large: Mapping[str, Any] | None
) -> dict[str, Any]:
    """One row for each part; the last one is the memory of the large photo."""
    names = ("largest", "mean", "at_borders", "step")
    rows = [[part, *(f"{values[name]:.4f}" for name in names)] for part, values in found.items()]
    columns = ["of 255", "largest difference", "mean", "at borders", "step added at borders"]
    notes = [
        "Tiled against whole on the same photo. The sampling is a chain of blended tiles, of which "
        "the whole is not the truth: it is reported, not bounded."
    ]
    if large is not None:
        height, width = large["size"]
        peak = (large["peak_memory_bytes"] or 0) / _MEBI
        notes.append(
            f"One round on {width}×{height} in tiles: {large['seconds']:.0f} s, "
            f"peak memory of the process {peak:.0f} MiB."
        )
    return {"columns": columns, "rows": rows, "notes": notes, "parts": dict(found), "large": large}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description="Tiles against the whole, and peak memory.")
    parser.add_argument("--model", default="small")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--degradation", default="noise")
    parser.add_argument("--size", type=int, nargs=2, default=(768, 1024), metavar=("H", "W"))
    parser.add_argument("--large", type=int, nargs=2, default=(3000, 4000), metavar=("H", "W"))
    parser.add_argument("--tile", type=int, default=256, help="pixels, for the differences")
    parser.add_argument(
        "--latents", type=int, nargs=2, default=(64, 32), metavar=("SIDE", "OVERLAP")
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    latents, large = tuple(options.latents), tuple(options.large)
    if options.one:
        one = measure_large(options.model, large, latents, options.degradation, options.threads)
        print(json.dumps(one))
        return 0
    command = [sys.executable, __file__, "--one", "--model", options.model]
    command += ["--threads", str(options.threads), "--degradation", options.degradation]
    command += ["--large", *map(str, large), "--latents", *map(str, latents)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    from autodir.pipeline import Restorer  # after the child: both at once would need twice as much

    restorer = Restorer.from_pretrained(options.model, device="cpu", threads=options.threads)
    pixels = sample_photo(*options.size)
    with torch.inference_mode():
        found = compare(restorer, pixels, options.degradation, options.tile)
    table = tabulate(found, json.loads(done.stdout.splitlines()[-1]))
    result = {
        "schema": SCHEMA,
        "suite": "speed_tiles",
        "title": "Tiles against the whole",
        "kind": "speed",
        "model": dict(restorer.info),
        "circumstances": circumstances(),
        "size": list(options.size),
        "tile": options.tile,
        "latents": list(latents),
        **table,
    }
    write_result(result, result_path(options.out, result))
    for row in table["rows"]:
        print("  ".join(row))
    print(table["notes"][-1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
