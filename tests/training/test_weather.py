"""Weak noise and good files, on some photos and not on others."""

import pytest
import torch

from autodir.training import weather
from autodir.training.weather import weathered


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
