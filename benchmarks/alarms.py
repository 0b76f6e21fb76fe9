"""False alarms by kind, and what is said of pictures that no degradation describes.

Apart from the suites because nothing is repaired: ``python benchmarks/alarms.py --data
../shared/data``. The photos are the clean ones of the test sets. Of each it is asked whether the
first look leaves it alone: as it is, encoded, resized, and turned into what the model does not
know. The last rows are for those that look most like a degradation without being one.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PillowImage
from PIL import ImageDraw
from torch import Tensor
from torch.nn import functional

from autodir.evaluation.datasets import SetSpec, data_root, load_set
from autodir.evaluation.provenance import circumstances
from autodir.evaluation.suite import SCHEMA, result_path, write_result
from autodir.evaluation.systems import Repairer
from autodir.imaging.color import luma
from autodir.pipeline import Restorer
from autodir.records import Image
from autodir.synthesis.codec import jpeg
from autodir.synthesis.filters import gaussian
from autodir.synthesis.operators import quantize_8bit

RESULTS = Path(__file__).resolve().parent / "results"
FOLDERS = ("CBSD68", "Kodak24", "McMaster")
EXTREME = 0.2
"""Share of the photos that is taken for the most extreme ones of a kind."""


def _encoded(quality: int) -> Callable[[Tensor, torch.Generator], Tensor]:
    return lambda photo, _: jpeg(photo[0], quality)[None]


def _resized(factor: float) -> Callable[[Tensor, torch.Generator], Tensor]:
    def change(photo: Tensor, _: torch.Generator) -> Tensor:
        size = [max(32, round(side * factor)) for side in photo.shape[-2:]]
        return functional.interpolate(photo, size, mode="bicubic", antialias=True).clamp(0, 1)

    return change


def _film_grain(photo: Tensor, generator: torch.Generator) -> Tensor:
    """Fine gray grain as of a slow film: deviation 2.5 of 255 in the middle tones."""
    grain = torch.randn(1, 1, *photo.shape[-2:], generator=generator)
    grain = gaussian(grain, torch.tensor([0.6]))
    tone = luma(photo)
    return (photo + grain / grain.std() * 0.01 * 4 * tone * (1 - tone)).clamp(0, 1)


def _gray(photo: Tensor, _: torch.Generator) -> Tensor:
    return luma(photo).expand_as(photo)


def _sepia(photo: Tensor, _: torch.Generator) -> Tensor:
    return (luma(photo) * torch.tensor([1.0, 0.82, 0.6]).view(1, 3, 1, 1)).clamp(0, 1)


def _vignette(photo: Tensor, _: torch.Generator) -> Tensor:
    y, x = (torch.linspace(-1, 1, side) for side in photo.shape[-2:])
    return photo * (1 - 0.35 * (y.square()[:, None] + x.square()[None]) / 2)


def _scratched(photo: Tensor, generator: torch.Generator) -> Tensor:
    """Eight bright scratches from top to bottom, as on a print."""
    result, (height, width) = photo.clone(), photo.shape[-2:]
    for start, drift in torch.rand(8, 2, generator=generator).tolist():
        rows = torch.arange(height)
        columns = (start * width + (drift - 0.5) * 0.2 * rows).long().clamp(0, width - 1)
        result[..., rows, columns] = 0.95
    return result


def _drawing(photo: Tensor, _: torch.Generator) -> Tensor:
    """Dark outlines on paper."""
    smooth = gaussian(luma(photo), torch.tensor([1.5]))
    across = functional.pad(smooth.diff(dim=-1), (0, 1)).abs()
    down = functional.pad(smooth.diff(dim=-2), (0, 0, 0, 1)).abs()
    return (1 - (25 * (across + down)).clamp(0, 1)).expand_as(photo)


def _screenshot(photo: Tensor, _: torch.Generator) -> Tensor:
    """A window with lines of text, and the photo in a corner of it."""
    height, width = photo.shape[-2:]
    page = PillowImage.new("RGB", (width, height), (250, 250, 252))
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, width, 22), fill=(60, 90, 160))
    draw.text((8, 5), "Report - Editor", fill=(255, 255, 255))
    for row, top in enumerate(range(32, height - 12, 16)):
        line = f"{row:3d}  The quick brown fox jumps over the lazy dog, {row * row} times in all."
        draw.text((10, top), line, fill=(30, 30, 30))
    array = torch.frombuffer(bytearray(page.tobytes()), dtype=torch.uint8)
    shown = array.view(height, width, 3).permute(2, 0, 1)[None].float() / 255
    corner = functional.avg_pool2d(photo, 2)
    shown[..., -corner.shape[-2] - 10 : -10, -corner.shape[-1] - 10 : -10] = corner
    return shown


Change = Callable[[Tensor, torch.Generator], Tensor]
CLEAN: Mapping[str, Change] = {
    "as it is": lambda photo, _: photo,
    "JPEG of quality 95": _encoded(95),
    "JPEG of quality 85": _encoded(85),
    "three quarters of the size": _resized(0.75),
    "half the size": _resized(0.5),
    "black and white": _gray,
    "film grain": _film_grain,
}
OPEN: Mapping[str, Change] = {
    "sepia": _sepia, "vignette": _vignette, "scratches": _scratched, "drawing": _drawing,
    "screenshot": _screenshot,
}  # fmt: skip
EXTREMES: Mapping[str, Callable[[Tensor], float]] = {
    "darkest scenes": lambda photo: -float(luma(photo).mean()),
    "gray and pale scenes": lambda photo: float(photo.amin(1).mean()),
    "smoothest scenes": lambda photo: -float(luma(photo).diff(dim=-1).abs().mean()),
    "most detailed scenes": lambda photo: float(luma(photo).diff(dim=-1).abs().mean()),
}
"""Photos as they are; of each kind, the share `EXTREME` for which the figure is largest."""


def alarms(restorer: Repairer, photos: Sequence[Tensor], seed: int = 0) -> dict[str, list[str]]:
    """What the first look names in each photo, by kind; the empty string where it finds nothing."""
    named: dict[str, list[str]] = {}
    for kind, change in {**CLEAN, **OPEN}.items():
        for index, photo in enumerate(photos):
            generator = torch.Generator().manual_seed(seed + index)
            with torch.inference_mode():
                seen = quantize_8bit(change(photo, generator))
                found = restorer.diagnose(Image(pixels=seen[0]))
            named.setdefault(kind, []).append("" if found.main is None else found.main.key)
    count = max(1, round(EXTREME * len(photos)))
    for kind, figure in EXTREMES.items():
        order = sorted(range(len(photos)), key=lambda index: figure(photos[index]), reverse=True)
        named[kind] = [named["as it is"][index] for index in order[:count]]
    return named


def rows_of(named: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The cells of the table: kind, pictures, share left alone, what was named how often."""
    rows = []
    for kind, names in named.items():
        counts = Counter(name for name in names if name)
        said = ", ".join(f"{key} {count}" for key, count in counts.most_common())
        alone = f"{sum(not name for name in names) / len(names):.1%}"
        rows.append([kind, str(len(names)), alone, said or "·"])
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds eval/")
    parser.add_argument("--model", default="small")
    parser.add_argument("--limit", type=int, default=None, help="photos of each folder")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    restorer = Restorer.from_pretrained(options.model)
    spec = SetSpec(name="clean", folders=FOLDERS)
    photos = [case.input for case in load_set(spec, data_root(options.data), 0, options.limit)]
    named = alarms(restorer, photos)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "suite": "alarms",
        "title": "False alarms by kind",
        "kind": "speed",
        "limit": options.limit,
        "model": dict(restorer.info),
        "circumstances": circumstances(),
        "columns": ["kind", "pictures", "left alone", "named in the others"],
        "rows": rows_of(named),
        "notes": [
            "Clean photos of the test sets. From *sepia* to *screenshot*: pictures that no "
            "degradation describes. The last rows are fifths of the photos as they are."
        ],
    }
    write_result(result, result_path(options.out, result))
    for row in result["rows"]:
        print("  ".join(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
