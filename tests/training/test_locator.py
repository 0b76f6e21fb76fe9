"""The locator stage learns where a degradation is; of several, where the main one is."""

from pathlib import Path
from typing import Any

import pytest
import torch

from autodir.checkpoint import Model
from autodir.diagnosis.locator import Locator
from autodir.training import locator as stage
from autodir.training.batches import Batches, Drawn
from autodir.training.locator import train_locator
from autodir.training.loop import LoopOptions


@pytest.fixture(autouse=True)
def small_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SIZES", (32, 48))


def test_darkness_is_found_everywhere(model: Model, batches: Batches, tmp_path: Path) -> None:
    keys = tuple(degradation.key for degradation in model.taxonomy)
    dark = batches.alone("underexposure")
    torch.manual_seed(0)
    locator = Locator(degradations=len(keys), width=8, inner=16, dilations=(1, 2))
    options = LoopOptions(
        budget=1e6, max_steps=60, precision="fp32", learning_rate=1e-2, warmup=5, ema=0.9
    )
    train_locator(locator, dark, keys, options, tmp_path, batch=4)
    assert not locator.training
    drawn = dark.draw(8, 48, torch.Generator().manual_seed(9), least=0.6)
    index = keys.index("underexposure")
    with torch.no_grad():
        found, spared = (
            locator(x)[:, index].sigmoid().mean() for x in (drawn.degraded, drawn.target)
        )
    assert found > 0.6
    assert found > spared + 0.3
    assert "found_underexposure" in (tmp_path / "losses.csv").read_text()


def test_of_several_degradations_only_the_main_one_teaches(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tuple(degradation.key for degradation in model.taxonomy)
    several, drawn, draw = batches.with_share((0.0, 1.0, 0.0)), set[str](), Batches.draw

    def noted(self: Batches, *args: Any, **kwargs: Any) -> Drawn:
        batch = draw(self, *args, **kwargs)
        drawn.update(model.taxonomy.keys[label] for label in batch.label.tolist())
        return batch

    monkeypatch.setattr(Batches, "draw", noted)
    locator = Locator(degradations=len(keys), width=8, inner=8, dilations=(1,))
    assert locator.out.bias is not None
    before = locator.out.bias.detach().clone()
    options = LoopOptions(budget=1e6, max_steps=1, precision="fp32", warmup=1, weight_decay=0.0)
    train_locator(locator, several, keys, options, tmp_path, batch=3)
    changed = {key for key, same in zip(keys, before == locator.out.bias, strict=True) if not same}
    assert changed == drawn
    assert len(drawn) < len(keys)
