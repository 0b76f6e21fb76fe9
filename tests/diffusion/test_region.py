"""Region-adaptive guidance: weights, step, window, and the same strength at any size."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from autodir.diffusion.region import (
    SCALE,
    RegionGuidance,
    Target,
    flatness,
    latent_target,
    pixel_target,
    posterior_weight,
    region_adaptive,
)
from autodir.diffusion.samplers import SAMPLERS, sample_ddim
from autodir.diffusion.schedule import SD15, Schedule
from autodir.errors import ContractError
from autodir.records import Conditioning, NoiseSource, TextEmbedding

TEXT = TextEmbedding(tokens=torch.zeros(1, 1, 1), pooled=torch.zeros(1, 1))
COND = Conditioning(text=TEXT, null_text=TEXT, image_latents=torch.zeros(1, 1, 1, 1))
SCHEDULE = Schedule(SD15)
SIGMAS = SCHEDULE.sigmas(10)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(height: int = 16, width: int = 16) -> Tensor:
    """Left half flat, right half a chessboard."""
    board = (torch.arange(height)[:, None] // 2 + torch.arange(width) // 2) % 2
    half = torch.where(torch.arange(width) < width // 2, 0.5, board.float())
    return half.expand(1, 3, height, width).clone()


def guess(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
    """An estimate that is 0.3 above everywhere."""
    return torch.full_like(x, 0.3)


def identity(latents: Tensor) -> Tensor:
    return (latents + 1) / 2


def test_flat_pictures_weigh_one_and_texture_little() -> None:
    assert (flatness(torch.full((1, 3, 8, 8), 0.4)) - 1).abs().max() < 1e-6
    weights = flatness(picture())
    assert float(weights[..., :, :6].min()) > 0.999
    assert float(weights[..., 2:-2, 11:-2].max()) < 0.05
    assert 0 <= float(weights.min()) <= float(weights.max()) <= 1


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (8, 9), (2, 3)])
def test_odd_sizes_have_weights_too(size: tuple[int, int]) -> None:
    photo = torch.rand(2, 3, *size, generator=seeded())
    assert flatness(photo).shape == (2, 1, *size)


def test_the_posterior_weight_is_that_of_the_published_schedule() -> None:
    sigmas = SCHEDULE.sigmas(50).tolist()
    c1 = [posterior_weight(a, b) for a, b in pairwise(sigmas)]
    assert c1[0] == pytest.approx(0.0164, abs=0.001)
    assert c1[25] == pytest.approx(0.071, abs=0.01)
    assert c1[-1] == pytest.approx(1.0)


def test_the_posterior_weight_of_every_step_is_that_of_ddpm() -> None:
    abar, table = SCHEDULE.alphas_cumprod, SCHEDULE.table
    beta = 1 - abar[1:] / abar[:-1]
    c1 = (beta * abar[:-1].sqrt() / (1 - abar[1:])).tolist()
    ours = [posterior_weight(float(table[t]), float(table[t - 1])) for t in range(1, 1000)]
    assert max(abs(a - b) for a, b in zip(ours, c1, strict=True)) < 1e-10


def test_strength_zero_is_the_same_function() -> None:
    target = pixel_target(picture(), identity)
    assert region_adaptive(guess, target, RegionGuidance(), SCHEDULE, SIGMAS) is guess


def test_the_posterior_mean_moves_by_the_published_step() -> None:
    target, strength = pixel_target(picture().double(), identity), 1e-3
    x, sigma = torch.zeros(1, 3, 16, 16).double(), SIGMAS[4:5]
    guided = region_adaptive(guess, target, RegionGuidance(strength=strength), SCHEDULE, SIGMAS)
    moved = guided(x, sigma, COND) - guess(x, sigma, COND)
    start = guess(x, sigma, COND).requires_grad_(True)
    (gradient,) = torch.autograd.grad(target.loss(target.decode(start)).sum(), start)
    shift = posterior_weight(float(SIGMAS[4]), float(SIGMAS[5])) * moved
    published = -SCALE * strength * (16 * 16 / 512**2) * gradient
    torch.testing.assert_close(shift, published, rtol=1e-4, atol=1e-12)


def decoder() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(4, 12, 3, padding=1), torch.nn.Tanh(), torch.nn.PixelShuffle(2),
            torch.nn.Conv2d(3, 3, 1),
        ).requires_grad_(False)  # fmt: skip


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_the_result_comes_nearer_the_more_it_is_guided(sampler: str) -> None:
    net = decoder()
    target = pixel_target(picture(), lambda latents: net(latents))
    start = float(SIGMAS[0]) * torch.randn(1, 4, 8, 8, generator=seeded())

    def drifting(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        return 0.5 * x / (1 + sigma.view(-1, 1, 1, 1) ** 2)

    errors = []
    for strength in (0, 0.1, 0.25, 0.5, 1, 100):
        settings = RegionGuidance(strength=strength)
        guided = region_adaptive(drifting, target, settings, SCHEDULE, SIGMAS)
        result = SAMPLERS[sampler](guided, start, SIGMAS, COND, NoiseSource(3))
        errors.append(float(target.loss(target.decode(result))))
    assert all(b <= a + 1e-6 for a, b in pairwise(errors)), errors
    assert errors[-2] < 0.999 * errors[0]


@pytest.mark.parametrize("side", [16, 64])
def test_one_strength_means_the_same_at_any_size(side: int) -> None:
    flat = torch.full((1, 3, side, side), 0.5)
    settings = RegionGuidance(strength=0.1)
    guided = region_adaptive(guess, pixel_target(flat, identity), settings, SCHEDULE, SIGMAS)
    result = sample_ddim(guided, torch.zeros(1, 3, side, side), SIGMAS, COND, NoiseSource(0))
    assert float(result.mean()) == pytest.approx(0.29977, abs=2e-5)


def test_texture_moves_less_than_flat_parts() -> None:
    photo = picture()
    target = Target(
        values=torch.zeros(1, 3, 16, 16), weight=flatness(photo), decode=lambda x0: x0,
        reference=3 * 512**2,
    )  # fmt: skip
    guided = region_adaptive(guess, target, RegionGuidance(strength=1), SCHEDULE, SIGMAS)
    moved = (guided(torch.zeros(1, 3, 16, 16), SIGMAS[:1], COND) - 0.3).abs()
    assert moved[..., 2:-2, 11:-2].max() < 0.05 * moved[..., :, :6].min()


@pytest.mark.parametrize("repeat", [1, 3])
def test_it_pulls_within_its_window_only_and_as_often_as_told(repeat: int) -> None:
    decoded: list[int] = []

    def count(latents: Tensor) -> Tensor:
        decoded.append(1)
        return identity(latents)

    settings = RegionGuidance(strength=0.5, start=0.8, until=0.3, repeat=repeat)
    target = pixel_target(picture(), count)
    guided = region_adaptive(guess, target, settings, SCHEDULE, SIGMAS)
    pulled = []
    for sigma in SIGMAS[:-1]:
        decoded.clear()
        guided(torch.zeros(1, 3, 16, 16), sigma[None], COND)
        pulled.append(len(decoded))
    inside = [0.3 <= float(SCHEDULE.sigma_to_t(s)) / 999 <= 0.8 for s in SIGMAS[:-1]]
    assert pulled == [2 * repeat * int(is_inside) for is_inside in inside]
    assert any(inside)
    assert not all(inside)


def test_latents_are_compared_without_a_decoder() -> None:
    latents = torch.randn(1, 4, 4, 4, generator=seeded())
    target = latent_target(picture(), latents)
    assert target.reference == 4 * 16 * 512**2 / 16**2
    guided = region_adaptive(guess, target, RegionGuidance(strength=1), SCHEDULE, SIGMAS)
    x0 = guided(torch.zeros(1, 4, 4, 4), SIGMAS[-2:-1], COND)
    assert (x0 - latents).abs().mean() < (0.3 - latents).abs().mean()


@pytest.mark.parametrize("values", [{"strength": -1.0}, {"repeat": 0}, {"space": "fourier"}])
def test_impossible_settings_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ContractError):
        RegionGuidance(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [lambda p: pixel_target(p, identity), None])
def test_inference_mode_of_the_caller_is_no_obstacle(make) -> None:  # type: ignore[no-untyped-def]
    settings = RegionGuidance(strength=0.5)
    results = []
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            shown = picture() * 0.5
            target = make(shown) if make else latent_target(shown, shown * 2 - 1)
            guided = region_adaptive(guess, target, settings, SCHEDULE, SIGMAS)
            x = torch.zeros(1, 3, 16, 16)
            results.append(guided(x, SIGMAS[3:4], COND))
    assert not torch.equal(results[0], torch.full_like(results[0], 0.3))
    assert torch.equal(results[0].clone(), results[1])
