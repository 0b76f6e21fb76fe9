"""What ``fix`` and ``diagnose`` leave besides results: the page of ``--report``, the sidecars.

Apart from the repair and from the writing of results, neither of which need them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from autodir.cli.inputs import Input
from autodir.config import OutputOptions, RuntimeOptions
from autodir.errors import AutodirError, ConfigError, ImageError
from autodir.report import ERROR_SCHEMA, error_to_dict

if TYPE_CHECKING:
    from autodir.html import Page, Picture
    from autodir.imaging.photo import Photo

_SIDES = ((200, 480), (1000, 320))
"""Up to so many photos, thumbnails of so many pixels along their longer side."""
_SMALLEST = 200

ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.html", help="Write a page with pictures for people."),
]
Sidecar = Annotated[
    bool,
    typer.Option("--sidecar", help="Write photo.restored.json beside each result, for replay."),
]


class Accounts:
    """Keeps account of a run, photo by photo.

    Args:
        count: the number of inputs, which decides how large the thumbnails are.
        report: the page to write; None for none.
        runtime, output: options of the run, which sidecars repeat; None for no sidecars.
        info: name and hash of the model, and the versions.
        max_pixels: limit of a photo that is shown.

    Raises:
        ConfigError: the page is no HTML file by its name.
        ImageError: the page cannot be written.
    """

    def __init__(
        self,
        count: int,
        report: Path | None,
        info: Mapping[str, Any],
        max_pixels: int,
        sidecar: tuple[RuntimeOptions, OutputOptions] | None = None,
    ) -> None:
        self._max_pixels = max_pixels
        self._longest = next((side for most, side in _SIDES if count <= most), _SMALLEST)
        self._sidecar, self._page = sidecar, None if report is None else _open(report, count, info)
        self._about: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._page is not None:
            self._page.close()

    def delivered(self, one: Input, document: Mapping[str, Any], content: bytes) -> None:
        """Account for a result that is there.

        Args:
            one: the input.
            document: its JSON object.
            content: of the result.

        Raises:
            ImageError: the page cannot be written.
        """
        if self._page is not None:
            self._add(one, document, self.picture(one, content))

    def passed_over(self, one: Input, document: Mapping[str, Any]) -> None:
        """Account for an input whose result is there from an earlier run."""
        if self._page is not None:
            output = document["output"]
            content = None if output is None else Path(output).read_bytes()
            self._add(one, document, None if content is None else self.picture(one, content))

    def diagnosed(self, one: Input, photo: Photo, document: Mapping[str, Any]) -> None:
        """Account for one diagnosis."""
        if self._page is not None:
            self._add(one, document, None, photo)

    def failed(self, one: Input, error: AutodirError) -> None:
        """Account for an input that could not be read, repaired or written."""
        if self._page is not None:
            from autodir.html import Card

            document = error_to_dict(error, schema=ERROR_SCHEMA, source=str(one))
            self._page.add(Card(document=document, note=error.hint))

    def _add(
        self,
        one: Input,
        document: Mapping[str, Any],
        after: Picture | None,
        photo: Photo | None = None,
    ) -> None:
        from autodir.html import Card

        assert self._page is not None
        content = one.content()
        photo = photo or self._decode(one, content)
        before = None if photo is None else self._shrink(photo)
        facts = {} if photo is None else facts_of(photo, len(content))
        self._page.add(Card(document=document, before=before, after=after, facts=facts))

    def picture(self, one: Input, content: bytes) -> Picture | None:
        """The thumbnail of a photo or of its result; None where it cannot be shown."""
        photo = self._decode(one, content)
        return None if photo is None else self._shrink(photo)

    def _decode(self, one: Input, content: bytes) -> Photo | None:
        """The photo in a content, read as the input was, isolated if that was.

        None where it cannot be read: no result suffers from that.
        """
        try:
            return one.decode(content, self._max_pixels)
        except ImageError:
            return None

    def _shrink(self, photo: Photo) -> Picture:
        from autodir.html import Picture
        from autodir.imaging.thumbnails import thumbnail

        data, size = thumbnail(photo, self._longest)
        return Picture(data=data, size=size)

    def write_sidecar(self, one: Input, document: Mapping[str, Any], content: bytes) -> None:
        """Write down how a result came about, before it gets its name.

        So a run that is killed leaves no result without its sidecar.

        Args:
            one, document, content: as in `delivered`.

        Raises:
            ImageError: the sidecar cannot be written.
        """
        if self._sidecar is None or one.data is not None:  # stdin cannot be read again
            return
        from autodir.batch.sidecar import surroundings, write_sidecar

        if self._about is None:
            self._about = surroundings()
        source, output = (one.source.path, one.content()), (Path(document["output"]), content)
        write_sidecar(document, source, output, self._sidecar, self._about)


def facts_of(photo: Photo, length: int) -> dict[str, str]:
    """What a page says about a file: its size, format, depth and metadata."""
    extras, (height, width) = photo.metadata, photo.size
    carried = {"ICC profile": extras.icc_profile, "EXIF": extras.exif, "XMP": extras.xmp}
    metadata = [f"{name} {len(block)} B" for name, block in carried.items() if block]
    quality = "" if extras.quality is None else f", quality {extras.quality}"
    return {
        "size": f"{width} × {height}, {length / 1e3:.0f} kB",
        "format": f"{extras.format} {extras.mode}, {extras.bit_depth} bit{quality}",
        "metadata": ", ".join(metadata) or "none",
    }


def _open(path: Path, count: int, info: Mapping[str, Any]) -> Page:
    from autodir.html import Page

    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--report {path} is no HTML file.", "Name it such as report.html.")
    facts = {name: str(value) for name, value in info.items()}
    return Page(path, f"autodir: {count} photo{'s' if count != 1 else ''}", facts)
