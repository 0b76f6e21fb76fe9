"""Tiles of latents: whole where one suffices, seamless where the denoiser is local."""

import pytest
import torch
from torch import Tensor

from autodir.diffusion.aggregation import aggregated
from autodir.diffusion.samplers import sample_euler_ancestral
from autodir.errors import ContractError
from autodir.records import Conditioning, NoiseSource, TextEmbedding

TEXT = TextEmbedding(tokens=torch.zeros(1, 1, 1), pooled=torch.zeros(1, 1))
SIZES = [(8, 8), (9, 8), (13, 20), (8, 33), (3, 30), (1, 1)]


def condition(height: int, width: int) -> Conditioning:
    latents = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(1))
    return Conditioning(text=TEXT, null_text=TEXT, image_latents=latents)


def local(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
    """Each latent by itself, from all it is told."""
    return torch.tanh(x / (1 + sigma.view(-1, 1, 1, 1))) + 0.3 * cond.image_latents


def blurring(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
    return x.mean(dim=(2, 3), keepdim=True).expand_as(x) + cond.image_latents


def test_one_tile_is_the_whole() -> None:
    cond = condition(8, 6)
    x = torch.randn(1, 4, 8, 6, generator=torch.Generator().manual_seed(2))
    sigma = torch.ones(1)
    assert torch.equal(aggregated(blurring, 8, 4)(x, sigma, cond), blurring(x, sigma, cond))


@pytest.mark.parametrize("size", SIZES)
def test_tiles_of_a_local_denoiser_make_the_whole(size: tuple[int, int]) -> None:
    cond = condition(*size)
    x = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(2))
    sigma = torch.tensor([0.7])
    result = aggregated(local, 8, 4)(x, sigma, cond)
    torch.testing.assert_close(result, local(x, sigma, cond), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_a_constant_prediction_stays_constant(size: tuple[int, int]) -> None:
    def constant(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        return torch.full_like(x, 0.37)

    result = aggregated(constant, 8, 4)(torch.zeros(1, 4, *size), torch.ones(1), condition(*size))
    assert float((result - 0.37).abs().max()) <= 2e-7


def test_tiled_sampling_equals_whole_sampling_of_a_local_denoiser() -> None:
    cond = condition(13, 20)
    x = 10 * torch.randn(1, 4, 13, 20, generator=torch.Generator().manual_seed(2))
    sigmas = torch.tensor([10.0, 5.0, 2.0, 1.0, 0.5, 0.1, 0.0])
    whole = sample_euler_ancestral(local, x, sigmas, cond, NoiseSource(4))
    tiled = sample_euler_ancestral(aggregated(local, 8, 4), x, sigmas, cond, NoiseSource(4))
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_every_tile_sees_its_own_window_of_the_photo() -> None:
    seen: list[Tensor] = []

    def spy(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        assert torch.equal(x, cond.image_latents)
        seen.append(x)
        return x

    cond = condition(13, 20)
    aggregated(spy, 8, 4)(cond.image_latents, torch.ones(1), cond)
    assert len(seen) > 4
    assert {tuple(window.shape) for window in seen} == {(1, 4, 8, 8)}


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (8, 8), (8, -1)])
def test_impossible_tiles_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(ContractError):
        aggregated(local, tile, overlap)
