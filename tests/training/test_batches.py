"""Batches: shares are kept, labels name the main degradation, real pairs replace their own kind."""

from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model
from autodir.training import batches as module
from autodir.training.batches import Batches, as_found, least_severity
from autodir.training.data import PairPool, PhotoPool


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batches_of(
    photo_folder: Path,
    model: Model,
    share: tuple[float, float, float],
    pairs: Path | None = None,
) -> Batches:
    return Batches(PhotoPool(photo_folder), PairPool(pairs), model.taxonomy, share=share)


def test_batch_has_the_shapes_and_ranges_promised(batches: Batches) -> None:
    drawn = batches.draw(6, 32, random())
    assert drawn.degraded.shape == drawn.target.shape == (6, 3, 32, 32)
    assert drawn.label.shape == (6,)
    assert drawn.presence.shape == (6, 8)
    assert drawn.presence.dtype == torch.float32
    assert 0 <= float(drawn.degraded.min()) <= float(drawn.degraded.max()) <= 1


def test_batch_depends_on_the_generator_alone(batches: Batches) -> None:
    first, again, other = (batches.draw(4, 32, random(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.degraded, again.degraded)
    assert torch.equal(first.label, again.label)
    assert not torch.equal(first.degraded, other.degraded)


def test_single_degradations_only(photo_folder: Path, tiny_model: Model) -> None:
    drawn = batches_of(photo_folder, tiny_model, (1, 0, 0)).draw(24, 32, random())
    taxonomy = tiny_model.taxonomy
    assert drawn.presence.sum(1).tolist() == [1] * 24
    named = [taxonomy.keys[label] for label in drawn.label.tolist()]
    present = [[d.key for d in taxonomy][int(row.argmax())] for row in drawn.presence]
    assert named == present
    assert len(set(named)) > 3


def test_clean_photos_only(photo_folder: Path, tiny_model: Model) -> None:
    drawn = batches_of(photo_folder, tiny_model, (0, 0, 1)).draw(5, 32, random())
    assert drawn.label.tolist() == [tiny_model.taxonomy.clean_index] * 5
    assert float(drawn.presence.sum()) == 0
    assert torch.equal(drawn.degraded, drawn.target)


def test_several_degradations_only(photo_folder: Path, tiny_model: Model) -> None:
    drawn = batches_of(photo_folder, tiny_model, (0, 1, 0)).draw(10, 32, random())
    assert set(drawn.presence.sum(1).tolist()) <= {2, 3}
    main = [tiny_model.taxonomy.keys[label] for label in drawn.label.tolist()]
    keys = [degradation.key for degradation in tiny_model.taxonomy]
    assert all(row[keys.index(key)] == 1 for row, key in zip(drawn.presence, main, strict=True))


def test_real_pairs_take_the_place_of_their_own_kind_alone(
    photo_folder: Path, pair_folder: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REAL_SHARE", {"noise": 1.0})
    drawn = batches_of(photo_folder, tiny_model, (1, 0, 0), pair_folder).draw(32, 32, random())
    noise = drawn.label == tiny_model.taxonomy.index("noise")
    real = (drawn.degraded == 51 / 255).flatten(1).all(1)
    assert int(noise.sum()) > 0
    assert torch.equal(real, noise)
    assert torch.equal((drawn.target == 102 / 255).flatten(1).all(1), noise)


def test_real_pairs_never_replace_several_degradations(
    photo_folder: Path, pair_folder: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REAL_SHARE", {"noise": 1.0})
    drawn = batches_of(photo_folder, tiny_model, (0, 1, 0), pair_folder).draw(16, 32, random())
    assert not bool((drawn.degraded == 51 / 255).flatten(1).all(1).any())


def test_share_of_real_pairs_is_kept(
    photo_folder: Path, pair_folder: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REAL_SHARE", {"noise": 0.0})
    drawn = batches_of(photo_folder, tiny_model, (1, 0, 0), pair_folder).draw(32, 32, random())
    assert not bool((drawn.degraded == 51 / 255).flatten(1).all(1).any())


def test_batch_moves_as_a_whole(batches: Batches) -> None:
    moved = batches.draw(2, 32, random()).to(torch.device("meta"))
    tensors = (moved.degraded, moved.target, moved.label, moved.presence)
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_samples_of_low_resolution_follow_the_chain_that_is_asked_for(
    photo_folder: Path, tiny_model: Model
) -> None:
    parts = (PhotoPool(photo_folder), PairPool(None), tiny_model.taxonomy)
    usual, chained = (
        Batches(*parts, share=(1.0, 0.0, 0.0), chain=chain).draw(24, 32, random(4))
        for chain in (None, "realesrgan")
    )
    assert torch.equal(usual.label, chained.label)
    rows = usual.label == tiny_model.taxonomy.index("low_resolution")
    assert bool(rows.any())
    differs = (usual.degraded != chained.degraded).flatten(1).any(1)
    assert torch.equal(differs, rows)
    assert torch.equal(usual.target, chained.target)


def test_least_severity_sinks_and_stays() -> None:
    shares = [least_severity((0.5, 0.4, 0.08), progress) for progress in (0.0, 0.2, 0.4, 1.0)]
    assert shares == pytest.approx([0.5, 0.25, 0.08, 0.08])


def test_one_degradation_alone(batches: Batches, model: Model) -> None:
    drawn = batches.alone("rain").draw(12, 32, torch.Generator().manual_seed(0))
    assert set(drawn.label.tolist()) == {model.taxonomy.index("rain")}
    assert drawn.presence.sum(1).tolist() == [1.0] * 12


def test_photos_are_shown_as_people_have_them() -> None:
    generator = torch.Generator().manual_seed(0)
    photos = torch.rand(80, 3, 16, 16, generator=generator)
    seen = as_found(photos, generator)
    gray = (seen.amax(1) - seen.amin(1)).flatten(1).amax(1) < 0.02
    changed = (seen != photos).flatten(1).any(1)
    expected = module.GRAY + module.AS_FILES * (1 - module.GRAY)
    assert abs(float(gray.float().mean()) - module.GRAY) < 0.08
    assert abs(float(changed.float().mean()) - expected) < 0.15
    assert float((seen - photos)[~gray].abs().mean()) < 0.1
