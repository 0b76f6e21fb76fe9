"""One JSON line for each file that is done or has failed, so that a killed run can go on.

Apart because it is a contract with other programs and with later runs. The line of a result is on
the disk before the result gets its name: whenever a run is killed, a file is done if and only if it
has a line and the result that the line describes is there.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from autodir.errors import AutodirError, ConfigError, ImageError
from autodir.report import plain

logger = logging.getLogger(__name__)

LEDGER_SCHEMA = "autodir.ledger/1"
LEDGER_NAME = ".autodir.jsonl"
"""Its name in the folder of the results; hidden, and no photo."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a file holds: SHA-256; size in bytes, time of change in ns and inode tell it sooner."""

    size: int
    mtime_ns: int
    inode: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a file's.

        Raises:
            ImageError: it cannot be read.
        """
        try:
            with path.open("rb") as file:
                about = os.fstat(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ImageError(f"cannot read {path}: {error.strerror or error}") from error
        return cls.known(about, digest)

    @classmethod
    def known(cls, about: os.stat_result, sha256: str) -> Self:
        """That of a file whose hash is known."""
        return cls(
            size=about.st_size, mtime_ns=about.st_mtime_ns, inode=about.st_ino, sha256=sha256
        )

    def is_of(self, path: Path) -> bool:
        """Whether a file is there and holds this; read only where it is not evidently the same."""
        try:
            about = path.stat()
            if about.st_size != self.size:
                return False
            same = Fingerprint.known(about, self.sha256) == self
            return same or Fingerprint.of(path).sha256 == self.sha256
        except (OSError, ImageError):
            return False


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file that is done.

    Attributes:
        output: the result.
        result: what it holds.
        document: the JSON object that was shown.
    """

    output: Path
    result: Fingerprint
    document: Mapping[str, Any]


class Ledger:
    """The ledger of one folder of results; of all runs that write there, one at a time.

    Args:
        folder: where the results are.
        options: stands for everything that decides how a result looks; entries of other options
            are not found.

    Raises:
        ConfigError: another run is writing there.
        ImageError: the ledger cannot be written.
    """

    def __init__(self, folder: Path, options: str) -> None:
        self.path, self._folder, self._options = folder / LEDGER_NAME, folder, options
        self._by_input: dict[str, int] = {}  # where the line begins, in bytes
        self._by_content: dict[str, int] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise self._unwritable(error) from error
        self._lock()
        self._load()

    def close(self) -> None:
        """Let another run write."""
        os.close(self._file)

    def find(self, source: Path) -> Entry | None:
        """The entry of a file that has not changed since, and whose result has not either."""
        row = self._row(self._by_input.get(_key(source)))
        if row is None or not Fingerprint(**row["file"]).is_of(source):
            return None
        return self._entry(row)

    def find_content(self, content: Fingerprint, suffixes: str) -> Entry | None:
        """The entry of another file with the same content, whose result is still there.

        Args:
            content: what the file holds.
            suffixes: as in `add`.
        """
        row = self._row(self._by_content.get(content.sha256 + suffixes))
        return None if row is None else self._entry(row)

    def add(
        self,
        source: Path,
        content: Fingerprint,
        suffixes: str,
        entry: Entry,
    ) -> None:
        """Write down a result that is whole and on the disk, before it gets its name.

        Args:
            source: the file.
            content: what it holds.
            suffixes: those of file and result: one content makes another result under others.
            entry: the result.

        Raises:
            ImageError: the ledger cannot be written.
        """
        row = {
            "status": "done",
            "input": _key(source),
            "file": asdict(content),
            "suffixes": suffixes,
            "options": self._options,
            "output": os.path.relpath(entry.output, self._folder),
            "result": asdict(entry.result),
            "document": plain(entry.document),
        }
        place = self._append(row)
        self._by_input[_key(source)] = self._by_content[content.sha256 + suffixes] = place

    def add_failure(self, source: Path, error: AutodirError) -> None:
        """Write down why a file could not be repaired; a later run tries it again."""
        try:
            self._append({"status": "failed", "input": _key(source), "error": error.to_dict()})
        except ImageError as refusal:  # a full disk may be the very reason
            logger.warning("%s", refusal.message)

    def _lock(self) -> None:
        """Keep other runs out for as long as the file is open, which ends with the process."""
        if os.name != "posix":
            return
        import fcntl  # a Unix module

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            raise ConfigError(
                f"another run is writing to {self._folder}",
                "Wait until it is done, or name another folder with --output.",
            ) from error
        except OSError:
            logger.info("%s is on a file system without locks", self.path)

    def _load(self) -> None:
        """Find the lines of results; half a line that a killed run has left is cut off."""
        place = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    os.truncate(self.path, place)
                    break
                try:
                    row = json.loads(line)
                    if row["schema"] == LEDGER_SCHEMA and row["status"] == "done":
                        self._by_input[row["input"]] = place
                        if row["options"] == self._options:
                            self._by_content[row["file"]["sha256"] + row["suffixes"]] = place
                except (ValueError, KeyError, TypeError):
                    logger.warning("left out an unreadable line of %s", self.path)
                place += len(line)

    def _row(self, place: int | None) -> dict[str, Any] | None:
        """The line that begins at a place, if it was written under the same options."""
        if place is None:
            return None
        with self.path.open("rb") as file:
            file.seek(place)
            row: dict[str, Any] = json.loads(file.readline())
        return row if row["options"] == self._options else None

    def _entry(self, row: Mapping[str, Any]) -> Entry | None:
        output, result = self._folder / row["output"], Fingerprint(**row["result"])
        if not result.is_of(output):
            return None
        return Entry(output=output, result=result, document=row["document"])

    def _append(self, row: Mapping[str, Any]) -> int:
        """Write a line to the disk, whole or not at all; where it begins."""
        now = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
        line = json.dumps({"schema": LEDGER_SCHEMA, "time": now, **row}).encode() + b"\n"
        place = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, place)
            raise self._unwritable(error) from error
        return place

    def _unwritable(self, error: OSError) -> ImageError:
        return ImageError(
            f"cannot write {self.path}: {error.strerror or error}",
            hint="choose another place with --output",
        )


def options_digest(values: Mapping[str, Any]) -> str:
    """A short name for options and model: equal for equal values, whatever their order."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _key(source: Path) -> str:
    return os.path.abspath(source)  # noqa: PTH100 - links stay what they are
