"""Tiles of latents: whole where one suffices, seamless where the denoiser is local."""

import pytest
import torch
from torch import Tensor, nn

from autodir.diffusion.aggregation import aggregated
from autodir.diffusion.samplers import sample_ddim, sample_euler_ancestral
from autodir.diffusion.schedule import SD15, Schedule
from autodir.errors import ContractError
from autodir.imaging.tiles import map_tiles
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


@pytest.mark.parametrize("size", [(64, 64), (65, 65), (96, 96), (100, 133), (96, 250)])
def test_published_tiles_keep_a_constant(size: tuple[int, int]) -> None:
    def constant(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        return torch.full_like(x, 0.37)

    result = aggregated(constant, 64, 32)(torch.zeros(1, 4, *size), torch.ones(1), condition(*size))
    assert float((result - 0.37).abs().max()) <= 2e-7


def test_ten_steps_of_ddpm_with_a_linear_model_show_no_tiles() -> None:
    def linear(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        return 0.6 * x / (1 + sigma.view(-1, 1, 1, 1) ** 2) + 0.3 * cond.image_latents

    cond, sigmas = condition(100, 133), Schedule(SD15).sigmas(10)
    x = float(sigmas[0]) * torch.randn(1, 4, 100, 133, generator=torch.Generator().manual_seed(2))
    whole = sample_ddim(linear, x, sigmas, cond, NoiseSource(4), eta=1.0)
    tiled = sample_ddim(aggregated(linear, 64, 32), x, sigmas, cond, NoiseSource(4), eta=1.0)
    assert float((tiled - whole).abs().max()) <= 1e-5


def trained() -> nn.Module:
    """Three convolutions that have learnt to clean smooth pictures, and guess at their borders."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        layers = [nn.Conv2d(a, b, 5, padding=2) for a, b in ((1, 8), (8, 8), (8, 1))]
    net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(150):
        clean = smooth(8, 16, generator)
        noisy = clean + 0.3 * torch.randn(clean.shape, generator=generator)
        loss = (net(noisy) - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.requires_grad_(False)


def smooth(count: int, side: int, generator: torch.Generator) -> Tensor:
    coarse = 1 + torch.rand(count, 1, 4, 4, generator=generator)
    return nn.functional.interpolate(coarse, (side, side), mode="bicubic")


def seam(picture: Tensor, whole: Tensor, borders: list[int]) -> float:
    """Mean step across the columns where tiles meet over that elsewhere, 1 for the untiled one.

    The margin of the picture is left out, since there the model guesses in any case.
    """

    def ratio(one: Tensor) -> Tensor:
        steps = one.diff(dim=-1).abs().mean((0, 1, 2))
        at_border, inside = torch.zeros(2, len(steps), dtype=torch.bool)
        at_border[[border - 1 for border in borders]] = True
        inside[7:-7] = True
        return steps[at_border & inside].mean() / steps[~at_border & inside].mean()

    return float(ratio(picture) / ratio(whole))


def test_seams_of_a_trained_model_do_not_show() -> None:
    net, generator = trained(), torch.Generator().manual_seed(9)
    clean = smooth(16, 96, generator)
    noisy = clean + 0.02 * torch.randn(clean.shape, generator=generator)
    cond = Conditioning(text=TEXT, null_text=TEXT, image_latents=torch.zeros(1, 1, 96, 96))

    def denoise(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        return torch.as_tensor(net(x))

    weighted = aggregated(denoise, 32, 16)(noisy, torch.ones(1), cond)
    borders = list(range(16, 81, 16))  # where a tile begins or ends
    assert 0.9 <= seam(weighted, net(noisy), borders) <= 1.1
    unweighted = map_tiles(noisy, net, 32, 0)
    assert seam(unweighted, net(noisy), [32, 64]) > 1.5
