"""Each sampler beside diffusers' scheduler of the same method, on one toy denoiser."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
)
from torch import Tensor

from autodir.diffusion.samplers import (
    sample_ddim,
    sample_dpmpp_2m,
    sample_euler,
    sample_euler_ancestral,
)
from autodir.diffusion.schedule import SD15, Schedule
from autodir.records import Conditioning, NoiseSource, TextEmbedding

# diffusers turns tensors into arrays in a way that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPE = (2, 4, 6, 5)
EMPTY = TextEmbedding(tokens=torch.zeros(1, 1, 1), pooled=torch.zeros(1, 1))
COND = Conditioning(text=EMPTY, null_text=EMPTY, image_latents=torch.zeros(SHAPE))


def toy_x0(x: Tensor, sigma: Tensor) -> Tensor:
    """A smooth, non-linear guess at x0 that depends on x, σ and the neighbors."""
    x_t = x / (1 + sigma.square()).sqrt()
    return torch.tanh(x_t + 0.3 * x_t.roll(1, dims=-1)) * (1 + 0.2 * torch.cos(sigma))


def denoise(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
    return toy_x0(x, sigma.view(-1, 1, 1, 1))


def network_output(x: Tensor, sigma: Tensor, prediction: str) -> Tensor:
    """What a network would have to say for `toy_x0`, from the definitions of ε and v."""
    x0 = toy_x0(x, sigma)
    eps = (x - x0) / sigma
    root = (1 + sigma.square()).sqrt()
    return eps if prediction == "epsilon" else eps / root - sigma / root * x0


def start() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert float((ours - theirs).abs().max()) <= 1e-4
    assert float(theirs.std()) > 0.1


@pytest.mark.parametrize("steps", [1, 4, 20])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_euler_equals_diffusers(steps: int, prediction: str) -> None:
    scheduler = EulerDiscreteScheduler(
        **BETAS, prediction_type=prediction, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    x = start() * scheduler.sigmas[0]
    ours = sample_euler(denoise, x, scheduler.sigmas, COND, NoiseSource(0))
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        scheduler.scale_model_input(x, t)
        x = scheduler.step(network_output(x, sigma, prediction), t, x).prev_sample
    assert_same(ours, x)


def test_euler_equals_diffusers_from_zero_terminal_snr() -> None:
    scheduler = EulerDiscreteScheduler(
        **BETAS,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )
    scheduler.set_timesteps(4)
    assert float(scheduler.sigmas[0]) == pytest.approx(4096, rel=1e-4)
    x = start().double() * scheduler.sigmas[0]
    ours = sample_euler(denoise, x, scheduler.sigmas, COND, NoiseSource(0))
    for sigma, sigma_next in zip(scheduler.sigmas[:-1], scheduler.sigmas[1:], strict=True):
        # The rule of diffusers' `step` in float64: its own rounding at σ = 4096 costs 1e-3.
        x = x + (x - toy_x0(x, sigma)) / sigma * (sigma_next.double() - sigma)
    assert_same(ours.double(), x)


@pytest.mark.parametrize("steps", [2, 4, 20])
def test_euler_ancestral_equals_diffusers_with_shared_noise(steps: int) -> None:
    scheduler = EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing="linspace")
    scheduler.set_timesteps(steps)
    x = start() * scheduler.sigmas[0]
    ours = sample_euler_ancestral(denoise, x, scheduler.sigmas, COND, NoiseSource(11))
    generator = torch.Generator().manual_seed(11)
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        scheduler.scale_model_input(x, t)
        eps = network_output(x, sigma, "epsilon")
        x = scheduler.step(eps, t, x, generator=generator).prev_sample
    assert_same(ours, x)


@pytest.mark.parametrize("steps", [2, 4, 20])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_equals_diffusers(steps: int, eta: float) -> None:
    scheduler = DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    alphas = scheduler.alphas_cumprod[scheduler.timesteps]
    sigmas = torch.cat([((1 - alphas) / alphas).sqrt(), torch.zeros(1)])
    x = start() * sigmas[0]
    ours = sample_ddim(denoise, x, sigmas, COND, NoiseSource(5), eta=eta)
    generator = torch.Generator().manual_seed(5)
    x_t = x / (1 + sigmas[0] ** 2).sqrt()
    for t, sigma in zip(scheduler.timesteps, sigmas[:-1], strict=True):
        eps = network_output(x_t * (1 + sigma**2).sqrt(), sigma, "epsilon")
        x_t = scheduler.step(eps, t, x_t, eta=eta, generator=generator).prev_sample
    assert_same(ours, x_t)


@pytest.mark.parametrize("steps", [1, 2, 4, 20])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_dpmpp_2m_equals_diffusers(steps: int, prediction: str) -> None:
    scheduler = DPMSolverMultistepScheduler(
        **BETAS,
        prediction_type=prediction,
        timestep_spacing="trailing",
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(steps)
    x = start() * scheduler.sigmas[0]
    ours = sample_dpmpp_2m(denoise, x, scheduler.sigmas, COND, NoiseSource(0))
    x_t = x / (1 + scheduler.sigmas[0] ** 2).sqrt()
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        output = network_output(x_t * (1 + sigma**2).sqrt(), sigma, prediction)
        x_t = scheduler.step(output, t, x_t).prev_sample
    assert_same(ours, x_t)


def test_all_levels_of_the_training_chain_are_ddpm() -> None:
    """The posterior mean c1 x0 + c2 z and its variance, from the training's own betas."""
    schedule, noise = Schedule(SD15), NoiseSource(5)
    abar = schedule.alphas_cumprod
    sigmas = torch.cat([schedule.table.flip(0).float(), torch.zeros(1)])
    x = float(sigmas[0]) * start()
    ours = sample_ddim(denoise, x, sigmas, COND, NoiseSource(5), eta=1.0)
    z = x * float(abar[-1]) ** 0.5
    for t in range(999, -1, -1):
        now, before = float(abar[t]), float(abar[t - 1]) if t else 1.0
        level = torch.tensor((1 - now) / now).sqrt()
        x0 = toy_x0(z / now**0.5, level)
        beta = 1 - now / before
        c1 = beta * before**0.5 / (1 - now)
        c2 = (1 - before) * (1 - beta) ** 0.5 / (1 - now)
        z = c1 * x0 + c2 * z
        if t:
            z = z + (beta * (1 - before) / (1 - now)) ** 0.5 * noise.normal(SHAPE)
    assert float((ours - z).abs().max()) <= 1e-3  # a thousand steps in float32
