"""A network as a denoiser: what goes in, and that each prediction gives the same x̂0."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from autodir.diffusion.denoiser import precondition, predict_x0, to_x0, training_target
from autodir.diffusion.schedule import SD15, SMALL, Schedule
from autodir.errors import ContractError
from autodir.records import Conditioning, TextEmbedding

TEXT = TextEmbedding(tokens=torch.ones(1, 3, 2), pooled=torch.ones(1, 2))
LATENTS = torch.full((1, 4, 5, 6), 7.0)
COND = Conditioning(text=TEXT, null_text=TEXT, image_latents=LATENTS)


class Spy:
    """A network that remembers its arguments and answers with a fixed tensor."""

    dtype = torch.float32

    def __init__(self, answer: Tensor) -> None:
        self.answer = answer

    def __call__(self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor) -> SimpleNamespace:
        self.x, self.t, self.tokens = x, t, encoder_hidden_states
        return SimpleNamespace(sample=self.answer)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("sigma", [0.03, 1.0, 14.6])
def test_the_true_prediction_gives_the_true_x0(prediction: str, sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(2, 4, 5, 6, generator=generator) for _ in range(2))
    level = torch.full((2,), sigma)
    answer = training_target(x0, noise, level, prediction)  # type: ignore[arg-type]
    denoise = predict_x0(Spy(answer), Schedule(SD15), prediction)  # type: ignore[arg-type]
    torch.testing.assert_close(denoise(x0 + sigma * noise, level, COND), x0, rtol=0, atol=2e-5)


def test_velocity_still_tells_x0_at_pure_noise() -> None:
    sigma = Schedule(SMALL).sigma_max
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(1, 4, 5, 6, generator=generator) for _ in range(2))
    answer = training_target(x0, noise, torch.tensor([sigma]), "v_prediction")
    level = torch.full((1, 1, 1, 1), sigma)
    result = to_x0(answer, x0 + sigma * noise, level, "v_prediction")
    torch.testing.assert_close(result, x0, rtol=0, atol=1e-3)


def test_velocity_target_is_that_of_its_paper() -> None:
    x0, noise = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), -2.0)
    alpha, deviation = 0.6, 0.8
    target = training_target(x0, noise, torch.tensor([deviation / alpha]), "v_prediction")
    torch.testing.assert_close(target, alpha * noise - deviation * x0)


def test_network_sees_unit_noisy_latents_first_and_then_the_photo() -> None:
    spy = Spy(torch.zeros(3, 4, 5, 6))
    schedule = Schedule(SD15)
    sigma = schedule.t_to_sigma(torch.tensor([10.0, 500.0, 999.0]))
    predict_x0(spy, schedule)(torch.ones(3, 4, 5, 6), sigma, COND)
    assert spy.x.shape == (3, 8, 5, 6)
    expected = 1 / (1 + sigma.square()).sqrt()
    torch.testing.assert_close(spy.x[:, 0, 0, 0], expected)
    assert bool((spy.x[:, 4:] == 7).all())
    torch.testing.assert_close(spy.t, torch.tensor([10.0, 500.0, 999.0]), rtol=0, atol=1e-2)
    assert spy.tokens.shape == (3, 3, 2)


def test_network_runs_in_its_own_dtype_and_the_rest_in_float32() -> None:
    spy = Spy(torch.zeros(1, 4, 5, 6, dtype=torch.bfloat16))
    spy.dtype = torch.bfloat16
    x0 = predict_x0(spy, Schedule(SMALL))(torch.ones(1, 4, 5, 6), torch.ones(1), COND)
    assert spy.x.dtype is spy.tokens.dtype is torch.bfloat16
    assert x0.dtype is torch.float32


def test_a_network_may_return_the_bare_tensor() -> None:
    def network(x: Tensor, t: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        return x[:, 4:]

    x0 = predict_x0(network, Schedule(SMALL), "sample")(LATENTS * 0, torch.ones(1), COND)
    assert torch.equal(x0, LATENTS)


def test_unknown_prediction_is_refused() -> None:
    with pytest.raises(ContractError, match="flow"):
        predict_x0(Spy(LATENTS), Schedule(SMALL), "flow")  # type: ignore[arg-type]


def test_precondition_weighs_both_witnesses_by_their_variances() -> None:
    x, image = torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), 1.0)
    sigma = torch.full((1, 1, 1, 1), 0.5)
    guess, deviation = precondition(x, sigma, image, 0.5)
    assert torch.allclose(guess, torch.full_like(x, 2.0))
    assert deviation.item() == pytest.approx(0.5 / 2**0.5)


def test_precondition_starts_from_the_photo_where_there_is_nothing_but_noise() -> None:
    image = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    guess, deviation = precondition(4096 * image, torch.full((1, 1, 1, 1), 4096.0), image, 0.4)
    assert torch.allclose(guess, image, atol=1e-3)
    assert deviation.flatten().tolist() == pytest.approx([0.4, 0.4], rel=1e-4)


def test_precondition_trusts_a_photo_that_is_left_out_like_an_unknown_one() -> None:
    image = torch.stack([torch.zeros(4, 2, 2), torch.ones(4, 2, 2)])
    _, deviation = precondition(torch.ones(2, 4, 2, 2), torch.full((1, 1, 1, 1), 100.0), image, 0.4)
    assert deviation.flatten().tolist() == pytest.approx([1.0, 0.4], rel=1e-3)


def test_residual_denoiser_of_a_silent_network_returns_the_guess() -> None:
    schedule, level = Schedule(SMALL), torch.tensor([2.0])
    x0 = predict_x0(Spy(torch.zeros(1, 4, 5, 6)), schedule, "residual")(LATENTS, level, COND)
    guess, _ = precondition(
        LATENTS, level.view(1, 1, 1, 1), COND.image_latents, schedule.config.condition_deviation
    )
    assert torch.allclose(x0, guess)
