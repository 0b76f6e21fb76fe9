"""The options that make the restore loop the published one, each on its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from autodir.checkpoint import Model
from autodir.config import RestoreOptions
from autodir.diffusion.settings import DiffusionConfig
from autodir.pipeline import Restorer


@pytest.fixture
def restorer(tiny_model: Model) -> Restorer:
    return Restorer(tiny_model)


def photo() -> Tensor:
    return torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))


def test_rounds_may_share_their_noise(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    repair = restorer._repair

    def noted(*arguments: Any) -> tuple[Tensor, str]:
        drawn.append(float(arguments[5].normal((1,))))
        return repair(*arguments)

    monkeypatch.setattr(restorer, "_repair", noted)
    for same in (False, True):
        restorer.restore(photo(), RestoreOptions(guard=False, max_steps=2, same_noise=same))
    assert drawn[0] == drawn[2] == drawn[3] != drawn[1]


def test_options_change_how_the_diffusion_works(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[DiffusionConfig] = []
    repair = restorer._repair

    def noted(*arguments: Any) -> tuple[Tensor, str]:
        used.append(arguments[3].config)
        return repair(*arguments)

    monkeypatch.setattr(restorer, "_repair", noted)
    changed = {"working_pixels": 5000, "prompt_padding": "seen", "clamp": False}
    for options in ({}, changed):
        restorer.restore(photo(), RestoreOptions(guard=False, max_steps=1, **options))
    assert used[0] == restorer.model.diffusion
    assert (used[1].working_pixels, used[1].mask_prompts, used[1].clamp) == (5000, False, False)


def test_result_is_displayable_even_where_rounds_are_not(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restorer, "_repair", lambda current, *_: (current * 3 - 1, ""))
    seen: list[Tensor] = []
    diagnose = restorer.diagnoser.diagnose
    monkeypatch.setattr(
        restorer.diagnoser, "diagnose", lambda *given: seen.append(given[0]) or diagnose(*given)
    )
    monkeypatch.setattr(restorer.diagnoser, "quick", lambda: restorer.diagnoser)
    result = restorer.restore(photo(), RestoreOptions(guard=False, max_steps=1, clamp=False))
    assert float(seen[-1].min()) < 0
    assert torch.equal(result.image.pixels, (photo() * 3 - 1).clamp(0, 1))


def test_guard_looks_as_the_loop_does(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    crops: list[int] = []
    quality = restorer.diagnoser.model
    monkeypatch.setattr(
        quality, "forward", lambda image, number=3: crops.append(number) or type(quality).forward(
            quality, image, number
        ),
    )  # fmt: skip
    restorer.restore(photo(), RestoreOptions(max_steps=1, crops=1))
    assert set(crops) == {1}
