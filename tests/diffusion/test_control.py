"""IRControlNet: nothing before training, gradients to the adapter alone, and off at strength 0."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from autodir.diffusion.adapters import AdaptedUnet
from autodir.diffusion.control import ControlAdapter, expanded


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(2, 8, 8, 12, generator=generator),
        torch.tensor([700.0, 30.0]),
        torch.randn(2, 5, 16, generator=generator),
    )


def stirred(adapter: ControlAdapter) -> ControlAdapter:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return adapter


def answer(network: object, seed: int = 0) -> Tensor:
    sample, timestep, tokens = inputs(seed)
    result: Tensor = network(sample, timestep, encoder_hidden_states=tokens).sample  # type: ignore[operator]
    return result


def test_a_fresh_adapter_changes_no_bit(unet: UNet2DConditionModel) -> None:
    with torch.no_grad():
        assert torch.equal(answer(AdaptedUnet(unet, ControlAdapter(unet))), answer(unet))


def test_strength_zero_is_the_unet_alone_and_one_is_not(unet: UNet2DConditionModel) -> None:
    adapter = stirred(ControlAdapter(unet))
    with torch.no_grad():
        assert torch.equal(answer(AdaptedUnet(unet, adapter, strength=0)), answer(unet))
        half, whole = (answer(AdaptedUnet(unet, adapter, strength=s)) for s in (0.5, 1.0))
    assert not torch.allclose(whole, answer(unet))
    assert not torch.allclose(half, whole)


def test_the_photo_is_not_heard_before_training(unet: UNet2DConditionModel) -> None:
    conv = expanded(unet.conv_in, 4)
    x = torch.randn(1, 8, 8, 8)
    for photo in (torch.zeros(1, 4, 8, 8), torch.randn(1, 4, 8, 8)):
        torch.testing.assert_close(conv(torch.cat([x, photo], 1)), unet.conv_in(x))


def test_gradients_reach_the_adapter_alone(unet: UNet2DConditionModel) -> None:
    frozen = copy.deepcopy(unet).requires_grad_(False)
    adapter = stirred(ControlAdapter(frozen)).requires_grad_(True)
    answer(AdaptedUnet(frozen, adapter)).square().mean().backward()
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert float(adapter.conv_in.weight.grad[:, 8:].abs().sum()) > 0  # type: ignore[index]
    assert all(conv.weight.grad is not None for conv in adapter.zero_convs)  # type: ignore[union-attr]


def test_the_copy_is_its_own(unet: UNet2DConditionModel) -> None:
    before = unet.time_embedding.linear_1.weight.clone()
    stirred(ControlAdapter(unet))
    assert torch.equal(unet.time_embedding.linear_1.weight, before)


@pytest.mark.parametrize("layers", [1, 2])
def test_there_is_one_zero_convolution_for_each_skip(layers: int) -> None:
    unet = UNet2DConditionModel(
        in_channels=4, out_channels=4, block_out_channels=(8, 8), layers_per_block=layers,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=2, norm_num_groups=4,
    )  # fmt: skip
    adapter = ControlAdapter(unet)
    assert len(adapter.zero_convs) == 1 + 2 * layers + 1
    with torch.no_grad():
        assert answer(AdaptedUnet(unet, adapter)).shape == (2, 4, 8, 12)
