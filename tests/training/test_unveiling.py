"""The unveiling stage trains its experts alone, begins with a locator's features, and learns."""

import copy
from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model
from autodir.correction.unveiling import Unveiler, lifted
from autodir.diagnosis.locator import Locator
from autodir.errors import ContractError
from autodir.prompts import load_phrases
from autodir.training import unveiling as stage
from autodir.training.batches import Batches
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions
from autodir.training.losses import relative_error
from autodir.training.unveiling import train_unveiling

SHAPE = {"width": 8, "inner": 8, "wide": (8, 12), "dilations": (1, 2)}


@pytest.fixture(autouse=True)
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "CROP", 48)


@pytest.fixture
def told(model: Model) -> Instructions:
    torch.manual_seed(0)
    model.eval()
    model.scm.add_unveiling({"embed_dim": model.clip.embed_dim, **SHAPE})
    model.scm.unveiling.train().requires_grad_(True)  # type: ignore[union-attr]
    return Instructions(model.clip, model.taxonomy, load_phrases())


def test_stage_changes_the_unveiling_alone(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path
) -> None:
    before = {name: copy.deepcopy(part.state_dict()) for name, part in model.modules.items()}
    options = LoopOptions(budget=1e6, max_steps=2, precision="bf16", log_every=1, warmup=1)
    train_unveiling(model.scm, batches, told, options, tmp_path / "run", batch=2)
    changed = {
        f"{name}.{key}".split("unveiling")[0]
        for name, part in model.modules.items()
        for key, value in part.state_dict().items()
        if not torch.equal(before[name][key], value)
    }
    assert changed == {"scm."}
    assert (tmp_path / "run-haze" / "samples.png").is_file()
    assert "gain_db" in (tmp_path / "run-haze" / "losses.csv").read_text()
    prompts = told.encoder.encode([model.taxonomy.prompt(key) for key in ("haze", "rain")])
    with torch.no_grad():
        shares = model.scm.unveiling.shares(prompts.pooled)  # type: ignore[union-attr]
    assert (shares > 0.5).tolist() == [[True], [False]]


def test_a_veil_is_lifted(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path
) -> None:
    unveiling = model.scm.unveiling
    assert unveiling is not None
    options = LoopOptions(
        budget=1e6, max_steps=60, precision="fp32", learning_rate=1e-2, warmup=5, ema=0.9
    )
    train_unveiling(model.scm, batches, told, options, tmp_path / "run", batch=4)
    seen = batches.alone("haze").draw(8, 48, torch.Generator().manual_seed(9), least=0.4)
    with torch.no_grad():
        result = lifted(seen.degraded, *unveiling.experts["haze"](seen.degraded))
    errors = [float(relative_error(one, seen.target).mean()) for one in (result, seen.degraded)]
    assert errors[0] < errors[1] - 0.3


def test_a_fresh_expert_begins_with_the_features_of_a_locator(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    unveiling = model.scm.unveiling
    assert unveiling is not None
    expert = unveiling.experts["haze"]
    assert isinstance(expert, Unveiler)
    first, other = (Locator(degradations=3, width=8, inner=8, dilations=(1, 2)) for _ in range(2))
    options = LoopOptions(budget=1e6, max_steps=1, precision="fp32", learning_rate=1e-12)
    name = "0.0.weight"
    train_unveiling(model.scm, batches, told, options, tmp_path / "a", trunk=first, batch=2)
    mine, learnt = expert.stem.state_dict()[name], first.stem.state_dict()[name]
    torch.testing.assert_close(mine, learnt, atol=1e-4, rtol=0)
    expert.out.weight.data.fill_(0.1)  # one that has learnt something keeps its own
    train_unveiling(model.scm, batches, told, options, tmp_path / "b", trunk=other, batch=2)
    assert not torch.equal(expert.stem.state_dict()[name], other.stem.state_dict()[name])


def test_corrector_without_an_unveiling_is_refused(
    model: Model, batches: Batches, tmp_path: Path
) -> None:
    model.eval()
    instructions = Instructions(model.clip, model.taxonomy, load_phrases())
    with pytest.raises(ContractError, match="no unveiling"):
        train_unveiling(model.scm, batches, instructions, LoopOptions(budget=1.0), tmp_path)
