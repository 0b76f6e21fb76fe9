"""Spatial feature transform: the identity before training, and aware of the timestep."""

from __future__ import annotations

import copy

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from autodir.diffusion.adapters import AdaptedUnet
from autodir.diffusion.denoiser import predict_x0
from autodir.diffusion.schedule import SMALL, Schedule
from autodir.diffusion.sft import SftAdapter, residual_blocks
from autodir.records import Conditioning, TextEmbedding


def answer(network: object, timestep: float = 400.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    sample, tokens = (
        torch.randn(*shape, generator=generator) for shape in ((2, 8, 8, 12), (2, 5, 16))
    )
    told = torch.full((2,), timestep)
    result: Tensor = network(sample, told, encoder_hidden_states=tokens).sample  # type: ignore[operator]
    return result


def stirred(adapter: SftAdapter) -> SftAdapter:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return adapter


def test_a_fresh_adapter_changes_nothing(unet: UNet2DConditionModel) -> None:
    with torch.no_grad():
        assert torch.equal(answer(AdaptedUnet(unet, SftAdapter(unet))), answer(unet))


def test_a_trained_one_does_and_leaves_no_hook_behind(unet: UNet2DConditionModel) -> None:
    adapter = stirred(SftAdapter(unet))
    with torch.no_grad():
        plain = answer(unet)
        assert not torch.allclose(answer(AdaptedUnet(unet, adapter)), plain)
        assert torch.equal(answer(AdaptedUnet(unet, adapter, strength=0)), plain)
        assert torch.equal(answer(unet), plain)


def test_gradients_reach_encoder_and_transforms_alone(unet: UNet2DConditionModel) -> None:
    frozen = copy.deepcopy(unet).requires_grad_(False)
    adapter = stirred(SftAdapter(frozen)).requires_grad_(True)
    answer(AdaptedUnet(frozen, adapter)).square().mean().backward()
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert all(parameter.grad is not None for parameter in adapter.parameters())


def test_the_encoder_is_aware_of_the_time(unet: UNet2DConditionModel) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        encoder = SftAdapter(unet).encoder
    latents = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        early, late = (encoder(latents, torch.tensor([t])) for t in (900.0, 10.0))
        assert [tuple(one.shape[-2:]) for one in early] == [(8, 12), (4, 6)]
        assert not any(torch.equal(a, b) for a, b in zip(early, late, strict=True))
        for parameter in encoder.time_embedding.parameters():
            parameter.zero_()
        early, late = (encoder(latents, torch.tensor([t])) for t in (900.0, 10.0))
    assert all(torch.equal(a, b) for a, b in zip(early, late, strict=True))


def test_the_encoder_is_told_the_timestep_of_the_training_chain(
    unet: UNet2DConditionModel,
) -> None:
    adapter, schedule = SftAdapter(unet), Schedule(SMALL)
    seen: list[float] = []
    adapter.encoder.register_forward_pre_hook(lambda module, args: seen.append(float(args[1][0])))
    denoise = predict_x0(AdaptedUnet(unet, adapter), schedule)
    text = TextEmbedding(tokens=torch.zeros(1, 5, 16), pooled=torch.zeros(1, 6))
    cond = Conditioning(text=text, null_text=text, image_latents=torch.zeros(1, 4, 8, 8))
    with torch.no_grad():
        for sigma in schedule.sigmas(4)[:-1]:
            denoise(torch.zeros(1, 4, 8, 8), sigma[None], cond)
    torch.testing.assert_close(seen, [999.0, 749.0, 499.0, 249.0], rtol=0, atol=0.01)


def test_each_residual_block_has_its_level(unet: UNet2DConditionModel) -> None:
    levels = [level for _, level in residual_blocks(unet)]
    assert levels == [0, 1, 1, 1, 1, 1, 0, 0]
    assert len(SftAdapter(unet).transforms) == len(levels)
