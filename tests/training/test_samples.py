"""A sheet has one row of pictures for each tensor."""

from pathlib import Path

import PIL.Image
import torch

from autodir.training.samples import save_sheet


def test_sheet_shows_the_rows_from_the_top(tmp_path: Path) -> None:
    rows = [torch.zeros(3, 3, 8, 8), torch.full((3, 3, 8, 8), 1.5)]
    save_sheet(rows, tmp_path / "sheet.png")
    with PIL.Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * (8 + 2) + 2, 2 * (8 + 2) + 2)
        assert sheet.getpixel((5, 5)) == (0, 0, 0)
        assert sheet.getpixel((5, 15)) == (255, 255, 255)
