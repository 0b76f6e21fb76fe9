"""The published form of StableSR's adapter; its numbers are checked where it is converted."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from autodir.diffusion.adapters import AdaptedUnet, build_adapter
from autodir.diffusion.sft import SftAdapter
from autodir.diffusion.spade import AttendingEncoder, Spade
from autodir.errors import ConfigError


def told(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def adapter(unet: UNet2DConditionModel) -> SftAdapter:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return SftAdapter(unet, widths=(8, 16), features=8, hidden=4, form="published").eval()


def answer(network: AdaptedUnet, timestep: float = 400.0) -> Tensor:
    sample, tokens = told(2, 8, 8, 12), told(2, 5, 16, seed=1)
    result: Tensor = network(sample, torch.full((2,), timestep), tokens).sample
    return result


@torch.no_grad()
def test_features_are_normalized_before_they_are_bent() -> None:
    spade = Spade(8, 4, 16, 4)
    features, image = 5 + 3 * told(2, 16, 6, 6), told(2, 8, 6, 6, seed=1)
    for layer in (spade.gamma, spade.beta):
        for parameter in layer.parameters():
            parameter.zero_()
    plain = spade(features, image, 1.0)
    assert abs(float(plain.mean())) < 1e-4
    torch.testing.assert_close(plain, spade.norm(features))
    assert torch.equal(spade(features, image, 0.0), features)
    half = spade(features, image, 0.5)
    torch.testing.assert_close(half, (features + plain) / 2)


@torch.no_grad()
def test_the_encoder_gives_a_map_for_each_scale_and_knows_the_time() -> None:
    encoder = AttendingEncoder(4, (8, 8, 16), 8, 4, heads=2)
    early, late = (encoder(told(1, 4, 8, 12), torch.tensor([t])) for t in (900.0, 10.0))
    assert [tuple(one.shape) for one in early] == [(1, 8, 8, 12), (1, 8, 4, 6), (1, 8, 2, 3)]
    assert all(not torch.allclose(a, b) for a, b in zip(early, late, strict=True))


@torch.no_grad()
def test_strength_goes_from_the_unet_alone_to_the_whole(
    unet: UNet2DConditionModel, adapter: SftAdapter
) -> None:
    none, half, whole = (answer(AdaptedUnet(unet, adapter, s)) for s in (0.0, 0.5, 1.0))
    alone = unet(told(2, 8, 8, 12), torch.full((2,), 400.0), told(2, 5, 16, seed=1)).sample
    assert torch.equal(none, alone)
    assert not torch.allclose(half, none)
    assert not torch.allclose(half, whole)


def test_gradients_reach_the_adapter_alone(unet: UNet2DConditionModel, adapter: SftAdapter) -> None:
    frozen = copy.deepcopy(unet).requires_grad_(False)
    answer(AdaptedUnet(frozen, adapter.requires_grad_(True))).square().mean().backward()
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert all(parameter.grad is not None for parameter in adapter.parameters())


def test_the_form_is_part_of_the_configuration(
    unet: UNet2DConditionModel, adapter: SftAdapter
) -> None:
    again = build_adapter(adapter.config, unet)
    again.load_state_dict(adapter.state_dict())
    assert adapter.config["form"] == "published"
    assert SftAdapter(unet).config["form"] == "paper"
    with pytest.raises(ConfigError, match="form"):
        SftAdapter(unet, form="release")
