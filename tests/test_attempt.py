"""The evidence that a suspicion is tested by."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autodir import Restorer
from autodir.attempt import FIGURES, Attempt, evidence_of, suspicions_of
from autodir.checkpoint import Model, load_model, save_model
from autodir.diagnosis.contrastive import ContrastiveHead
from autodir.diagnosis.trial import Trial


@pytest.fixture
def model(tiny_model: Model) -> Model:
    return copy.deepcopy(tiny_model)


def sure(model: Model, bias: float, key: str = "rain") -> Trial:
    """A trial that always says the same."""
    config = {"figures": FIGURES[key], "hidden": 2, "members": 1}
    tried = model.head.add_trial(key, config)  # type: ignore[operator]
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
    assert torch.equal(Attempt(model, model.latent_diffusion(), "rain")(photo), photo + 0.125)
    assert told.alike
    prompt = model.clip.encode_text([model.taxonomy.prompt("rain")]).pooled
    torch.testing.assert_close(told.told, prompt)


def test_a_model_that_has_not_learnt_to_tries_nothing(model: Model) -> None:
    assert suspicions_of(model, model.latent_diffusion()) == []
    model.head = ContrastiveHead()
    assert suspicions_of(model, model.latent_diffusion()) == []


def test_drops_are_tried_where_there_is_a_clearing(model: Model) -> None:
    model.scm.clearing = None
    sure(model, 0.0, "raindrop")
    assert "raindrop" not in evidence_of(model, model.latent_diffusion())
    assert suspicions_of(model, model.latent_diffusion()) == []
    model.scm.add_clearing({"embed_dim": model.clip.embed_dim})
    assert [one.key for one in suspicions_of(model, model.latent_diffusion())] == ["raindrop"]


@pytest.mark.parametrize("key", FIGURES)
@pytest.mark.parametrize("size", [(64, 64), (67, 203), (90, 801)])
def test_there_is_as_much_evidence_as_is_said(
    model: Model, key: str, size: tuple[int, int]
) -> None:
    model.scm.add_clearing({"embed_dim": model.clip.embed_dim})
    photo = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    figures = evidence_of(model, model.latent_diffusion())[key](photo)
    assert figures is not None
    assert figures.shape == (FIGURES[key],)
    assert bool(figures.isfinite().all())


@pytest.mark.parametrize("key", FIGURES)
def test_a_suspicion_that_proves_right_is_what_the_diagnosis_says(model: Model, key: str) -> None:
    model.scm.add_clearing({"embed_dim": model.clip.embed_dim})
    photo = (torch.rand(96, 96, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    before = Restorer(model).diagnose(photo)
    threshold = min(1.0, before.presence[key] + 0.01)
    model.calibration = {**model.calibration, "thresholds": {key: threshold}}
    without = Restorer(model).diagnose(photo)
    sure(model, 30.0, key)
    found = Restorer(model).diagnose(photo)
    assert without.presence[key] < threshold <= found.presence[key]
    assert found.probabilities[key] > without.probabilities[key]
    assert sum(found.probabilities.values()) == pytest.approx(1)
    others = {other: value for other, value in found.presence.items() if other != key}
    assert others == {other: without.presence[other] for other in others}
    sure(model, -30.0, key)
    assert Restorer(model).diagnose(photo).presence == without.presence


def test_a_trial_is_stored_with_the_model(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    sure(model, 1.5)
    save_model(model, folder)
    again = load_model(folder)
    tried = again.head.trials["rain"]  # type: ignore[union-attr, index]
    assert float(tried(torch.zeros(1, FIGURES["rain"]))[0]) == pytest.approx(1.5, abs=1e-3)
