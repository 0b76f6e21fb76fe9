"""DreamClean: variance, contraction, round trip, and a toy whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from autodir.diffusion.aggregation import aggregated
from autodir.diffusion.denoiser import predict_x0
from autodir.diffusion.dreamclean import (
    DreamClean,
    Renewal,
    correct,
    invert,
    levels,
    sample_dreamclean,
    unconditional,
)
from autodir.diffusion.schedule import SD15, Prediction, Schedule
from autodir.errors import ConfigError, ContractError
from autodir.records import Conditioning, NoiseSource, TextEmbedding

TEXT = TextEmbedding(tokens=torch.zeros(1, 1, 1), pooled=torch.zeros(1, 1))
COND = Conditioning(text=TEXT, null_text=TEXT, image_latents=torch.zeros(1, 1, 1, 1))
SCHEDULE = Schedule(SD15)
SPREAD = 0.15


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


MODES = torch.randn(20, 64, generator=seeded(5))


def mixture(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
    """The exact denoiser of 20 Gaussians in 64 dimensions, of deviation 0.15."""
    flat, level = x.flatten(1).double(), float(sigma[0])
    variance = SPREAD**2 + level**2
    distance = (flat[:, None] - MODES.double()).square().sum(2)
    weight = (-distance / (2 * variance)).softmax(1)
    mean = weight @ MODES.double()
    return ((SPREAD**2 * flat + level**2 * mean) / variance).float().view_as(x)


def draws(count: int, noise: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Samples of the mixture, the same with noise, and their modes."""
    generator = seeded(1)
    mode = torch.randint(20, (count,), generator=generator)
    clean = MODES[mode] + SPREAD * torch.randn(count, 64, generator=generator)
    degraded = clean + noise * torch.randn(count, 64, generator=generator)
    return clean.view(-1, 1, 8, 8), degraded.view(-1, 1, 8, 8), mode


def rmse(first: Tensor, second: Tensor) -> float:
    return float((first - second).square().mean().sqrt())


def residual_variance(
    gamma: float, steps: int, renewal: Renewal = "preserving", k: float = 1.0
) -> float:
    """Var(x − x0) / σ² after some corrections by a model that knows x0, from k at the start."""
    noise, sigma = NoiseSource(3), 0.7
    x0 = torch.randn(1, 1, 200, 1000, generator=seeded())
    x = x0 + math.sqrt(k) * sigma * noise.normal(x0.shape)
    for _ in range(steps):
        x = correct(x, x0, sigma, gamma, noise, renewal)
    return float((x - x0).var()) / sigma**2


@pytest.mark.parametrize("steps", [1, 5, 50])
@pytest.mark.parametrize("gamma", [0.05, 0.2, 0.5, 1.0])
def test_corrections_preserve_the_variance(gamma: float, steps: int) -> None:
    assert residual_variance(gamma, steps) == pytest.approx(1, abs=0.01)


def test_the_alternatives_do_not_preserve_it() -> None:
    assert residual_variance(0.2, 5, "langevin") > 1.05
    assert residual_variance(0.2, 5, "none") == pytest.approx(0.8**10, rel=0.01)


@pytest.mark.parametrize("steps", [1, 3, 5])
@pytest.mark.parametrize("gamma", [0.05, 0.1])
def test_a_wrong_variance_contracts_geometrically(gamma: float, steps: int) -> None:
    excess = residual_variance(gamma, steps, k=4.0) - 1
    assert excess == pytest.approx((1 - gamma) ** (2 * steps) * 3, rel=0.02)


@pytest.mark.parametrize("timestep", [50, 400, 900])
@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_with_the_marginal_score_the_stationary_variance_is_the_predicted_one(
    gamma: float, timestep: int
) -> None:
    abar = float(SCHEDULE.alphas_cumprod[timestep])
    sigma, noise = math.sqrt((1 - abar) / abar), NoiseSource(1)
    x = math.sqrt(1 + sigma**2) * noise.normal((1, 1, 200, 500))
    rho = 1 - abar  # (1 − ᾱ) / v with v = ᾱ + 1 − ᾱ
    for _ in range(math.ceil(3 / (gamma * rho))):
        x = correct(x, x / (1 + sigma**2), sigma, gamma, noise)  # data N(0, 1)
    assert float(x.var()) * abar == pytest.approx((2 - gamma) / (2 - gamma * rho), rel=0.02)


def test_no_correction_is_inversion_and_ddim_exactly() -> None:
    _, degraded, _ = draws(8, 0.3)
    sigmas = levels(SCHEDULE, 0.2, 10)
    results = [
        sample_dreamclean(mixture, degraded, sigmas, COND, NoiseSource(1), settings=settings)
        for settings in (DreamClean(gamma=0), DreamClean(corrections=0))
    ]
    x = invert(mixture, degraded, sigmas, COND)
    for sigma, below in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        x0 = mixture(x, torch.full((8,), sigma), COND)
        x = x0 + (x - x0) * (below / sigma)
    assert torch.equal(results[0], x)
    assert torch.equal(results[1], x)


def test_gamma_one_is_the_estimate_with_fresh_noise() -> None:
    x, x0 = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    fresh = NoiseSource(4).normal(x.shape)
    torch.testing.assert_close(correct(x, x0, 0.5, 1.0, NoiseSource(4)), x0 + 0.5 * fresh)
    assert torch.equal(correct(x, x0, 0.5, 0.0, NoiseSource(4)), x0 + (x - x0))


def round_trip(x: Tensor, steps: int, fixed_point: int = 0) -> float:
    sigmas = levels(SCHEDULE, 0.2, steps)
    settings = DreamClean(corrections=0, fixed_point=fixed_point)
    back = sample_dreamclean(mixture, x, sigmas, COND, NoiseSource(0), settings=settings)
    return rmse(back, x)


def test_a_clean_photo_survives_the_round_trip() -> None:
    clean, _, _ = draws(256)
    coarse, middle, fine = (round_trip(clean, steps) for steps in (10, 30, 100))
    assert coarse > middle > fine
    assert fine <= 0.02
    assert round_trip(clean, 30, fixed_point=3) <= 0.001


def cleaned(depth: float) -> tuple[float, float, float]:
    """RMSE to the truth before and after, and the share of samples that kept their mode."""
    clean, degraded, mode = draws(512, 0.3)
    result = sample_dreamclean(
        mixture, degraded, levels(SCHEDULE, depth, 30), COND, NoiseSource(2),
        settings=DreamClean(gamma=0.05),
    )  # fmt: skip
    nearest = torch.cdist(result.flatten(1), MODES).argmin(1)
    return rmse(degraded, clean), rmse(result, clean), float((nearest == mode).float().mean())


def test_noise_is_removed_at_a_small_depth_and_identity_lost_at_a_large_one() -> None:
    before, after, kept = cleaned(0.1)
    assert before == pytest.approx(0.301, abs=0.01)
    assert after < 0.22
    assert kept >= 0.99
    _, far, lost = cleaned(0.7)
    assert far > 2 * before
    assert lost < 0.8


def network(prediction: Prediction) -> object:
    """The mixture's exact answer, spoken as noise, velocity or clean sample."""

    def answer(x: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        sigma = SCHEDULE.t_to_sigma(timestep)[:1]
        noisy = x[:, :1] * (sigma**2 + 1).sqrt()
        x0 = mixture(noisy, sigma, COND)
        eps = (noisy - x0) / sigma
        if prediction == "sample":
            return x0
        return eps if prediction == "epsilon" else (eps - sigma * x0) / (sigma**2 + 1).sqrt()

    return answer


def test_parameterizations_of_one_model_give_one_trajectory() -> None:
    _, degraded, _ = draws(4, 0.3)
    cond = Conditioning(text=TEXT, null_text=TEXT, image_latents=torch.zeros(1, 1, 8, 8))
    kinds: tuple[Prediction, ...] = ("epsilon", "v_prediction", "sample")
    results = [
        sample_dreamclean(
            predict_x0(network(kind), SCHEDULE, kind), degraded, levels(SCHEDULE, 0.2, 10),
            cond, NoiseSource(2),
        )
        for kind in kinds
    ]  # fmt: skip
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", [
    DreamClean(), DreamClean(corrections=3), DreamClean(fixed_point=2), DreamClean(gamma=0),
])  # fmt: skip
def test_evaluations_are_counted_and_the_guide_is_asked_once_a_step(settings: DreamClean) -> None:
    calls, guided, seen = list[float](), list[float](), list[int]()

    def counted(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        calls.append(float(sigma[0]))
        return mixture(x, sigma, cond)

    def guide(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        guided.append(float(sigma[0]))
        return counted(x, sigma, cond)

    results = [
        sample_dreamclean(
            counted, draws(2, 0.3)[1], levels(SCHEDULE, 0.2, 6), COND, NoiseSource(2),
            lambda step: seen.append(step.index), settings=settings, guided=guide,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert torch.equal(*results)
    assert len(calls) == 2 * settings.evaluations(6)
    assert len(guided) == 12
    assert seen == [*range(6)] * 2


def test_tiles_do_not_show_with_a_model_of_single_pixels() -> None:
    def pixelwise(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        return 0.8 * x / (1 + sigma.view(-1, 1, 1, 1) ** 2) + 0.1

    x = torch.randn(1, 1, 21, 33, generator=seeded())
    cond = Conditioning(text=TEXT, null_text=TEXT, image_latents=torch.zeros(1, 1, 21, 33))
    sigmas = levels(SCHEDULE, 0.3, 6)
    whole, tiled = (
        sample_dreamclean(denoise, x, sigmas, cond, NoiseSource(5))
        for denoise in (pixelwise, aggregated(pixelwise, 8, 4))
    )
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_a_callback_may_end_the_way_back() -> None:
    x = draws(2)[0]
    sigmas = levels(SCHEDULE, 0.2, 6)
    result = sample_dreamclean(mixture, x, sigmas, COND, NoiseSource(0), lambda step: False)
    assert result.shape == x.shape


def test_the_blind_denoiser_hears_nothing() -> None:
    heard: list[Conditioning] = []

    def listen(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        heard.append(cond)
        return x

    spoken = TextEmbedding(tokens=torch.ones(1, 1, 1), pooled=torch.ones(1, 1))
    cond = Conditioning(text=spoken, null_text=TEXT, image_latents=torch.ones(1, 1, 2, 2))
    unconditional(listen)(torch.ones(1, 1, 2, 2), torch.ones(1), cond)
    assert heard[0].text is TEXT
    assert not heard[0].image_latents.any()


@pytest.mark.parametrize(
    "values", [{"gamma": -0.1}, {"gamma": 1.1}, {"depth": 0.0}, {"corrections": -1}]
)
def test_impossible_settings_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ContractError):
        DreamClean(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [0, 300])
def test_levels_must_fit_into_the_depth(steps: int) -> None:
    with pytest.raises(ConfigError, match="sampling steps"):
        levels(SCHEDULE, 0.2, steps)
