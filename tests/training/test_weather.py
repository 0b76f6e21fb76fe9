"""Weak noise and good files, on some photos and not on others."""

import pytest
import torch

from autodir.training import weather
from autodir.training.weather import GRAY, grayed, weathered


def test_some_photos_have_grain_or_come_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = torch.full((40, 3, 16, 16), 0.5)
    seen = weathered(photos, torch.Generator().manual_seed(1))
    changed = (seen != photos).flatten(1).any(1)
    assert 0.2 < float(changed.float().mean()) < 0.95
    assert float((seen - photos).abs().max()) < 0.1
    assert torch.equal(photos, torch.full_like(photos, 0.5))
    monkeypatch.setattr(weather, "NOISY", 0.0)
    monkeypatch.setattr(weather, "FILED", 0.0)
    assert torch.equal(weathered(photos, torch.Generator().manual_seed(1)), photos)


def test_some_photos_and_their_targets_lose_their_color_together() -> None:
    generator = torch.Generator().manual_seed(1)
    photos, targets = torch.rand(2, 400, 3, 8, 8, generator=generator)
    seen, wanted = grayed(photos, targets, generator)
    gray = (seen[:, 0] == seen[:, 2]).flatten(1).all(1)
    assert float(gray.float().mean()) == pytest.approx(GRAY, abs=0.06)
    assert torch.equal(gray, (wanted[:, 0] == wanted[:, 2]).flatten(1).all(1))
    assert torch.equal(seen[~gray], photos[~gray])
    assert torch.equal(wanted[~gray], targets[~gray])
    assert seen.shape == wanted.shape == photos.shape
