"""Make a picture sheet of a suite: input, result and target side by side, one row for each picture.

Apart from the tables because figures can hide what an eye sees at once.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from autodir.evaluation.datasets import data_root, load_set
from autodir.evaluation.metrics import measure
from autodir.evaluation.plan import check_systems, load_suite
from autodir.evaluation.systems import MODEL_FREE, SYSTEMS, TITLES, Repairer

_MARGIN = 6
_TEXT = 15
_PAPER = (255, 255, 255)
_INK = (20, 20, 20)

_log = logging.getLogger("sheet")


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A picture (1, 3, H, W) in [0, 1] and the words below it."""

    image: Tensor
    caption: str


def panels(
    suite: Path | str,
    data: Path | None,
    restorer: Repairer | None,
    *,
    systems: Sequence[str],
    limit: int,
) -> Iterator[list[Panel]]:
    """One row for each case: the input, each system's result, the target."""
    plan, root = load_suite(suite), data_root(data)
    for spec in plan.sets:
        for case in load_set(spec, root, plan.seed, limit):
            row = [Panel(image=case.input, caption=f"{spec.name}: {case.name}")]
            for name in check_systems(systems):
                with torch.inference_mode():
                    answer = SYSTEMS[name](restorer, case, plan.seed)  # type: ignore[arg-type]
                words = [TITLES[name], " ".join(answer.treated) or "nothing done"]
                if case.target is not None:
                    before = measure(case.input, case.target, case.protocol).psnr
                    after = measure(answer.image, case.target, case.protocol).psnr
                    words.append(f"{before:.2f} > {after:.2f} dB")
                row.append(Panel(image=answer.image, caption=", ".join(words)))
            if case.target is not None:
                row.append(Panel(image=case.target, caption="target"))
            _log.info("%s", case.name)
            yield row


def draw(rows: Iterable[Sequence[Panel]], height: int) -> Image.Image:
    """Lay rows of panels out on paper, each picture ``height`` pixels high."""
    drawn = [[_thumbnail(panel, height) for panel in row] for row in rows]
    widths = [sum(image.width + _MARGIN for image in row) + _MARGIN for row in drawn]
    step = height + _TEXT + 2 * _MARGIN
    sheet = Image.new("RGB", (max(widths, default=1), step * len(drawn) + _MARGIN), _PAPER)
    for index, row in enumerate(drawn):
        left = _MARGIN
        for image in row:
            sheet.paste(image, (left, index * step + _MARGIN))
            left += image.width + _MARGIN
    return sheet


def _thumbnail(panel: Panel, height: int) -> Image.Image:
    samples = panel.image[0].clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)
    picture = Image.fromarray(samples.cpu().contiguous().numpy())
    width = max(round(picture.width * height / picture.height), 1)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    framed = Image.new("RGB", (width, height + _TEXT), _PAPER)
    framed.paste(picture, (0, 0))
    font = ImageFont.load_default(size=11)
    ImageDraw.Draw(framed).text((0, height + 1), panel.caption, fill=_INK, font=font)
    return framed


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the sheet named on the command line."""
    parser = argparse.ArgumentParser(description="Draw input, result and target side by side.")
    parser.add_argument("suite")
    parser.add_argument("output", type=Path, help="the JPEG to write")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--systems", default="whole", help="comma-separated")
    parser.add_argument("--limit", type=int, default=1, help="pictures of each folder")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--model", default="small")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    systems = options.systems.split(",")
    restorer: Repairer | None = None
    if not MODEL_FREE.issuperset(check_systems(systems)):
        from autodir.pipeline import Restorer  # a sheet of classical tools needs no model

        restorer = Restorer.from_pretrained(options.model, threads=options.threads)
    rows = panels(options.suite, options.data, restorer, systems=systems, limit=options.limit)
    sheet = draw(rows, options.height)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.output, "JPEG", quality=88)
    return 0


if __name__ == "__main__":
    sys.exit(main())
