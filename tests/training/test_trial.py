"""The trial stage learns what the correction takes out of rainy photos, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from autodir.diagnosis import residue
from autodir.diagnosis.trial import Suspicion, Trial
from autodir.training import trial as stage
from autodir.training.batches import Batches
from autodir.training.trial import shown, train_trial


@pytest.fixture(autouse=True)
def small_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SIZES", (128,))


class Cheating:
    """Takes nothing away but from the brightest photos; the trial has to find out."""

    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels - 0.3 * (pixels - pixels.mean()).clamp_min(0)


def suspicion(attempt: stage.Repair, key: str = "rain") -> Suspicion:
    return Suspicion(key, Trial(residue.FIGURES), lambda pixels: residue.tried(pixels, attempt))


def test_only_the_networks_learn(batches: Batches, tmp_path: Path) -> None:
    doubted = suspicion(Cheating())
    tried = doubted.trial
    before = {name: value.clone() for name, value in tried.state_dict().items()}
    figures = train_trial(doubted, batches, 1.0, tmp_path)
    after = tried.state_dict()
    assert after.keys() == before.keys()
    assert not any(torch.equal(value, before[name]) for name, value in after.items())
    assert not tried.center.requires_grad
    assert not tried.training
    assert figures["noted"] >= 2 * stage.BATCH
    assert figures["measured"].keys() == {"found", "spared"}
    again = train_trial(doubted, batches, 0.1, tmp_path, resume=True)
    assert again["noted"] >= figures["noted"] + 2 * stage.BATCH


def test_some_are_repaired_of_something_else_before_and_some_are_drawings(
    batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Tensor] = []

    def attempt(pixels: Tensor) -> Tensor:
        tried.append(pixels)
        return pixels

    repaired: list[str] = []

    def repair(key: str) -> stage.Repair:
        def run(pixels: Tensor) -> Tensor:
            repaired.append(key)
            return torch.full_like(pixels, 2.0)

        return run

    monkeypatch.setattr(stage, "BEHIND", 1.0)
    monkeypatch.setattr(stage, "EMPHASIS", 1.0)
    monkeypatch.setattr(stage, "SHARE", (1.0, 0.0, 0.0))
    before = {key: repair(key) for key in stage.REPAIRED}
    train_trial(suspicion(attempt), batches, 0.3, tmp_path, before=before)
    white = sum(bool((one == 1).all()) for one in tried)
    assert white == len(repaired) > 0
    assert set(repaired) <= set(stage.REPAIRED)
    assert white < len(tried)  # rain is none of them
    monkeypatch.setattr(stage, "DRAWN", 1.0)
    monkeypatch.setattr(stage, "EMPHASIS", 0.0)
    tried.clear()
    train_trial(suspicion(attempt), batches, 0.3, tmp_path)
    assert tried
    assert all(torch.allclose(one[:, 0], one[:, 2], atol=0.02) for one in tried)


def test_photos_of_the_web_are_smaller_and_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = torch.rand(1, 3, 128, 96, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(stage, "SHOWN", 0.0)
    assert shown(photo, torch.Generator().manual_seed(1)) is photo
    monkeypatch.setattr(stage, "SHOWN", 1.0)
    generator = torch.Generator().manual_seed(1)
    sizes = {tuple(shown(photo, generator).shape[-2:]) for _ in range(8)}
    assert len(sizes) > 1
    assert all(70 <= height <= 128 and 52 <= width <= 96 for height, width in sizes)
    seen = shown(photo, generator)
    assert torch.equal(seen, (seen * 255).round() / 255)
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1
