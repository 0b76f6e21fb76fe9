"""``autodir degrade``: seeded degraded copies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def pixels(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_the_copy_lies_beside_the_photo_without_loss(run: Run, good: Path) -> None:
    assert run("degrade", "good.jpg", "--with", "noise:sigma=25") == 0
    copy = good.with_name("good.degraded.png")
    difference = pixels(copy) - pixels(good)
    assert difference.shape == (12, 16, 3)
    assert 15 < difference.std() < 35


def test_degradations_are_applied_in_order_and_reported(
    run: Run, good: Path, capsys: Capture
) -> None:
    chain = ("--with", "noise:sigma=25", "--with", "underexposure")
    assert run("degrade", "good.jpg", *chain, "--seed", "3", "--json", "-o", "out/") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "autodir.degradation/1"
    assert (document["seed"], document["output"]) == (3, "out/good.jpg")
    applied = document["degradations"]
    assert [entry["degradation"] for entry in applied] == ["noise", "underexposure"]
    assert applied[0]["parameters"]["sigma"] == pytest.approx(25)


def test_a_seed_gives_the_same_copy_whatever_else_is_degraded(
    run: Run, good: Path, dark: Path
) -> None:
    chain = ("--with", "noise:sigma=25", "--seed", "3")
    assert run("degrade", "good.jpg", *chain, "-o", "a/{stem}.png") == 0
    assert run("degrade", "dark.png", "good.jpg", *chain, "-o", "b/{stem}.png") == 0
    assert run("degrade", "good.jpg", *chain[:2], "--seed", "4", "-o", "c/{stem}.png") == 0
    first, second, third = (good.parent / name / "good.png" for name in "abc")
    assert first.read_bytes() == second.read_bytes() != third.read_bytes()


@pytest.mark.parametrize(
    ("text", "code"),
    [("nois", 2), ("noise:sigma=-5", 2), ("noise:", 2), ("noise:sigma", 2), ("rain:sigma=3", 2)],
)
def test_a_degradation_that_cannot_be_read_is_refused(
    run: Run, good: Path, text: str, code: int
) -> None:
    assert run("degrade", "good.jpg", "--with", text) == code
    assert not good.with_name("good.degraded.png").exists()


def test_what_to_do_must_be_said(run: Run, good: Path) -> None:
    assert run("degrade", "good.jpg") == 2


def test_a_copy_that_exists_is_kept_unless_told_otherwise(
    run: Run, good: Path, capsys: Capture
) -> None:
    taken = good.with_name("good.degraded.png")
    taken.write_bytes(b"mine")
    assert run("degrade", "good.jpg", "--with", "noise") == 3
    assert run("degrade", "good.jpg", "--with", "noise", "--skip-existing", "--json") == 0
    assert taken.read_bytes() == b"mine"
    assert json.loads(capsys.readouterr().out)["degradations"] == []
    assert run("degrade", "good.jpg", "--with", "noise", "--overwrite", "--quiet") == 0
    assert taken.read_bytes() != b"mine"


def test_dry_run_writes_nothing(run: Run, good: Path, capsys: Capture) -> None:
    assert run("degrade", "good.jpg", "--with", "noise:sigma=25", "--dry-run") == 0
    assert "sigma 25" in capsys.readouterr().out
    assert not good.with_name("good.degraded.png").exists()
