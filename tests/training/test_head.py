"""The head stage blends classical measures in and leaves everything else as it was."""

from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model
from autodir.diagnosis import streaks
from autodir.diagnosis.contrastive import ContrastiveHead
from autodir.errors import CheckpointError, ConfigError
from autodir.training import head as stage
from autodir.training.batches import Batches
from autodir.training.data import PhotoPool
from autodir.training.head import NOTES, train_head


@pytest.fixture(autouse=True)
def small_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SIZES", (48, 64))


def test_only_the_blend_learns(model: Model, batches: Batches, tmp_path: Path) -> None:
    quality = model.quality_model()
    before = {name: value.clone() for name, value in quality.state_dict().items()}
    figures = train_head(quality, batches, 1.0, tmp_path)
    after = quality.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert set(after) - set(before) == {name for name in after if name.startswith("head.blend.")}
    assert float(after["head.blend.nets.0.6.weight"].abs().max()) > 0
    assert figures["noted"] >= 2 * stage.BATCH
    assert figures["measured"]["named"] > 1 / 9  # better than by chance on what it has seen


def test_notes_are_added_to(model: Model, batches: Batches, tmp_path: Path) -> None:
    first = train_head(model.quality_model(), batches, 0.1, tmp_path)
    again = train_head(model.quality_model(), batches, 0.1, tmp_path, resume=True)
    assert again["noted"] >= first["noted"] + 2 * stage.BATCH
    fresh = train_head(model.quality_model(), batches, 0.1, tmp_path)
    assert fresh["noted"] < again["noted"]


def test_a_blend_goes_on_and_scales_the_locators_evidence_anew(
    model: Model, batches: Batches, tmp_path: Path
) -> None:
    model.head.add_locator({"degradations": 8, "width": 8, "inner": 8, "dilations": (1,)})
    quality = model.quality_model()
    train_head(quality, batches, 0.1, tmp_path / "first")
    first = model.head.blend
    assert first is not None
    scale, weight = first.center.clone(), first.nets[0][0].weight.detach().clone()
    model.head.locator.out.bias.data += 1  # type: ignore[union-attr]
    train_head(quality, batches, 0.1, tmp_path / "second", seed=1)
    assert model.head.blend is first
    assert model.head.evidences == 3 * 8
    anew = slice(-24 - streaks.MEASURES, -streaks.MEASURES)
    assert torch.equal(first.center[: anew.start], scale[: anew.start])
    assert not torch.equal(first.center[anew], scale[anew])
    assert not torch.equal(first.nets[0][0].weight, weight)


def test_a_blend_from_before_streaks_were_measured_goes_on(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.head.add_locator({"degradations": 8, "width": 8, "inner": 8, "dilations": (1,)})
    quality = model.quality_model()
    with monkeypatch.context() as before:
        before.setattr(streaks, "measure", lambda image: torch.zeros(0))
        before.setattr(streaks, "MEASURES", 0)
        train_head(quality, batches, 0.1, tmp_path / "first")
    first = model.head.blend
    assert first is not None
    photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen, told = torch.zeros(1, first.hidden), model.head.measures(photo)
    assert told.shape[1] == first.measures + streaks.MEASURES
    assert torch.equal(model.head(seen, told)[1], model.head(seen, told[:, : first.measures])[1])
    train_head(quality, batches, 0.1, tmp_path / "second", seed=1)
    wider = model.head.blend
    assert wider is not None
    assert wider.measures == first.measures + streaks.MEASURES
    classical = len(first.center) - 24
    assert torch.equal(wider.center[:classical], first.center[:classical])
    assert not torch.equal(wider.center[classical : classical + 24], first.center[classical:])
    assert float((wider.spread[classical + 24 :] - 1).abs().min()) > 0


def test_no_photo_of_the_notes_lies_on_its_side(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    crops = PhotoPool.crops
    monkeypatch.setattr(
        PhotoPool,
        "crops",
        lambda self, *args, **options: (
            asked.append(options["upright"]),
            crops(self, *args, **options),
        )[1],
    )
    train_head(model.quality_model(), batches, 0.1, tmp_path)
    assert asked
    assert all(asked)


def test_notes_of_another_model_are_refused(model: Model, batches: Batches, tmp_path: Path) -> None:
    train_head(model.quality_model(), batches, 0.1, tmp_path)
    model.head.config["hidden"] += 1
    with pytest.raises(CheckpointError, match="another model"):
        train_head(model.quality_model(), batches, 0.1, tmp_path, resume=True)
    assert (tmp_path / NOTES).is_file()


def test_published_head_has_no_place_for_measures(
    model: Model, batches: Batches, tmp_path: Path
) -> None:
    quality = model.quality_model()
    quality.head = ContrastiveHead()
    with pytest.raises(ConfigError, match="no classical measures"):
        train_head(quality, batches, 0.1, tmp_path)
