"""The correction stage trains the SCM and nothing else, on sampled images or without."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autodir.checkpoint import Model
from autodir.prompts import load_phrases
from autodir.training import correction as stage
from autodir.training import replay
from autodir.training.batches import BLIND, Batches
from autodir.training.correction import train_correction
from autodir.training.instructions import Instructions
from autodir.training.loop import LoopOptions
from autodir.training.losses import relative_error

TWO_STEPS = LoopOptions(budget=1e6, max_steps=2, precision="bf16", log_every=1, warmup=1)


@pytest.fixture(autouse=True)
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "CROP", 32)


@pytest.fixture
def told(model: Model) -> Instructions:
    model.eval()
    model.scm.train().requires_grad_(True)
    return Instructions(model.clip, model.taxonomy, load_phrases())


@pytest.mark.parametrize("sampled", [True, False])
def test_stage_changes_the_correction_alone(
    model: Model,
    batches: Batches,
    told: Instructions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sampled: bool,
) -> None:
    monkeypatch.setattr(stage, "SAMPLED", 1.0)
    before = {name: copy.deepcopy(part.state_dict()) for name, part in model.modules.items()}
    diffusion = model.latent_diffusion() if sampled else None
    train_correction(model.scm, diffusion, batches, told, TWO_STEPS, tmp_path, batch=4)
    changed = {
        name
        for name, part in model.modules.items()
        if any(
            not torch.equal(before[name][key], value) for key, value in part.state_dict().items()
        )
    }
    assert changed == {"scm"}
    assert not model.scm.training
    assert (tmp_path / "samples.png").is_file()
    assert "gain_db" in (tmp_path / "losses.csv").read_text()


def test_sampled_images_wait_for_their_share_of_the_budget(
    model: Model,
    batches: Batches,
    told: Instructions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stage, "SAMPLED", 1.0)
    diffusion = model.latent_diffusion()
    sampled: list[Tensor] = []
    original = diffusion.sample

    def counted(*given, **named):  # type: ignore[no-untyped-def]
        sampled.append(original(*given, **named))
        return sampled[-1]

    monkeypatch.setattr(diffusion, "sample", counted)
    four = LoopOptions(budget=1e6, max_steps=4, precision="fp32", warmup=1)
    train_correction(
        model.scm, diffusion, batches, told, four, tmp_path, batch=2, sample_from=0.5, reuse=1
    )
    assert len(sampled) == 2 + 1  # two steps of four, and the sheet at the end


def test_samples_are_used_several_times_and_half_of_them_know_blind_chains(
    model: Model,
    batches: Batches,
    told: Instructions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay, "FIRST", 16)
    drawn_with: list[str | None] = []
    original = Batches.draw

    def noted(self: Batches, *given, **named):  # type: ignore[no-untyped-def]
        drawn_with.append(self.chain)
        return original(self, *given, **named)

    monkeypatch.setattr(Batches, "draw", noted)
    six = LoopOptions(budget=1e6, max_steps=6, precision="fp32", warmup=1)
    train_correction(model.scm, None, batches, told, six, tmp_path, batch=2, reuse=3)
    assert len(drawn_with) == 1 + 16 + 1  # the sheet's, the first ones, one at the fourth step
    assert set(drawn_with[1:]) == {None, *BLIND}


def test_training_gains_on_what_it_sees(
    model: Model,
    batches: Batches,
    told: Instructions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the degraded photo at the start, thirty steps must not end below it."""
    drawn = batches.draw(16, 32, torch.Generator().manual_seed(5))
    thirty = LoopOptions(budget=1e6, max_steps=30, precision="fp32", learning_rate=3e-3, warmup=3)
    batches.draw = lambda *_, **__: drawn  # type: ignore[method-assign]
    monkeypatch.setattr(batches, "with_blind", lambda: [batches])
    train_correction(model.scm, None, batches, told, thirty, tmp_path, batch=16, reuse=1)
    text = told.draw(drawn.label, torch.Generator().manual_seed(0)).pooled
    with torch.no_grad():
        result = drawn.degraded + model.scm(drawn.degraded, drawn.degraded, text)
    errors = [relative_error(image, drawn.target).mean() for image in (result, drawn.degraded)]
    assert float(errors[0]) < float(errors[1])
