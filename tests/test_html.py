"""The page: whole, self-contained, deaf to hostile names, and the same in a browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from autodir.errors import ImageError
from autodir.html import STATES, Card, Page, Picture, state_of

HOSTILE = "<script>document.title='hacked'</script>\"' onerror=alert(1) \u202egpj.exe"
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")


def restoration(name: str = "a.jpg", **changes: Any) -> dict[str, Any]:
    step = {
        "index": 0,
        "degradation": "rain",
        "probability": 0.93,
        "prompt": None,
        "verdict": "kept",
        "why": "rain fell by 0.50",
        "seconds": 2.1,
    }
    document = {
        "input": name,
        "output": "out/" + name,
        "clean": False,
        "steps": [step],
        "stopped": "no degradation left",
        "seed": 0,
        "seconds": 2.4,
        "error": None,
    }
    return document | changes


def picture(level: int, size: tuple[int, int] = (60, 90)) -> Picture:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.full((*size, 3), level, np.uint8)).save(buffer, "WEBP", lossless=True)
    return Picture(data=buffer.getvalue(), size=size)


def write(path: Path, *cards: Card) -> str:
    with Page(path, "a run", {"model": "small"}) as page:
        for card in cards:
            page.add(card)
    return path.read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Names and attributes of all elements; what is not closed stays in ``open``."""

    VOID = frozenset({"meta", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.mark.parametrize(
    ("document", "state"),
    [
        (restoration(), "repaired"),
        (restoration(clean=True, steps=[]), "clean"),
        (restoration(steps=[]), "unchanged"),
        (restoration(clean=None), "skipped"),
        (restoration(error={"kind": "ImageError", "message": "broken", "hint": ""}), "failed"),
        ({"input": "a", "clean": False, "presence": {}, "error": None}, "degraded"),
    ],
)
def test_the_state_says_what_has_become_of_a_photo(document: dict[str, Any], state: str) -> None:
    assert state_of(document) == state
    assert state in STATES


def test_a_page_has_one_article_a_photo_and_says_everything(tmp_path: Path) -> None:
    card = Card(
        document=restoration(), before=picture(9), after=picture(200), facts={"size": "90 × 60"}
    )
    text = write(tmp_path / "r.html", card, Card(document=restoration("b.jpg", clean=True)))
    elements = Elements(text)
    assert elements.open == []
    assert [article["data-name"] for article in elements.all("article")] == ["a.jpg", "b.jpg"]
    assert len(elements.all("img")) == 2
    assert [i["type"] for i in elements.all("input")] == ["search", "range"]
    for words in ("rain", "0.93", "rain fell by 0.50", "90 × 60", "2.1 s", "1 repaired, 1 clean"):
        assert words in text


def test_a_diagnosis_is_shown_with_its_severity(tmp_path: Path) -> None:
    document = {
        "input": "a.jpg",
        "clean": False,
        "main": "noise",
        "probabilities": {"noise": 0.8},
        "presence": {"noise": 0.9, "rain": 0.1},
        "severity": {"noise": {"value": 24.06, "error": 2.0, "unit": "levels"}},
        "error": None,
    }
    text = write(tmp_path / "r.html", Card(document=document, before=picture(9)))
    assert "24.1 ± 2 levels" in text
    assert 'data-probability="0.8"' in text


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    text = write(tmp_path / "r.html", Card(document=restoration(), before=picture(9)))
    links = [value for _, found in Elements(text).found for value in found.values() if value]
    assert [value for value in links if "://" in value or value.startswith("//")] == []
    assert "default-src 'none'" in text
    assert re.search(r"url\(|@import|fetch\(", text) is None


@pytest.mark.parametrize("name", [HOSTILE, "a&amp;b.jpg", "</article></main>.jpg", "x\ny.jpg"])
def test_a_hostile_name_stays_text(tmp_path: Path, name: str) -> None:
    text = write(tmp_path / "r.html", Card(document=restoration(name), before=picture(9)))
    elements = Elements(text)
    assert elements.open == []
    assert len(elements.all("script")) == 1
    (article,) = elements.all("article")
    assert article["data-name"] == name
    assert not any(key.startswith("on") for _, found in elements.found for key in found)


def test_a_name_that_is_no_text_is_written_by_its_bytes(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    assert "caf\\udce9.jpg" in write(tmp_path / "r.html", Card(document=restoration(name)))


def test_a_page_that_is_not_closed_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("before")
    page = Page(path, "a run", {})
    page.add(Card(document=restoration()))
    assert path.read_text() == "before"
    page.close()
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_is_no_folder_is_an_image_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageError, match="cannot write"):
        Page(tmp_path / "file" / "r.html", "a run", {})


def test_the_page_grows_on_the_disk_and_not_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    page = Page(path, "a run", {})
    held = len(page.__dict__)
    for index in range(50):
        page.add(Card(document=restoration(f"{index}.jpg"), before=picture(index)))
    assert len(page.__dict__) == held
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) > 50 * 500
    page.close()


@pytest.fixture(scope="session")
def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    return found


def open_in(browser: str, path: Path, *flags: str) -> str:
    """What the page has become after its script has run."""
    profile = path.parent / "profile"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=3000", *flags, path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def test_the_script_runs_in_a_browser_and_a_hostile_name_does_not(
    tmp_path: Path, browser: str
) -> None:
    path = tmp_path / "r.html"
    cards = [Card(document=restoration(HOSTILE), before=picture(9), after=picture(200))]
    write(path, *cards, Card(document=restoration("b.jpg", clean=True, steps=[])))
    page = open_in(browser, path, "--dump-dom")
    assert ">2 of 2</output>" in page
    assert "<title>a run</title>" in page


def test_sorting_filtering_and_the_slider_work(tmp_path: Path, browser: str) -> None:
    path = tmp_path / "r.html"
    slow = restoration("b.jpg", seconds=9.0, clean=True, steps=[])
    write(path, Card(document=restoration(), before=picture(9), after=picture(200)),
          Card(document=slow))  # fmt: skip
    clicks = """
      const tell = (element, value) => {
        element.value = value; element.dispatchEvent(new Event("input", { bubbles: true })); };
      tell(sort, "seconds down"); tell(document.querySelector("[type=range]"), "25");
      const order = cards.map((card) => card.dataset.name);
      tell(state, "clean");
      const seen = [order, count.textContent, cards.filter((card) => !card.hidden).length,
        document.querySelector(".pair").style.getPropertyValue("--cut")];
      document.title = JSON.stringify(seen);
    </script></body>"""
    text = path.read_text(encoding="utf-8").replace("</script></body>", clicks)
    text = re.sub(r"; script-src 'sha256-[^']*'", "; script-src 'unsafe-inline'", text)
    path.write_text(text, encoding="utf-8")
    title = re.search(r"<title>(.*?)</title>", open_in(browser, path, "--dump-dom"))
    assert title is not None
    assert json.loads(title[1]) == [["b.jpg", "a.jpg"], "1 of 2", 1, "25%"]


@pytest.mark.parametrize("width", [390, 1200])
def test_before_and_after_stand_side_by_side_on_every_screen(
    tmp_path: Path, browser: str, width: int
) -> None:
    path, shot = tmp_path / "r.html", tmp_path / "shot.png"
    size = (200, 300)
    array = np.zeros((*size, 3), np.uint8)
    pictures = []
    for color in ([255, 0, 0], [0, 0, 255]):
        array[:] = color
        buffer = io.BytesIO()
        PIL.Image.fromarray(array).save(buffer, "WEBP", lossless=True)
        pictures.append(Picture(data=buffer.getvalue(), size=size))
    write(path, Card(document=restoration(), before=pictures[0], after=pictures[1]))
    open_in(browser, path, f"--window-size={width},800", f"--screenshot={shot}")
    with PIL.Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    is_before = (np.abs(pixels - [255, 0, 0]) < 40).all(-1)
    is_after = (np.abs(pixels - [0, 0, 255]) < 40).all(-1)
    assert 20_000 < is_before.sum() < 40_000
    assert abs(is_before.sum() - is_after.sum()) < 3000
    assert np.nonzero(is_before)[1].max() < np.nonzero(is_after)[1].min() + 4


def test_pictures_are_embedded_as_they_are(tmp_path: Path) -> None:
    one = picture(77)
    (image,) = Elements(write(tmp_path / "r.html", Card(document=restoration(), before=one))).all(
        "img"
    )
    source = image["src"] or ""
    assert base64.b64decode(source.partition("base64,")[2]) == one.data
    assert (image["height"], image["width"]) == ("60", "90")
