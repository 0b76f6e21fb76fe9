"""The noise schedule beside diffusers' schedulers, and beside figures of AutoDIR's release."""

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler

from autodir.diffusion.schedule import SD15, SMALL, Schedule, ScheduleConfig

# diffusers turns tensors into arrays in a way that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def test_alphas_equal_diffusers() -> None:
    ours = Schedule(SD15).alphas_cumprod.float()
    torch.testing.assert_close(ours, DDIMScheduler(**BETAS).alphas_cumprod, rtol=1e-4, atol=0)


def test_zero_terminal_snr_alphas_equal_diffusers() -> None:
    ours = Schedule(SMALL).alphas_cumprod.float()
    theirs = DDIMScheduler(**BETAS, rescale_betas_zero_snr=True).alphas_cumprod
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-7)


def test_trailing_levels_with_zero_terminal_snr_equal_diffusers() -> None:
    scheduler = EulerDiscreteScheduler(
        **BETAS,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )
    scheduler.set_timesteps(4)
    ours = Schedule(SMALL).sigmas(4)
    torch.testing.assert_close(ours, scheduler.sigmas, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("steps", [2, 7, 30, 1000])
def test_trailing_levels_equal_diffusers(steps: int) -> None:
    scheduler = EulerDiscreteScheduler(**BETAS, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    ours = Schedule(SD15).sigmas(steps, spacing="trailing")
    torch.testing.assert_close(ours, scheduler.sigmas, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [5, 100])
def test_linspace_levels_equal_diffusers(steps: int) -> None:
    scheduler = EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing="linspace")
    scheduler.set_timesteps(steps)
    ours = Schedule(SD15).sigmas(steps)
    torch.testing.assert_close(ours, scheduler.sigmas, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [5, 20])
def test_karras_levels_equal_diffusers(steps: int) -> None:
    scheduler = EulerDiscreteScheduler(**BETAS, use_karras_sigmas=True)
    scheduler.set_timesteps(steps)
    ours = Schedule(SD15).sigmas(steps, spacing="karras")
    torch.testing.assert_close(ours, scheduler.sigmas, rtol=1e-4, atol=1e-5)


def test_linspace_levels_equal_those_of_the_release() -> None:
    levels = Schedule(SD15).sigmas(100)
    expected = [14.6146, 13.7525, 12.9524, 0.0987, 0.0292, 0.0]
    torch.testing.assert_close(
        levels[[0, 1, 2, -3, -2, -1]], torch.tensor(expected), rtol=0, atol=6e-5
    )


def test_timesteps_of_levels_equal_diffusers() -> None:
    scheduler = EulerDiscreteScheduler(**BETAS, use_karras_sigmas=True)
    scheduler.set_timesteps(12)
    ours = Schedule(ScheduleConfig(zero_terminal_snr=False)).sigma_to_t(scheduler.sigmas[:-1])
    torch.testing.assert_close(ours, scheduler.timesteps.float(), rtol=0, atol=2e-2)
