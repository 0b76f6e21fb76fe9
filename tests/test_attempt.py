"""The repair that a suspicion is tested by."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autodir import Restorer
from autodir.attempt import Attempt, suspicion_of
from autodir.checkpoint import Model, load_model, save_model
from autodir.diagnosis.contrastive import ContrastiveHead
from autodir.diagnosis.trial import KEY, Trial


@pytest.fixture
def model(tiny_model: Model) -> Model:
    return copy.deepcopy(tiny_model)


def sure(model: Model, bias: float) -> Trial:
    """A trial that always says the same."""
    tried = model.head.add_trial({"hidden": 2, "members": 1})  # type: ignore[operator]
    with torch.no_grad():
        tried.members[0][-1].weight.zero_()
        tried.members[0][-1].bias.fill_(bias)
    return tried.eval()


class Told(torch.nn.Module):
    """A correction that keeps what it was told."""

    def forward(self, degraded: Tensor, restored: Tensor, instruction: Tensor) -> Tensor:
        self.told, self.alike = instruction, degraded is restored
        return torch.full_like(degraded, 0.125)


def test_it_is_the_correction_alone_told_to_remove_rain(model: Model) -> None:
    photo = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    model.scm = told = Told()  # type: ignore[assignment]
    assert torch.equal(Attempt(model, model.latent_diffusion())(photo), photo + 0.125)
    assert told.alike
    prompt = model.clip.encode_text([model.taxonomy.prompt(KEY)]).pooled
    torch.testing.assert_close(told.told, prompt)


def test_a_model_that_has_not_learnt_to_tries_nothing(model: Model) -> None:
    assert suspicion_of(model, model.latent_diffusion()) is None
    model.head = ContrastiveHead()
    assert suspicion_of(model, model.latent_diffusion()) is None


def test_a_suspicion_that_proves_right_is_what_the_diagnosis_says(model: Model) -> None:
    photo = (torch.rand(96, 96, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    before = Restorer(model).diagnose(photo)
    threshold = min(1.0, before.presence[KEY] + 0.01)
    model.calibration = {**model.calibration, "thresholds": {KEY: threshold}}
    without = Restorer(model).diagnose(photo)
    sure(model, 30.0)
    found = Restorer(model).diagnose(photo)
    assert without.presence[KEY] < threshold <= found.presence[KEY]
    assert found.probabilities[KEY] > without.probabilities[KEY]
    assert sum(found.probabilities.values()) == pytest.approx(1)
    others = {key: value for key, value in found.presence.items() if key != KEY}
    assert others == {key: without.presence[key] for key in others}
    sure(model, -30.0)
    assert Restorer(model).diagnose(photo).presence == without.presence


def test_a_trial_is_stored_with_the_model(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    sure(model, 1.5)
    save_model(model, folder)
    again = load_model(folder)
    assert again.head.trial is not None  # type: ignore[union-attr]
    figures = torch.zeros(1, len(again.head.trial.center))  # type: ignore[union-attr, arg-type]
    assert float(again.head.trial(figures)[0]) == pytest.approx(1.5, abs=1e-3)  # type: ignore[union-attr, operator]
