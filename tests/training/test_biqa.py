"""The quality model's stage trains image tower and head, and leaves the text tower alone."""

from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model
from autodir.training import biqa as stage
from autodir.training.batches import Batches, Drawn
from autodir.training.biqa import Located, presence_left, train_biqa
from autodir.training.loop import LoopOptions

TWO_STEPS = LoopOptions(budget=1e6, max_steps=2, precision="fp32", log_every=1, warmup=1)


@pytest.fixture(autouse=True)
def small_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SIZES", (32, 48))


def test_stage_leaves_the_text_tower_alone(model: Model, batches: Batches, tmp_path: Path) -> None:
    text = {id(parameter) for parameter in model.clip.text_parameters()}
    quality = model.quality_model()
    before = {name: parameter.clone() for name, parameter in quality.named_parameters()}
    prompts = quality.prompts.clone()
    trained = train_biqa(quality, batches, TWO_STEPS, tmp_path, batch=4)
    changed = {n for n, p in trained.named_parameters() if not torch.equal(before[n], p)}
    frozen = {name for name, parameter in quality.named_parameters() if id(parameter) in text}
    assert not changed & frozen
    assert any(name.startswith("clip.towers.visual") for name in changed)
    assert {"head.embed.weight", "head.presence.weight", "head.fuse.0.weight"} <= changed
    assert torch.equal(trained.prompts, prompts)


def test_rows_tell_every_term(model: Model, batches: Batches, tmp_path: Path) -> None:
    train_biqa(model.quality_model(), batches, TWO_STEPS, tmp_path, batch=4)
    header = (tmp_path / "losses.csv").read_text().splitlines()[0].split(",")
    assert {"fidelity", "clean_target", "presence", "accuracy", "clean_accuracy"} <= set(header)


@pytest.mark.parametrize("share", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_batches_of_one_kind_have_a_finite_loss(
    model: Model, batches: Batches, tmp_path: Path, share: tuple[float, float, float]
) -> None:
    batches.share = share
    train_biqa(model.quality_model(), batches, TWO_STEPS, tmp_path, batch=3)
    last = (tmp_path / "losses.csv").read_text().splitlines()[-1]
    assert last.endswith(",0")  # no step was skipped
    assert last.split(",")[3] != "nan"


def test_target_keeps_all_but_the_main_degradation(model: Model) -> None:
    taxonomy = model.taxonomy
    keys = [degradation.key for degradation in taxonomy]
    presence = torch.zeros(2, len(keys))
    presence[0, [keys.index("rain"), keys.index("noise")]] = 1
    labels = torch.tensor([taxonomy.index("noise"), taxonomy.clean_index])
    empty = torch.zeros(2, 3, 1, 1)
    drawn = Drawn(degraded=empty, target=empty, label=labels, presence=presence)
    left = presence_left(drawn, model.quality_model())
    assert left[0].nonzero().flatten().tolist() == [keys.index("rain")]
    assert float(left[1].sum()) == 0
    assert float(presence[0].sum()) == 2  # the batch itself is not changed


def test_maps_learn_where_a_photo_was_changed(model: Model) -> None:
    quality = model.quality_model()
    located = Located(quality)
    photos = torch.rand(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    _, presence, maps = located(photos, 1)
    assert maps is not None
    assert maps.shape[:3] == (3, 2, presence.shape[1])
    taxonomy = quality.taxonomy
    column = [degradation.key for degradation in taxonomy].index("rain")
    changed, there = photos[:2].clone(), torch.zeros(2, presence.shape[1])
    changed[0] = 1 - changed[0]
    there[0, column] = 1
    labels = torch.tensor([taxonomy.index("rain"), taxonomy.clean_index])
    drawn = Drawn(degraded=changed, target=photos[:2], label=labels, presence=there)
    left = torch.zeros(1, presence.shape[1])
    found = torch.full_like(maps, -20.0)
    found[0, :, column] = 20.0
    missed = torch.full_like(maps, -20.0)
    right = stage._local_loss(found, drawn, left, quality, 1)
    wrong = stage._local_loss(missed, drawn, left, quality, 1)
    assert float(right) < 0.01 < 1 < float(wrong)
    assert located.release() is quality
    before = quality(photos, whole=False)[0]
    assert located._kept is None
    assert torch.equal(before, quality(photos, whole=False)[0])


def test_tower_without_the_layer_is_trained_without_maps(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "LOCAL_LAYER", "layer9")
    quality = model.quality_model()
    assert Located(quality)(torch.rand(1, 3, 48, 48), 1)[2] is None
    train_biqa(quality, batches, TWO_STEPS, tmp_path, batch=4)
    header, *rows = (tmp_path / "losses.csv").read_text().splitlines()
    assert float(rows[-1].split(",")[header.split(",").index("local")]) == 0
