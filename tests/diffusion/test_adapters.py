"""Adapters are built by name, and stand beside U-Nets of both kinds of input."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from autodir.config import ADAPTERS
from autodir.diffusion.adapters import KINDS, AdaptedUnet, build_adapter
from autodir.diffusion.unet import build_unet
from autodir.errors import ConfigError


def test_the_options_offer_these_kinds() -> None:
    assert set(ADAPTERS) == set(KINDS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_configuration_builds_the_same_shapes(kind: str, unet: UNet2DConditionModel) -> None:
    adapter = build_adapter({"kind": kind}, unet)
    again = build_adapter(adapter.config, unet)
    again.load_state_dict(adapter.state_dict())
    assert adapter.config["kind"] == kind


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_unet_that_sees_no_photo_learns_of_it_by_the_adapter(
    kind: str, unet: UNet2DConditionModel
) -> None:
    blind = build_unet({**unet.config, "in_channels": 4})
    adapter = build_adapter({"kind": kind}, blind)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1)
    network = AdaptedUnet(blind, adapter)
    assert network.config is blind.config
    noisy, tokens = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 16)
    with torch.no_grad():
        answers = [
            network(torch.cat([noisy, photo], 1), torch.tensor([5.0]), encoder_hidden_states=tokens)
            for photo in (torch.zeros(1, 4, 8, 8), torch.randn(1, 4, 8, 8))
        ]
    assert not torch.allclose(answers[0].sample, answers[1].sample)


@pytest.mark.parametrize("config", [{"kind": "lora"}, {}, {"kind": "sft", "depth": 3}])
def test_unknown_adapters_are_refused(
    config: dict[str, object], unet: UNet2DConditionModel
) -> None:
    with pytest.raises(ConfigError):
        build_adapter(config, unet)
