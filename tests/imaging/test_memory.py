"""Freed memory goes back to the system where it knows how, and elsewhere nothing happens."""

import ctypes

import pytest

from autodir.imaging import memory


class Library:
    def __init__(self) -> None:
        self.asked: list[int] = []

    def malloc_trim(self, kept: int) -> int:
        self.asked.append(kept)
        return 1


@pytest.fixture(autouse=True)
def forgotten() -> None:
    memory._trim.cache_clear()


def test_the_library_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert memory.give_back()
    assert memory.give_back()
    assert library.asked == [0, 0]


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_other_systems_do_nothing(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def missing(name: object) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert not memory.give_back()
