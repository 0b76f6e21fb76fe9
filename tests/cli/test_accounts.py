"""``--report``: a page about every photo of a run, whatever became of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
import torch

from autodir.batch.isolation import Decoder
from autodir.batch.local import Source
from autodir.cli.accounts import Accounts, facts_of
from autodir.cli.inputs import Input
from autodir.errors import ConfigError
from autodir.imaging.io import read
from autodir.imaging.photo import Photo
from autodir.records import ImageMetadata

Run = Callable[..., int]

pytestmark = pytest.mark.usefixtures("restorer")


def states(page: Path) -> dict[str, str]:
    text = page.read_text(encoding="utf-8")
    return dict(re.findall(r'data-name="([^"]*)" data-state="(\w+)"', text))


def test_every_photo_of_a_repair_is_on_the_page(run: Run, dark: Path, good: Path) -> None:
    dark.with_name("bad.png").write_bytes(b"")
    assert run("fix", ".", "-o", "out", "--report", "r.html", "--quiet") == 1
    page = dark.with_name("r.html")
    assert states(page) == {"bad.png": "failed", "dark.png": "repaired", "good.jpg": "clean"}
    text = page.read_text(encoding="utf-8")
    assert text.count("<img") == 4
    for words in ("underexposure", "it is brighter", "16 × 12", "PNG RGB, 8 bit", "ab12"):
        assert words in text
    assert list(dark.parent.glob(".autodir-*")) == []


def test_a_resumed_run_shows_what_an_earlier_one_has_done(run: Run, dark: Path, good: Path) -> None:
    assert run("fix", ".", "-o", "out", "--quiet") == 0
    assert run("fix", ".", "-o", "out", "--resume", "--report", "r.html", "--quiet") == 0
    page = dark.with_name("r.html")
    assert states(page) == {"dark.png": "repaired", "good.jpg": "clean"}
    assert page.read_text(encoding="utf-8").count("<img") == 4


def test_skipped_photos_are_on_the_page(run: Run, dark: Path) -> None:
    for _ in range(2):
        assert run("fix", "dark.png", "--skip-existing", "--report", "r.html", "--quiet") == 0
    assert states(dark.with_name("r.html")) == {"dark.png": "skipped"}


def test_a_diagnosis_has_a_page_too(run: Run, dark: Path, good: Path) -> None:
    dark.with_name("bad.png").write_bytes(b"")
    assert run("diagnose", ".", "--report", "r.html", "--quiet") == 1
    page = dark.with_name("r.html")
    assert states(page) == {"bad.png": "failed", "dark.png": "degraded", "good.jpg": "clean"}


def test_a_page_is_named_html_before_any_work(run: Run, dark: Path) -> None:
    assert run("fix", "dark.png", "--report", "r.pdf") == 2
    assert not dark.with_name("dark.restored.png").exists()


def test_thumbnails_shrink_as_photos_become_many(tmp_path: Path, good: Path) -> None:
    with pytest.raises(ConfigError):
        Accounts(3, tmp_path / "page", {}, 10**6)
    PIL.Image.new("RGB", (1000, 10)).save(good)
    widths = []
    for count in (1, 500, 5000):
        accounts = Accounts(count, None, {}, 10**6)
        picture = accounts.picture(Input(source=Source(path=good)), good.read_bytes())
        assert picture is not None
        widths.append(picture.size[1])
    assert widths == [480, 320, 200]


def test_what_is_isolated_is_isolated_for_the_page_too(
    run: Run, dark: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def read_here(self: Decoder, source: Path | bytes, max_pixels: int) -> Photo:
        seen.append(self._child is not None)
        return read(source, max_pixels)

    monkeypatch.setattr(Decoder, "read", read_here)
    assert run("fix", ".", "-o", "out", "--report", "r.html", "--isolate", "--quiet") == 0
    assert len(seen) == 6  # two photos, and before and after of each
    assert all(seen)


def test_facts_name_format_depth_and_metadata() -> None:
    extras = ImageMetadata(format="JPEG", mode="RGB", exif=b"1234", icc_profile=b"12", quality=90)
    facts = facts_of(Photo(pixels=torch.zeros(3, 2, 5), metadata=extras), 12_300)
    assert facts == {
        "size": "5 × 2, 12 kB",
        "format": "JPEG RGB, 8 bit, quality 90",
        "metadata": "ICC profile 2 B, EXIF 4 B",
    }
