"""The nouns of the loop keep their contracts: shapes, sums, windows, noise by seed."""

import dataclasses

import pytest
import torch

from autodir.errors import ContractError
from autodir.prompts import load_taxonomy
from autodir.records import (
    Conditioning,
    Diagnosis,
    Image,
    ImageMetadata,
    Mixture,
    NoiseSource,
    TextEmbedding,
    check_image,
)


def embedding(batch: int = 1) -> TextEmbedding:
    return TextEmbedding(tokens=torch.ones(batch, 5, 8), pooled=torch.ones(batch, 4))


def conditioning() -> Conditioning:
    latents = torch.arange(2 * 6 * 7.0).view(1, 2, 6, 7)
    null = TextEmbedding(tokens=torch.zeros(1, 5, 8), pooled=torch.zeros(1, 4))
    return Conditioning(text=embedding(), null_text=null, image_latents=latents)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 5, 7), (1, 3, 0, 4)])
def test_image_batch_of_any_size_is_accepted(shape: tuple[int, ...]) -> None:
    check_image(torch.zeros(shape))


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(3, 4, 4),
        torch.zeros(1, 1, 4, 4),
        torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
        torch.full((1, 3, 4, 4), float("nan")),
        torch.full((1, 3, 4, 4), float("inf")),
    ],
)
def test_wrong_image_batch_is_named_in_the_error(wrong: torch.Tensor) -> None:
    with pytest.raises(ContractError, match="photo"):
        check_image(wrong, name="photo")


def test_image_size_is_height_and_width() -> None:
    assert Image(pixels=torch.zeros(3, 4, 9)).size == (4, 9)


def test_image_with_other_pixels_keeps_all_the_rest() -> None:
    metadata = ImageMetadata(format="PNG", bit_depth=16, icc_profile=b"profile")
    image = Image(pixels=torch.zeros(3, 4, 9), alpha=torch.ones(4, 9), metadata=metadata)
    changed = image.with_pixels(torch.ones(3, 4, 9))
    assert torch.equal(changed.pixels, torch.ones(3, 4, 9))
    assert changed.alpha is image.alpha
    assert changed.metadata is metadata
    assert torch.equal(image.pixels, torch.zeros(3, 4, 9))


def test_image_refuses_pixels_of_another_size() -> None:
    with pytest.raises(ContractError, match=r"\(3, 4, 9\)"):
        Image(pixels=torch.zeros(3, 4, 9)).with_pixels(torch.zeros(3, 9, 4))


@pytest.mark.parametrize(
    ("phrases", "weights"),
    [((), ()), (("a",), (0.5, 0.5)), (("a", "b"), (0.5, 0.6)), (("a", "b"), (1.5, -0.5))],
)
def test_mixture_needs_a_probability_for_each_phrase(
    phrases: tuple[str, ...], weights: tuple[float, ...]
) -> None:
    with pytest.raises(ContractError):
        Mixture(phrases=phrases, weights=weights)


def test_diagnosis_speaks_of_its_main_degradation() -> None:
    rain = load_taxonomy().get("rain")
    mixture = Mixture(phrases=("rain",), weights=(1.0,))
    found = Diagnosis(
        probabilities={"rain": 0.9, "no": 0.1}, presence={"rain": 0.8}, main=rain, mixture=mixture
    )
    clean = dataclasses.replace(found, main=None)
    assert (found.is_clean, found.main_probability) == (False, 0.9)
    assert (clean.is_clean, clean.main_probability) == (True, 0.1)


def test_crop_of_a_conditioning_cuts_the_latents_and_keeps_the_text() -> None:
    whole = conditioning()
    part = whole.crop(1, 2, 3, 4)
    assert torch.equal(part.image_latents, whole.image_latents[:, :, 1:4, 2:6])
    assert part.text is whole.text


def test_null_conditions_replace_one_input_each() -> None:
    whole = conditioning()
    assert whole.without_text().text is whole.null_text
    assert torch.equal(whole.without_text().image_latents, whole.image_latents)
    assert whole.without_image().image_latents.abs().sum() == 0
    assert whole.without_image().text is whole.text


def test_noise_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = NoiseSource(5).normal((2, 3))
    torch.manual_seed(2)
    again, other = NoiseSource(5).normal((2, 3)), NoiseSource(6).normal((2, 3))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_noise_source_moves_on_with_each_draw() -> None:
    source = NoiseSource(5)
    assert not torch.equal(source.normal((4,)), source.normal((4,)))


def test_noise_is_drawn_in_full_precision_and_then_cast() -> None:
    like = torch.zeros(1, dtype=torch.float16)
    half, full = NoiseSource(3).normal((8,), like), NoiseSource(3).normal((8,))
    assert half.dtype == torch.float16
    assert torch.equal(half, full.half())


def test_error_names_the_pixels_that_a_photo_would_not_keep() -> None:
    with pytest.raises(ContractError, match=r"must keep \(3, 4, 9\)"):
        Image(pixels=torch.zeros(3, 4, 9)).with_pixels(torch.zeros(1, 4, 9))


def test_diagnosis_without_probabilities_is_sure() -> None:
    mixture = Mixture(phrases=("rain",), weights=(1.0,))
    nothing = Diagnosis(probabilities={}, presence={}, main=None, mixture=mixture)
    assert nothing.main_probability == 1.0


def test_records_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        conditioning().image_latents = torch.zeros(1)  # type: ignore[misc]
