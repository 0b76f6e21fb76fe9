"""The committed model on the sample photos: what a newcomer sees first."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autodir import RestoreOptions, Restorer
from autodir.checkpoint import info, verify

pytestmark = pytest.mark.weights

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer.from_pretrained("small", device="cpu")


def test_committed_model_is_whole_and_within_its_budget() -> None:
    assert verify("small")
    assert info("small").bytes <= 40e6


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("rainy-rocket", "rain"),
        ("noisy-cat", "noise"),
        ("dark-coffee", "underexposure"),
        ("hazy-astronaut", "haze"),
        ("shaken-astronaut", "blur"),
        ("wet-rocket", "raindrop"),
    ],
)
def test_sample_is_recognized(restorer: Restorer, name: str, key: str) -> None:
    main = restorer.diagnose(EXAMPLES / f"{name}.jpg").main
    assert main is not None
    assert main.key == key


def test_clean_sample_is_left_alone(restorer: Restorer) -> None:
    assert restorer.restore(EXAMPLES / "clean-cat.jpg").report.clean


def test_dark_sample_becomes_brighter(restorer: Restorer) -> None:
    result = restorer.restore(EXAMPLES / "dark-coffee.jpg")
    before = restorer.diagnose(EXAMPLES / "dark-coffee.jpg").presence["underexposure"]
    assert result.report.last.presence["underexposure"] < 0.5 * before
    assert result.image.size == (400, 600)


def test_shaken_sample_becomes_sharper(restorer: Restorer) -> None:
    from autodir.diagnosis.changes import edge_strength
    from autodir.imaging.io import read

    shaken = read(EXAMPLES / "shaken-astronaut.jpg").pixels[None]
    result = restorer.restore(EXAMPLES / "shaken-astronaut.jpg")
    assert [step.verdict for step in result.report.steps] == ["kept"]
    assert edge_strength(result.image.pixels[None]) > 1.3 * edge_strength(shaken)


def test_drops_fade(restorer: Restorer) -> None:
    from autodir.imaging.io import read

    photos = pytest.importorskip("skimage.data")
    clean = torch.from_numpy(photos.rocket().copy()).permute(2, 0, 1) / 255
    wet = read(EXAMPLES / "wet-rocket.jpg").pixels
    result = restorer.restore(EXAMPLES / "wet-rocket.jpg")
    assert [step.degradation for step in result.report.steps] == ["raindrop"]
    errors = [float((image - clean).square().mean()) for image in (wet, result.image.pixels)]
    assert errors[1] < 0.75 * errors[0]


def test_noisy_sample_comes_closer_to_the_clean_one(restorer: Restorer) -> None:
    from autodir.imaging.io import read

    clean, noisy = (read(EXAMPLES / f"{name}.jpg").pixels for name in ("clean-cat", "noisy-cat"))
    restored = restorer.restore(EXAMPLES / "noisy-cat.jpg").image.pixels
    errors = [float((image - clean).square().mean()) for image in (noisy, restored)]
    assert errors[1] < 0.5 * errors[0]


def test_same_seed_gives_the_same_pixels(restorer: Restorer) -> None:
    options = RestoreOptions(seed=3, max_steps=1)
    first, second = (restorer.restore(EXAMPLES / "noisy-cat.jpg", options) for _ in range(2))
    assert torch.equal(first.image.pixels, second.image.pixels)


@pytest.mark.parametrize(
    ("prompt", "key"),
    [
        ("get rid of the fog", "haze"),
        ("remove rain", "rain"),
        ("my photo is much too dark", "underexposure"),
    ],
)
def test_prompt_is_understood(restorer: Restorer, prompt: str, key: str) -> None:
    planned = restorer.plan(EXAMPLES / "clean-cat.jpg", RestoreOptions(prompt=(prompt,)))
    assert [step.degradation for step in planned] == [key]
