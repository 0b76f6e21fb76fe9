"""Guidance equals the three-branch formula and pays for no branch it does not need."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autodir.diffusion.guidance import classifier_free
from autodir.diffusion.model import LatentDiffusion
from autodir.errors import ContractError
from autodir.records import Conditioning, Mixture, NoiseSource, TextEmbedding

GENERATOR = torch.Generator().manual_seed(3)
X, LATENTS = (torch.randn(2, 4, 3, 5, generator=GENERATOR) for _ in range(2))
SIGMA = torch.tensor([0.5, 2.0])


def text(value: float) -> TextEmbedding:
    return TextEmbedding(tokens=torch.full((1, 3, 2), value), pooled=torch.full((1, 2), value))


COND = Conditioning(text=text(0.7), null_text=text(-0.4), image_latents=LATENTS)


class Counting:
    """A denoiser that depends on all its arguments and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        self.calls += 1
        told = cond.text.tokens.mean(dim=(1, 2)).view(-1, 1, 1, 1)
        return torch.tanh(x / sigma.view(-1, 1, 1, 1) + told) + 0.5 * cond.image_latents * told


def three_branches(s_text: float, s_image: float) -> Tensor:
    denoise = Counting()
    a = denoise(X, SIGMA, COND)
    b = denoise(X, SIGMA, COND.without_text())
    c = denoise(X, SIGMA, COND.without_text().without_image())
    return c + s_text * (a - b) + s_image * (b - c)


CASES = [
    (1.0, 1.0, 1),
    (0.0, 1.0, 1),
    (0.0, 0.0, 1),
    (3.0, 1.0, 2),
    (2.5, 2.5, 2),
    (0.0, 1.5, 2),
    (7.5, 1.5, 3),
    (1.0, 2.0, 3),
]


@pytest.mark.parametrize(("s_text", "s_image", "calls"), CASES)
def test_guidance_equals_three_branches_with_fewest_calls(
    s_text: float, s_image: float, calls: int
) -> None:
    denoise = Counting()
    result = classifier_free(denoise, s_text, s_image)(X, SIGMA, COND)
    torch.testing.assert_close(result, three_branches(s_text, s_image), rtol=0, atol=1e-5)
    assert denoise.calls == calls


@pytest.mark.parametrize(("s_text", "s_image", "calls"), CASES)
def test_batched_guidance_is_the_same_in_one_call(
    s_text: float, s_image: float, calls: int
) -> None:
    denoise = Counting()
    result = classifier_free(denoise, s_text, s_image, batched=True)(X, SIGMA, COND)
    torch.testing.assert_close(result, three_branches(s_text, s_image), rtol=0, atol=1e-5)
    assert denoise.calls == 1


def test_no_guidance_is_the_denoiser_itself() -> None:
    denoise = Counting()
    assert classifier_free(denoise) is denoise


@pytest.mark.parametrize("scale", [-0.1, float("nan"), float("inf")])
def test_impossible_scales_are_refused(scale: float) -> None:
    with pytest.raises(ContractError):
        classifier_free(Counting(), text=scale)
    with pytest.raises(ContractError):
        classifier_free(Counting(), image=scale)


SCALES = st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0, 7.5]) | st.floats(0, 10)


@settings(max_examples=60, deadline=None)
@given(SCALES, SCALES, st.booleans())
def test_any_scales_equal_three_branches_and_cost_what_they_must(
    s_text: float, s_image: float, batched: bool
) -> None:
    denoise = Counting()
    result = classifier_free(denoise, s_text, s_image, batched)(X, SIGMA, COND)
    torch.testing.assert_close(result, three_branches(s_text, s_image), rtol=1e-5, atol=1e-4)
    needed = sum((s_text != 0, s_text != s_image, s_image != 1))
    assert denoise.calls == (1 if batched else needed)


@pytest.mark.parametrize(
    ("s_text", "s_image", "branches"), [(1.0, 1.0, 1), (4.0, 1.0, 2), (2.0, 2.0, 2), (4.0, 1.5, 3)]
)
def test_the_unet_runs_once_for_each_branch_and_sampling_step(
    diffusion: LatentDiffusion, s_text: float, s_image: float, branches: int
) -> None:
    calls: list[int] = []
    handle = diffusion.unet.register_forward_hook(lambda *_: calls.append(1))
    photo = torch.rand(1, 3, 16, 16, generator=GENERATOR)
    conditioning = diffusion.condition(photo, Mixture(phrases=("rain",), weights=(1.0,)))
    diffusion.sample(
        conditioning, NoiseSource(0), steps=3, guidance_text=s_text, guidance_image=s_image
    )
    handle.remove()
    assert len(calls) == 3 * branches
