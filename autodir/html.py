"""One self-contained HTML page about a run: before and after, what was found, what was done.

Apart from the JSON of `autodir.report`, from which it is made, because this is for people. The page
is written photo by photo, so that its length costs no memory, and needs nothing but itself.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from autodir.errors import ImageError
from autodir.imaging.files import TEMPORARY_PREFIX
from autodir.report import amount

STATES = ("repaired", "unchanged", "clean", "degraded", "skipped", "failed")
"""What may have become of a photo, as the page's filter lists it."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A small picture inside the page.

    Attributes:
        data: the content of a WebP file.
        size: (height, width) in pixels.
    """

    data: bytes
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Card:
    """One photo of the page.

    Attributes:
        document: its diagnosis, restoration or failure as a JSON object of `autodir.report`.
        before, after: the photo and its result, where there are any.
        facts: what else is known about the file, by name.
        note: why there is nothing more, or anything else that is to be said.
    """

    document: Mapping[str, Any]
    before: Picture | None = None
    after: Picture | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


class Page:
    """A page that grows in a temporary file and gets its name when it is whole.

    Args:
        path: of the page.
        title: its heading.
        facts: about the whole run, by name: model, hash, options.

    Raises:
        ImageError: the folder cannot be written to.
    """

    def __init__(self, path: Path, title: str, facts: Mapping[str, str]) -> None:
        self._path, self._facts, self._states = path, facts, Counter[str]()
        self._temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}.tmp"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("xb")
        except OSError as error:
            raise self._unwritable(error) from error
        self._write(_head(title))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, card: Card) -> None:
        """Write one photo.

        Raises:
            ImageError: the disk is full.
        """
        state = state_of(card.document)
        self._write(_article(card, state, order=self._states.total()))
        self._states[state] += 1

    def close(self) -> None:
        """Write the end, and give the page its name; what was there before is replaced.

        Raises:
            ImageError: the page cannot be written.
        """
        totals = ", ".join(f"{self._states[name]} {name}" for name in STATES if self._states[name])
        self._write(_tail({"photos": totals or "none", **self._facts}))
        try:
            with self._file as file:
                file.flush()
                os.fsync(file.fileno())
            self._temporary.replace(self._path)
        except OSError as error:
            self._temporary.unlink(missing_ok=True)
            raise self._unwritable(error) from error

    def _write(self, text: str) -> None:
        try:
            # A file name need not be text: what is none is shown by its bytes.
            self._file.write(text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ImageError:
        reason = error.strerror or str(error)
        return ImageError(f"cannot write {self._path}: {reason}", hint="name another --report")


def state_of(document: Mapping[str, Any]) -> str:
    """What has become of a photo, one of `STATES`."""
    if document.get("error"):
        return "failed"
    if document.get("clean") is None:
        return "skipped"
    if document["clean"]:
        return "clean"
    if "steps" not in document:
        return "degraded"
    kept = any(step["verdict"] != "rolled back" for step in document["steps"])
    return "repaired" if kept else "unchanged"


def _article(card: Card, state: str, order: int) -> str:
    document = card.document
    name, rounds = str(document.get("input")), document.get("steps") or ()
    found = document.get("probabilities", {}).get(document.get("main"))
    sortable = {
        "order": order,
        "name": name,
        "state": state,
        "probability": found if found is not None else rounds[0]["probability"] if rounds else 0,
        "rounds": len(rounds),
        "seconds": document.get("seconds") or 0,
    }
    data = " ".join(f'data-{key}="{escape(str(value))}"' for key, value in sortable.items())
    shown = (card.note, (document.get("error") or {}).get("message"), document.get("stopped"))
    parts = [
        f"<article {data}>",
        f'<h2><bdi>{escape(name)}</bdi> <span class="{state}">{state}</span></h2>',
        _figure(card, name),
        _rounds(rounds),
        _presence(document),
        *(f"<p>{escape(str(text))}</p>" for text in shown if text),
        _facts({**card.facts, **_facts_of(document)}),
        "</article>\n",
    ]
    return "".join(parts)


def _figure(card: Card, name: str) -> str:
    """The photo, or a slider over photo and result."""
    pictures = [picture for picture in (card.before, card.after) if picture is not None]
    if not pictures:
        return ""
    images = "".join(
        f'<img class="{role}" alt="{role}: {escape(name)}" height="{picture.size[0]}" '
        f'width="{picture.size[1]}" src="data:image/webp;base64,'
        f'{base64.b64encode(picture.data).decode()}">'
        for role, picture in (("before", card.before), ("after", card.after))
        if picture is not None
    )
    if len(pictures) == 1:
        return f"<figure>{images}</figure>"
    label = escape(f"before and after: {name}")
    slider = f'<input type="range" min="0" max="100" value="50" aria-label="{label}">'
    return f'<figure class="pair">{images}<i></i>{slider}</figure>'


def _rounds(steps: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            f"{step['index'] + 1}",
            escape(step["degradation"] + (f" “{step['prompt']}”" if step["prompt"] else "")),
            _meter(step["probability"]),
            f"<b>{escape(step['verdict'])}</b>, {escape(step['why'])}",
            f"{step['seconds']:.1f} s",
        )
        for step in steps
    ]
    return _table(("", "found", "probability", "verdict", "time"), rows)


def _presence(document: Mapping[str, Any]) -> str:
    severity = document.get("severity") or {}
    probabilities = document.get("probabilities") or {}
    presence = document.get("presence") or {}
    rows = [
        (
            escape(key),
            _meter(probabilities.get(key, 0.0)),
            _meter(value),
            escape(amount(severity[key])) if key in severity else "",
        )
        for key, value in sorted(presence.items(), key=lambda item: -item[1])
    ]
    return _table(("degradation", "probability", "presence", "severity"), rows)


def _facts_of(document: Mapping[str, Any]) -> dict[str, str]:
    """What the details of a photo show of its JSON object."""
    facts = {"result": document.get("output"), "seed": document.get("seed")}
    if document.get("seconds") is not None:
        facts["time"] = f"{document['seconds']:.1f} s"
    return {name: str(value) for name, value in facts.items() if value is not None}


def _meter(value: float) -> str:
    return f'<meter min="0" max="1" value="{value:.4f}"></meter> {value:.2f}'


def _table(columns: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already; nothing where there are no rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{name}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd><bdi>{escape(value)}</bdi></dd>"
        for name, value in facts.items()
    )
    return f"<details><summary>details</summary><dl>{rows}</dl></details>" if rows else ""


def _head(title: str) -> str:
    hashes = {
        kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, text in (("style", _STYLE), ("script", _SCRIPT))
    }
    # The browser itself refuses whatever a hostile file name might smuggle in.
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}'"
    )
    choices = "".join(f"<option>{state}</option>" for state in STATES)
    orders = "".join(f'<option value="{value}">{text}</option>' for value, text in _ORDERS)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title><style>{_STYLE}</style></head><body>
<header><h1>{escape(title)}</h1>
<label>sort by <select id="sort">{orders}</select></label>
<label>show <select id="state"><option value="">all</option>{choices}</select></label>
<label>name <input id="name" type="search"></label> <output id="count"></output></header>
<main>
"""


def _tail(facts: Mapping[str, str]) -> str:
    return f"</main><footer>{_facts(facts)}</footer><script>{_SCRIPT}</script></body></html>\n"


_ORDERS = (
    ("order up", "order of work"),
    ("name up", "name"),
    ("probability down", "probability"),
    ("rounds down", "rounds"),
    ("seconds down", "time"),
    ("state up", "verdict"),
)

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif; }
body { margin: 0; background: Canvas; color: CanvasText; }
header { position: sticky; top: 0; z-index: 2; padding: .5rem 1rem; background: Canvas;
  border-bottom: 1px solid GrayText; display: flex; flex-wrap: wrap; gap: .5rem 1rem;
  align-items: baseline; }
h1 { font-size: 1.1rem; margin: 0; }
h2 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
main { display: grid; gap: 1rem; padding: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); align-items: start; }
article { border: 1px solid GrayText; border-radius: .5rem; padding: .75rem; overflow: hidden;
  content-visibility: auto; contain-intrinsic-size: auto 24rem; }
article[hidden] { display: none; }
h2 span { font-size: .8rem; font-weight: normal; border: 1px solid; border-radius: 1rem;
  padding: 0 .5em; white-space: nowrap; }
.repaired { color: #2a7d2a; } .failed { color: #c0392b; } .degraded, .unchanged { color: #b06000; }
figure { margin: 0 0 .5rem; display: grid; justify-items: center; }
figure img { max-width: 100%; height: auto; grid-area: 1 / 1; }
.pair { position: relative; --cut: 50%; width: fit-content; max-width: 100%; margin-inline: auto; }
.pair .after { clip-path: inset(0 0 0 var(--cut)); width: 100%; height: 100%; }
.pair i { position: absolute; inset: 0 auto 0 var(--cut); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 3px #000; pointer-events: none; }
.pair input { grid-area: 1 / 1; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize;
  touch-action: pan-y; z-index: 1; }
.pair:focus-within { outline: 3px solid Highlight; }
table { border-collapse: collapse; font-size: .85rem; width: 100%; display: block;
  overflow-x: auto; }
th, td { text-align: left; padding: .1rem .5rem .1rem 0; vertical-align: top; }
meter { width: 2.5rem; } td:has(meter) { white-space: nowrap; }
p { margin: .3rem 0; font-size: .85rem; overflow-wrap: anywhere; }
details { font-size: .85rem; } dl { display: grid; grid-template-columns: auto 1fr; gap: 0 1rem; }
dd { margin: 0; overflow-wrap: anywhere; } footer { padding: 1rem; }
"""

_SCRIPT = """
"use strict";
const list = document.querySelector("main"), cards = [...list.children];
const [sort, state, name, count] = ["sort", "state", "name", "count"].map(
  (id) => document.getElementById(id));
function arrange() {
  const [key, direction] = sort.value.split(" ");
  const sign = direction === "down" ? -1 : 1, words = key === "name" || key === "state";
  cards.sort((a, b) => {
    const x = a.dataset[key], y = b.dataset[key];
    const order = words ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
    return sign * order || a.dataset.order - b.dataset.order;
  });
  cards.forEach((card) => list.append(card));
  select();
}
function select() {
  const wanted = name.value.toLowerCase();
  let shown = 0;
  for (const card of cards) {
    card.hidden = (state.value && card.dataset.state !== state.value)
      || !card.dataset.name.toLowerCase().includes(wanted);
    shown += !card.hidden;
  }
  count.textContent = `${shown} of ${cards.length}`;
}
sort.addEventListener("input", arrange);
state.addEventListener("input", select);
name.addEventListener("input", select);
list.addEventListener("input", (event) => {
  if (event.target.type === "range")
    event.target.parentElement.style.setProperty("--cut", `${event.target.value}%`);
});
select();
"""
