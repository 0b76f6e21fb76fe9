"""What holds for every sampler: determinism, contract, callbacks, exactness on a known target."""

import pytest
import torch
from torch import Tensor

from autodir.config import SAMPLER_NAMES
from autodir.diffusion.model import DREAMCLEAN
from autodir.diffusion.samplers import SAMPLERS, SamplingStep, sample_ddim, sample_euler
from autodir.diffusion.schedule import SMALL, Schedule
from autodir.errors import ContractError
from autodir.records import Conditioning, NoiseSource, TextEmbedding

TEXT = TextEmbedding(tokens=torch.zeros(1, 1, 1), pooled=torch.zeros(1, 1))
COND = Conditioning(text=TEXT, null_text=TEXT, image_latents=torch.full((1, 4, 3, 5), 0.25))
SIGMAS = torch.tensor([14.0, 6.0, 2.0, 0.5, 0.0])
EVERY = pytest.mark.parametrize("name", sorted(SAMPLERS))


def denoise(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
    return torch.tanh(x / (1 + sigma.view(-1, 1, 1, 1)))


def known(x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
    return cond.image_latents.expand_as(x)


def start(scale: float = 14.0) -> Tensor:
    return scale * torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))


def test_the_table_names_what_the_options_offer() -> None:
    assert {*SAMPLERS, DREAMCLEAN} == set(SAMPLER_NAMES)


@EVERY
def test_one_seed_gives_one_result(name: str) -> None:
    first, second = (
        SAMPLERS[name](denoise, start(), SIGMAS, COND, NoiseSource(9)) for _ in range(2)
    )
    assert torch.equal(first, second)


def test_only_the_ancestral_sampler_depends_on_the_seed() -> None:
    random = {
        name
        for name, sampler in SAMPLERS.items()
        if not torch.equal(
            sampler(denoise, start(), SIGMAS, COND, NoiseSource(1)),
            sampler(denoise, start(), SIGMAS, COND, NoiseSource(2)),
        )
    }
    assert random == {"euler_ancestral"}


@EVERY
@pytest.mark.parametrize("steps", [1, 2, 4, 50])
def test_a_denoiser_that_knows_the_answer_is_believed_from_pure_noise(
    name: str, steps: int
) -> None:
    sigmas = Schedule(SMALL).sigmas(steps)
    x = start(float(sigmas[0]))
    result = SAMPLERS[name](known, x, sigmas, COND, NoiseSource(0))
    torch.testing.assert_close(result, COND.image_latents.expand_as(x), rtol=0, atol=1e-5)


@EVERY
def test_the_start_is_left_unchanged(name: str) -> None:
    x = start()
    before = x.clone()
    SAMPLERS[name](denoise, x, SIGMAS, COND, NoiseSource(0))
    assert torch.equal(x, before)


def test_ddim_without_noise_is_euler() -> None:
    euler = sample_euler(denoise, start(), SIGMAS, COND, NoiseSource(0))
    ddim = sample_ddim(denoise, start(), SIGMAS, COND, NoiseSource(0))
    torch.testing.assert_close(ddim, euler, rtol=0, atol=1e-5)


@EVERY
def test_the_callback_sees_every_step(name: str) -> None:
    steps: list[SamplingStep] = []
    SAMPLERS[name](denoise, start(), SIGMAS, COND, NoiseSource(0), steps.append)
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert [step.sigma for step in steps] == [14.0, 6.0, 2.0, 0.5]
    assert {step.total for step in steps} == {4}


@EVERY
def test_a_callback_that_says_false_ends_with_the_estimate_so_far(name: str) -> None:
    steps: list[SamplingStep] = []

    def stop_at_second(step: SamplingStep) -> bool:
        steps.append(step)
        return step.index < 1

    result = SAMPLERS[name](denoise, start(), SIGMAS, COND, NoiseSource(0), stop_at_second)
    assert len(steps) == 2
    assert torch.equal(result, steps[-1].x0)


@EVERY
@pytest.mark.parametrize(
    "sigmas",
    [
        torch.tensor([3.0, 1.0]),
        torch.tensor([3.0, 3.0, 0.0]),
        torch.tensor([1.0, 3.0, 0.0]),
        torch.tensor([0.0]),
        torch.tensor([]),
        torch.tensor([[3.0, 0.0]]),
        torch.tensor([float("inf"), 1.0, 0.0]),
        torch.tensor([float("nan"), 1.0, 0.0]),
        torch.tensor([3.0, float("nan"), 0.0]),
    ],
)
def test_levels_that_do_not_fall_to_zero_are_refused(name: str, sigmas: Tensor) -> None:
    with pytest.raises(ContractError):
        SAMPLERS[name](denoise, start(), sigmas, COND, NoiseSource(0))


@EVERY
def test_latents_in_half_precision_are_sampled_in_float32(name: str) -> None:
    x = start().half()
    result = SAMPLERS[name](denoise, x, SIGMAS, COND, NoiseSource(0))
    assert result.dtype is torch.float32
    expected = SAMPLERS[name](denoise, x.float(), SIGMAS, COND, NoiseSource(0))
    assert torch.equal(result, expected)
