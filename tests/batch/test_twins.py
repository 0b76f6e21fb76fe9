"""The first file of some content, and those that wait for it."""

from __future__ import annotations

from pathlib import Path

from autodir.batch.twins import Twins
from autodir.errors import ImageError

A, B, C = Path("a"), Path("b"), Path("c")


def test_the_first_of_each_content_is_told_apart() -> None:
    twins: Twins[str] = Twins()
    assert twins.find(A, "x") is None
    assert twins.find(B, "y") is None
    original = twins.find(C, "x")
    assert original is not None
    assert (original.path, original.is_settled) == (A, False)


def test_those_that_wait_are_given_back_once_when_the_first_is_done() -> None:
    twins: Twins[str] = Twins()
    twins.find(A, "x")
    original = twins.find(B, "x")
    assert original is not None
    original.waiting.append("b")
    assert twins.settle(B, None) == []  # a twin settles nothing
    assert twins.settle(A, None) == ["b"]
    assert twins.settle(A, None) == []
    assert (original.is_settled, original.error) == (True, None)
    assert twins.find(C, "x") is original


def test_after_a_failure_the_next_one_is_tried_itself() -> None:
    twins: Twins[str] = Twins()
    twins.find(A, "x")
    original = twins.find(B, "x")
    error = ImageError("no")
    twins.settle(A, error)
    assert original is not None
    assert original.error is error
    assert twins.find(C, "x") is None
    again = twins.find(B, "x")
    assert again is not None
    assert again.path == C
