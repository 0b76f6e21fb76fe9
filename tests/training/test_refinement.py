"""The refinement stage trains dense convolutions alone, on what the frozen parts made."""

import copy
from pathlib import Path

import pytest
import torch

from autodir.checkpoint import Model
from autodir.errors import ContractError
from autodir.prompts import load_phrases
from autodir.training import refinement as stage
from autodir.training.batches import Batches
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions
from autodir.training.losses import relative_error
from autodir.training.refinement import train_refinement


@pytest.fixture(autouse=True)
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "CROP", 32)
    monkeypatch.setattr(stage, "WINDOW", 24)


@pytest.fixture
def told(model: Model) -> Instructions:
    torch.manual_seed(0)
    model.eval()
    config = {"embed_dim": model.clip.embed_dim, "width": 16, "dilations": (1, 1)}
    model.scm.add_refinement(config).train().requires_grad_(True)
    return Instructions(model.clip, model.taxonomy, load_phrases())


@pytest.mark.parametrize("sampled", [True, False])
def test_stage_changes_the_refinement_alone(
    model: Model,
    batches: Batches,
    told: Instructions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sampled: bool,
) -> None:
    monkeypatch.setattr(stage, "SAMPLED", 1.0)
    before = {name: copy.deepcopy(part.state_dict()) for name, part in model.modules.items()}
    options = LoopOptions(budget=1e6, max_steps=2, precision="bf16", log_every=1, warmup=1)
    diffusion = model.latent_diffusion() if sampled else None
    train_refinement(model.scm, diffusion, batches, told, options, tmp_path, batch=4)
    changed = {
        f"{name}.{key}".split("refinement")[0]
        for name, part in model.modules.items()
        for key, value in part.state_dict().items()
        if not torch.equal(before[name][key], value)
    }
    assert changed == {"scm."}
    assert (tmp_path / "samples.png").is_file()
    assert "beyond_db" in (tmp_path / "losses.csv").read_text()


def test_noise_is_learnt_in_a_few_steps(
    model: Model, batches: Batches, told: Instructions, tmp_path: Path
) -> None:
    noisy = batches.with_share(
        (1.0, 0.0, 0.0), {key: float(key == "noise") for key in batches.keys}
    )
    options = LoopOptions(
        budget=1e6, max_steps=60, precision="fp32", learning_rate=5e-3, warmup=5, ema=0.9
    )
    train_refinement(model.scm, None, noisy, told, options, tmp_path, batch=6)
    drawn = noisy.draw(12, 32, torch.Generator().manual_seed(9), least=0.4)
    text = told.draw(drawn.label, torch.Generator().manual_seed(0)).pooled
    with torch.no_grad():
        refined = drawn.degraded + model.scm(drawn.degraded, drawn.degraded, text)
        with model.scm.unrefined():
            plain = drawn.degraded + model.scm(drawn.degraded, drawn.degraded, text)
    errors = [float(relative_error(image, drawn.target).mean()) for image in (refined, plain)]
    assert errors[0] < errors[1] - 0.1


def test_corrector_without_a_refinement_is_refused(
    model: Model, batches: Batches, tmp_path: Path
) -> None:
    instructions = Instructions(model.clip, model.taxonomy, load_phrases())
    options = LoopOptions(budget=1.0)
    with pytest.raises(ContractError, match="no refinement"):
        train_refinement(model.scm, None, batches, instructions, options, tmp_path)
