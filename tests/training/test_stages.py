"""Each stage's own numbers, and how options and scales overrule them."""

from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model
from autodir.config import TRAINING_PARTS, TrainOptions
from autodir.diagnosis.contrastive import ContrastiveHead
from autodir.errors import ConfigError, PromptError
from autodir.training import (
    clearing,
    correction,
    lighting,
    locator,
    refinement,
    sharpening,
    trial,
)
from autodir.training.batches import Batches
from autodir.training.loop import LoopOptions
from autodir.training.stages import STAGES, Recipe, Stage


def stage_of(model: Model, batches: Batches, folder: Path, **changes: object) -> Stage:
    known = {"data": folder, "out": folder, "budget": 60.0}
    recipe = changes.pop("recipe", None)
    return Stage(
        model=model,
        options=TrainOptions(part="all", **(known | changes)),
        loop=LoopOptions(budget=1e6, max_steps=1, precision="fp32"),
        run_dir=folder / "run",
        batches=batches,
        fresh=True,
        recipe=recipe,
    )


def test_every_part_of_the_command_line_is_a_stage() -> None:
    assert set(STAGES) == set(TRAINING_PARTS) - {"all"}


def test_options_go_before_the_scale_and_the_scale_before_the_stage(
    model: Model, batches: Batches, tmp_path: Path
) -> None:
    recipe = Recipe(rate=1e-4, batch=6, crop=96)
    assert stage_of(model, batches, tmp_path).batch(16) == 16
    assert stage_of(model, batches, tmp_path, recipe=recipe).batch(16) == 6
    assert stage_of(model, batches, tmp_path, recipe=recipe, batch=2).batch(16) == 2
    assert stage_of(model, batches, tmp_path).crop is None
    assert stage_of(model, batches, tmp_path, recipe=recipe).crop == 96


def test_locator_stage_makes_a_locator_once(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locator, "SIZES", (32,))
    run = STAGES["locator"][1]
    run(stage_of(model, batches, tmp_path, batch=2))
    first = model.head.locator
    assert first is not None
    model.head.add_blend(3)
    run(stage_of(model, batches, tmp_path, batch=2))
    assert model.head.locator is first
    assert model.head.measured  # the head stage goes on with its blend


def test_refinement_stage_makes_a_refinement_once(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "CROP", 32)
    run = STAGES["refinement"][1]
    assert model.scm.refinement is None
    run(stage_of(model, batches, tmp_path, batch=2))
    first = model.scm.refinement
    assert first is not None
    run(stage_of(model, batches, tmp_path, batch=2))
    assert model.scm.refinement is first


def test_chosen_experts_are_added_to_those_that_stand(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "CROP", 32)
    run = STAGES["refinement"][1]
    assert run(stage_of(model, batches, tmp_path, batch=2, experts=("Noise",))) == {
        "experts": ["noise"]
    }
    assert model.scm.refinement is not None
    before = {
        name: value.clone() for name, value in model.scm.refinement.experts.state_dict().items()
    }
    notes = run(stage_of(model, batches, tmp_path, batch=2, experts=("low-resolution",)))
    assert notes == {"experts": ["low_resolution"]}
    assert list(model.scm.refinement.experts) == ["noise", "low_resolution"]
    after = model.scm.refinement.experts.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert after["low_resolution.ending.bias"].any()
    with pytest.raises(PromptError, match="unknown degradation 'snow'"):
        run(stage_of(model, batches, tmp_path, experts=("snow",)))


def test_lighting_stage_makes_a_lighting_once_and_adds_experts(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lighting, "SIZES", (48,))
    monkeypatch.setattr(lighting, "SIZES_ALONE", (48,))
    monkeypatch.setattr(lighting, "COLLECTING", 0.0)
    monkeypatch.setattr(lighting, "ALONE", 0.0)
    run = STAGES["lighting"][1]
    notes = run(stage_of(model, batches, tmp_path, experts=("haze",)))
    assert notes["measured"].keys() == {"beyond_db_haze"}
    first = model.scm.lighting
    assert first is not None
    before = {name: value.clone() for name, value in first.experts.state_dict().items()}
    run(stage_of(model, batches, tmp_path, experts=("Underexposure",)))
    assert model.scm.lighting is first
    assert list(first.experts) == ["haze", "underexposure"]
    after = first.experts.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    with pytest.raises(PromptError, match="unknown degradation 'snow'"):
        run(stage_of(model, batches, tmp_path, experts=("snow",)))


def test_trial_stage_gives_the_head_trials_of_its_own(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "SIZES", (128,))
    monkeypatch.setattr(trial, "COLLECTING", 0.0)
    model.scm.add_clearing({"embed_dim": model.clip.embed_dim})
    run = STAGES["trial"][1]
    figures = run(stage_of(model, batches, tmp_path, experts=("rain",)))
    assert figures["noted"] == {"rain": 2 * trial.BATCH}
    assert figures["measured"].keys() == {"found_rain", "spared_rain"}
    head = model.head
    first = head.trials["rain"]  # type: ignore[union-attr, index]
    assert head.config["trials"] == {"rain": first.config}  # type: ignore[union-attr]
    run(stage_of(model, batches, tmp_path, experts=("Raindrop",)))
    assert head.trials["rain"] is first  # type: ignore[union-attr, index]
    assert run(stage_of(model, batches, tmp_path))["experts"] == ["rain", "raindrop"]
    assert head.trials["rain"] is not first  # type: ignore[union-attr, index]
    with pytest.raises(ConfigError, match="suspicion of haze"):
        run(stage_of(model, batches, tmp_path, experts=("haze",)))
    model.head = ContrastiveHead()
    with pytest.raises(ConfigError, match="tries no suspicion"):
        run(stage_of(model, batches, tmp_path))


def test_clearing_stage_makes_a_clearing_once_from_the_locator(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clearing, "CROP", 32)
    locator = model.head.add_locator({"degradations": 8})  # type: ignore[operator]
    given: list[object] = []
    original = clearing.begin_with
    monkeypatch.setattr(
        clearing, "begin_with", lambda expert, trunk: (given.append(trunk), original(expert, trunk))
    )
    run = STAGES["clearing"][1]
    assert run(stage_of(model, batches, tmp_path, batch=2)) == {"experts": ["raindrop"]}
    first = model.scm.clearing
    assert first is not None
    assert first.experts["raindrop"].out.bias.any()  # type: ignore[union-attr]
    run(stage_of(model, batches, tmp_path, batch=2))
    assert model.scm.clearing is first
    assert given == [locator]


def test_sharpening_stage_makes_a_sharpening_once(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharpening, "COLLECTING", 0.0)
    run = STAGES["sharpening"][1]
    notes = run(stage_of(model, batches, tmp_path))
    assert notes["experts"] == ["blur"]
    assert notes["measured"].keys() == {"beyond_db_blur"}
    first = model.scm.sharpening
    assert first is not None
    run(stage_of(model, batches, tmp_path))
    assert model.scm.sharpening is first
    assert list(first.experts) == ["blur"]


def test_correction_stage_leaves_a_refinement_alone(
    model: Model, batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correction, "CROP", 32)
    model.scm.add_refinement({"embed_dim": model.clip.embed_dim, "width": 8, "dilations": (1,)})
    before = {key: value.clone() for key, value in model.scm.state_dict().items()}
    STAGES["correction"][1](stage_of(model, batches, tmp_path, batch=2))
    after = model.scm.state_dict()
    assert after.keys() == before.keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    assert not any(key.startswith("refinement") for key in changed)


def test_published_head_knows_no_locator(model: Model, batches: Batches, tmp_path: Path) -> None:
    model.head = ContrastiveHead()
    with pytest.raises(ConfigError, match="no locator"):
        STAGES["locator"][1](stage_of(model, batches, tmp_path))
    assert torch.is_grad_enabled()
