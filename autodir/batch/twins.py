"""Files of equal content: the first of them is repaired, the others take over its result.

Apart because the first may not be done when the others come up, and may fail.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from autodir.errors import AutodirError

Waiting = TypeVar("Waiting")


@dataclass
class Original(Generic[Waiting]):
    """The first file of some content.

    Attributes:
        path: the file.
        is_settled: it is done, or has failed with `error`.
        error: why it failed.
        waiting: what is to be gone on with then.
    """

    path: Path
    is_settled: bool = False
    error: AutodirError | None = None
    waiting: list[Waiting] = field(default_factory=list)


class Twins(Generic[Waiting]):
    """Tells which files are the first of their content."""

    def __init__(self) -> None:
        self._by_content: dict[Hashable, Original[Waiting]] = {}
        self._unsettled: dict[Path, Hashable] = {}

    def find(self, path: Path, content: Hashable) -> Original[Waiting] | None:
        """The file that has had this content before; None where ``path`` is the first.

        A file that has failed is no first: the next one is tried.
        """
        original = self._by_content.get(content)
        if original is None or original.error is not None:
            self._by_content[content] = Original(path)
            self._unsettled[path] = content
            return None
        return original

    def settle(self, path: Path, error: AutodirError | None) -> list[Waiting]:
        """Note that a file is done or has failed; what has been waiting for it."""
        content = self._unsettled.pop(path, None)
        if content is None:
            return []
        original = self._by_content[content]
        original.error, original.is_settled = error, True
        waiting, original.waiting = original.waiting, []
        return waiting
