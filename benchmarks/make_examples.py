"""Make ``examples/`` from public-domain photos: ``python benchmarks/make_examples.py``.

Apart so that every sample can be made again, bit for bit, and its degradation is known. With
``--sheet`` it repairs them instead and writes the before/after picture that the README shows.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data as photos
from torch import Tensor

from autodir import Restorer
from autodir.synthesis.recipe import apply

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SHEET = EXAMPLES / "before-after.jpg"
MARGIN = 8


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A file of ``examples/`` and how it came about.

    Attributes:
        name: the stem of the file.
        photo: the name of the source in ``skimage.data``.
        degradation: a key of the taxonomy, or None for a photo that is left as it is.
        severity: how strong, in [0, 1].
        seed: of the degradation.
        fixed: parameters of the degradation that are not drawn.
    """

    name: str
    photo: str
    degradation: str | None
    severity: float = 0.0
    seed: int = 0
    fixed: Mapping[str, float | str] | None = None


SAMPLES = (
    Sample(name="noisy-cat", photo="chelsea", degradation="noise", severity=0.4, seed=1),
    Sample(
        name="rainy-rocket",
        photo="rocket",
        degradation="rain",
        severity=0.6,
        seed=2,
        fixed={"style": "fine"},
    ),
    Sample(name="dark-coffee", photo="coffee", degradation="underexposure", severity=0.6, seed=3),
    Sample(name="hazy-astronaut", photo="astronaut", degradation="haze", severity=0.6, seed=4),
    Sample(name="shaken-astronaut", photo="astronaut", degradation="blur", severity=0.4, seed=7),
    Sample(name="wet-rocket", photo="rocket", degradation="raindrop", severity=0.85, seed=3),
    Sample(name="clean-cat", photo="chelsea", degradation=None),
)


def make(sample: Sample) -> Image.Image:
    """The sample as 8-bit RGB."""
    clean = _to_tensor(getattr(photos, sample.photo)())
    if sample.degradation is None:
        return _to_picture(clean)
    generator = torch.Generator().manual_seed(sample.seed)
    degraded, _ = apply(sample.degradation, clean, sample.severity, generator, sample.fixed)
    return _to_picture(degraded)


def make_sheet(model: str) -> Image.Image:
    """Degraded samples in the upper row, what autodir makes of them in the lower, equally high."""
    restorer = Restorer.from_pretrained(model)
    columns: list[tuple[Image.Image, Image.Image]] = []
    for sample in (sample for sample in SAMPLES if sample.degradation is not None):
        path = EXAMPLES / f"{sample.name}.jpg"
        repaired = _to_picture(restorer.restore(path).image.pixels[None])
        with Image.open(path) as opened:
            columns.append((_at_height(opened, 240), _at_height(repaired, 240)))
    width = sum(column[0].width for column in columns) + MARGIN * (len(columns) - 1)
    height = sum(picture.height for picture in columns[0]) + MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    left = 0
    for before, after in columns:
        sheet.paste(before, (left, 0))
        sheet.paste(after, (left, before.height + MARGIN))
        left += before.width + MARGIN
    return sheet


def main() -> None:
    """Write the samples, or the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sheet", action="store_true", help="repair the samples and show them")
    parser.add_argument("--model", default="small", help="model name or folder, for --sheet")
    arguments = parser.parse_args()
    if arguments.sheet:
        make_sheet(arguments.model).save(SHEET, quality=78, optimize=True)
        print(SHEET)
        return
    for sample in SAMPLES:
        path = EXAMPLES / f"{sample.name}.jpg"
        make(sample).save(path, quality=95, subsampling=0, optimize=True)
        print(f"{path}  {path.stat().st_size // 1024} KB")


def _to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def _to_picture(image: Tensor) -> Image.Image:
    rounded = (image[0].clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(rounded.permute(1, 2, 0).cpu().numpy())


def _at_height(picture: Image.Image, height: int) -> Image.Image:
    width = round(picture.width * height / picture.height)
    return picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
