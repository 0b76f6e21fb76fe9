"""The clearing stage trains its experts alone, begins with a locator's features, and learns."""

import copy
from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model
from autodir.correction.clearing import Clearer
from autodir.diagnosis.locator import Locator
from autodir.errors import ContractError
from autodir.prompts import load_phrases
from autodir.training import clearing as stage
from autodir.training.batches import Batches
from autodir.training.clearing import begin_with, train_clearing
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions
from autodir.training.losses import relative_error

SHAPE = {"width": 8, "inner": 8, "wide": (8, 12), "dilations": (1, 2)}


@pytest.fixture(autouse=True)
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "CROP", 48)


@pytest.fixture
def told(model: Model) -> Instructions:
    torch.manual_seed(0)
    model.eval()
    model.scm.add_clearing({"embed_dim": model.clip.embed_dim, **SHAPE})
    model.scm.clearing.train().requires_grad_(True)  # type: ignore[union-attr]
    return Instructions(model.clip, model.taxonomy, load_phrases())


def test_stage_changes_the_clearing_alone(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path
) -> None:
    before = {name: copy.deepcopy(part.state_dict()) for name, part in model.modules.items()}
    options = LoopOptions(budget=1e6, max_steps=2, precision="bf16", log_every=1, warmup=1)
    train_clearing(model.scm, batches, told, options, tmp_path / "run", batch=2)
    changed = {
        f"{name}.{key}".split("clearing")[0]
        for name, part in model.modules.items()
        for key, value in part.state_dict().items()
        if not torch.equal(before[name][key], value)
    }
    assert changed == {"scm."}
    assert (tmp_path / "run-raindrop" / "samples.png").is_file()
    assert "gain_db" in (tmp_path / "run-raindrop" / "losses.csv").read_text()
    prompts = told.encoder.encode([model.taxonomy.prompt(key) for key in ("raindrop", "rain")])
    with torch.no_grad():
        shares = model.scm.clearing.shares(prompts.pooled)  # type: ignore[union-attr]
    assert (shares > 0.5).tolist() == [[True], [False]]


def test_what_darkens_a_photo_is_taken_off(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path
) -> None:
    clearing = model.scm.clearing
    assert clearing is not None
    options = LoopOptions(
        budget=1e6, max_steps=60, precision="fp32", learning_rate=1e-2, warmup=5, ema=0.9
    )
    train_clearing(
        model.scm, batches, told, options, tmp_path / "run", experts=("underexposure",), batch=4
    )
    seen = batches.alone("underexposure").draw(8, 48, torch.Generator().manual_seed(9), least=0.4)
    expert = clearing.experts["underexposure"]
    with torch.no_grad():
        cover, slope, offset = expert(seen.degraded)
        result = stage._applied(seen.degraded, slope, offset)
    errors = [float(relative_error(one, seen.target).mean()) for one in (result, seen.degraded)]
    assert errors[0] < errors[1] - 0.3
    assert float(cover.mean()) > 0.6


def test_a_fresh_expert_begins_with_the_features_of_a_locator(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    locator = Locator(degradations=3, width=8, inner=8, dilations=(1, 2))
    clearing = model.scm.clearing
    assert clearing is not None
    expert = clearing.experts["raindrop"]
    assert isinstance(expert, Clearer)
    begin_with(expert, Locator(degradations=3, width=8, inner=8, dilations=(1, 2, 4)))
    learnt = locator.stem.state_dict()
    assert not torch.equal(expert.stem.state_dict()["0.0.weight"], learnt["0.0.weight"])
    options = LoopOptions(budget=1e6, max_steps=1, precision="fp32", learning_rate=1e-12)
    for own in (locator, None):
        train_clearing(model.scm, batches, told, options, tmp_path / "a", trunk=own, batch=2)
    for name in ("stem", "body"):
        mine = getattr(expert, name).state_dict()
        for key, value in getattr(locator, name).state_dict().items():
            if key.endswith("weight"):
                torch.testing.assert_close(mine[key], value, atol=1e-4, rtol=0)
    expert.out.weight.data.fill_(0.1)  # one that has learnt something keeps its own
    other = Locator(degradations=3, width=8, inner=8, dilations=(1, 2))
    train_clearing(model.scm, batches, told, options, tmp_path / "b", trunk=other, batch=2)
    assert not torch.equal(
        expert.stem.state_dict()["0.0.weight"], other.stem.state_dict()["0.0.weight"]
    )


def test_corrector_without_a_clearing_is_refused(
    model: Model, batches: Batches, tmp_path: Path
) -> None:
    instructions = Instructions(model.clip, model.taxonomy, load_phrases())
    with pytest.raises(ContractError, match="no clearing"):
        train_clearing(model.scm, batches, instructions, LoopOptions(budget=1.0), tmp_path)
