"""Mixing, remembering and dropping conditions."""

from typing import Any

import pytest
import torch

from autodir.diffusion.conditioning import NULL_PHRASE, PhraseEncoder, concatenate, drop, mix, row
from autodir.errors import ContractError
from autodir.records import Conditioning, Mixture, TextEmbedding


def embedding(rows: int, seed: int = 0) -> TextEmbedding:
    draw = torch.Generator().manual_seed(seed)
    return TextEmbedding(
        tokens=torch.randn(rows, 5, 16, generator=draw),
        pooled=torch.randn(rows, 6, generator=draw),
    )


def test_mixture_is_the_weighted_sum_of_tokens_and_pooled() -> None:
    phrases = embedding(3)
    mixed = mix(phrases, torch.tensor([0.2, 0.5, 0.3]))
    tokens = 0.2 * phrases.tokens[0] + 0.5 * phrases.tokens[1] + 0.3 * phrases.tokens[2]
    pooled = 0.2 * phrases.pooled[0] + 0.5 * phrases.pooled[1] + 0.3 * phrases.pooled[2]
    torch.testing.assert_close(mixed.tokens, tokens[None])
    torch.testing.assert_close(mixed.pooled, pooled[None])


def test_one_hot_mixture_is_the_phrase_itself() -> None:
    phrases = embedding(3)
    assert torch.equal(mix(phrases, torch.tensor([0.0, 1.0, 0.0])).tokens, phrases.tokens[1:2])


def test_a_batch_of_mixtures_equals_one_by_one() -> None:
    phrases, weights = embedding(3), torch.tensor([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])
    batch = mix(phrases, weights)
    for index in range(2):
        one = mix(phrases, weights[index])
        torch.testing.assert_close(row(batch, index).tokens, one.tokens)
        torch.testing.assert_close(row(batch, index).pooled, one.pooled)


@pytest.mark.parametrize("shape", [(2,), (4,), (2, 4), (), (1, 1, 3)])
def test_weights_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ContractError):
        mix(embedding(3), torch.ones(shape))


def test_phrases_are_encoded_once(encoder: Any) -> None:
    phrases = PhraseEncoder(encoder)
    first = phrases.encode(["rain", "haze", "rain"])
    second = phrases.encode(["haze", "rain"])
    assert encoder.asked == ["rain", "haze"]
    assert torch.equal(first.tokens[[1, 0]], second.tokens)
    assert torch.equal(first.tokens[0], first.tokens[2])


def test_a_phrase_is_remembered_with_and_without_its_mask(encoder: Any) -> None:
    phrases = PhraseEncoder(encoder)
    for masked in (True, False, True, False):
        phrases.encode(["rain"], masked)
    assert encoder.asked == ["rain", "rain"]
    assert encoder.masked == [True, False]


def test_the_phrase_unused_for_longest_is_forgotten(encoder: Any) -> None:
    phrases = PhraseEncoder(encoder, capacity=2)
    for phrase in ("rain", "haze", "rain", "noise", "rain", "haze"):
        phrases.encode([phrase])
    assert encoder.asked == ["rain", "haze", "noise", "haze"]


def test_more_phrases_than_are_remembered_still_come_back(encoder: Any) -> None:
    phrases = PhraseEncoder(encoder, capacity=1)
    assert phrases.encode(["rain", "haze", "noise"]).tokens.shape == (3, 5, 16)


def test_clearing_forgets(encoder: Any) -> None:
    phrases = PhraseEncoder(encoder)
    phrases.encode(["rain"])
    phrases.clear()
    phrases.encode(["rain"])
    assert encoder.asked == ["rain", "rain"]


def test_no_phrase_and_no_capacity_are_refused(encoder: Any) -> None:
    with pytest.raises(ContractError):
        PhraseEncoder(encoder).encode([])
    with pytest.raises(ContractError):
        PhraseEncoder(encoder, capacity=0)


def test_mixture_of_phrases_leaves_out_those_of_weight_zero(encoder: Any) -> None:
    mixture = Mixture(phrases=("rain", "haze", "noise"), weights=(0.25, 0.0, 0.75))
    mixed = PhraseEncoder(encoder).mixture(mixture)
    assert encoder.asked == ["rain", "noise"]
    rain, noise = encoder.encode_text(["rain", "noise"]).tokens
    torch.testing.assert_close(mixed.tokens[0], 0.25 * rain + 0.75 * noise)


def test_dropping_puts_the_null_in_chosen_rows_only() -> None:
    text, null = embedding(4), embedding(1, seed=1)
    latents = torch.ones(4, 2, 3, 3)
    cond = Conditioning(text=text, null_text=null, image_latents=latents)
    no_text = torch.tensor([True, False, True, False])
    no_image = torch.tensor([True, True, False, False])
    dropped = drop(cond, no_text, no_image)
    for index in range(4):
        expected = null.tokens[0] if no_text[index] else text.tokens[index]
        assert torch.equal(dropped.text.tokens[index], expected)
        pooled = null.pooled[0] if no_text[index] else text.pooled[index]
        assert torch.equal(dropped.text.pooled[index], pooled)
        assert float(dropped.image_latents[index].max()) == (0.0 if no_image[index] else 1.0)


def test_concatenated_conditions_keep_their_rows() -> None:
    one = Conditioning(
        text=embedding(1), null_text=embedding(1, 1), image_latents=torch.ones(1, 2, 3, 3)
    )
    joined = concatenate([one, one.without_text().without_image()], batch=2)
    assert joined.text.tokens.shape == (4, 5, 16)
    assert torch.equal(joined.text.tokens[1], one.text.tokens[0])
    assert torch.equal(joined.text.tokens[2], one.null_text.tokens[0])
    assert [float(latents.max()) for latents in joined.image_latents] == [1, 1, 0, 0]


def test_the_null_prompt_is_the_empty_one() -> None:
    assert NULL_PHRASE == ""
