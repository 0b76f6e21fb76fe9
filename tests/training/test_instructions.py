"""What the networks are told: one prompt, a mixture led by the main one, or a free phrase."""

import dataclasses

import pytest
import torch
from torch import Tensor

from autodir.checkpoint import Model
from autodir.prompts import Degradation, load_phrases
from autodir.records import TextEmbedding
from autodir.training import instructions as module
from autodir.training.instructions import LEAST_MAIN, Instructions


@pytest.fixture(scope="module")
def told(tiny_model: Model) -> Instructions:
    return Instructions(tiny_model.clip, tiny_model.taxonomy, load_phrases())


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def set_shares(mixed: float, phrased: float) -> None:
        monkeypatch.setattr(module, "MIXED", mixed)
        monkeypatch.setattr(module, "PHRASED", phrased)

    return set_shares


@pytest.fixture
def weighing(told: Instructions, monkeypatch: pytest.MonkeyPatch) -> Instructions:
    """Prompts that are unit vectors: the pooled embedding is the weights themselves."""
    unit = torch.eye(len(told.taxonomy.keys))
    monkeypatch.setattr(told, "prompts", TextEmbedding(tokens=unit[:, None], pooled=unit))
    return told


def labels(*keys: str, of: Instructions) -> Tensor:
    return torch.tensor([of.taxonomy.index(key) for key in keys])


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_plain_samples_get_the_prompt_of_their_label(told: Instructions, shares) -> None:  # type: ignore[no-untyped-def]
    shares(0.0, 0.0)
    drawn = told.draw(labels("rain", "no", "blur", of=told), random())
    places = labels("rain", "no", "blur", of=told)
    torch.testing.assert_close(drawn.tokens, told.prompts.tokens[places])
    torch.testing.assert_close(drawn.pooled, told.prompts.pooled[places])


def test_mixtures_sum_to_one_and_are_led_by_the_main_one(  # type: ignore[no-untyped-def]
    weighing: Instructions, shares
) -> None:
    shares(1.0, 0.0)
    label = labels(*["rain", "haze", "compression"] * 5, of=weighing)
    weights = weighing.draw(label, random()).pooled
    torch.testing.assert_close(weights.sum(1), torch.ones(15))
    main = weights.gather(1, label[:, None])[:, 0]
    assert float(main.min()) >= LEAST_MAIN
    assert float(main.max()) < 1
    assert float(weights[:, weighing.taxonomy.clean_index].abs().max()) == 0


def test_clean_photo_is_told_that_it_is_clean(weighing: Instructions, shares) -> None:  # type: ignore[no-untyped-def]
    clean = labels("no", "no", of=weighing)
    for mixed, phrased in ((1.0, 0.0), (0.0, 1.0)):
        shares(mixed, phrased)
        weights = weighing.draw(clean, random()).pooled
        assert weights[:, weighing.taxonomy.clean_index].tolist() == [1.0, 1.0]


def test_free_phrases_are_those_of_the_label(  # type: ignore[no-untyped-def]
    told: Instructions, shares, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares(0.0, 1.0)
    phrases = {key: (f"too much {key}",) for key in told.phrases}
    monkeypatch.setattr(told, "phrases", phrases)
    drawn = told.draw(labels("rain", "noise", of=told), random())
    expected = told.encoder.encode(["too much rain", "too much noise"])
    torch.testing.assert_close(drawn.tokens, expected.tokens)
    torch.testing.assert_close(drawn.pooled, expected.pooled)


def test_corpus_names_every_degradation_in_many_ways(told: Instructions) -> None:
    assert set(told.phrases) == {degradation.key for degradation in told.taxonomy}
    assert min(len(phrases) for phrases in told.phrases.values()) > 10


def test_degradation_without_phrases_is_known_by_its_prompt(tiny_model: Model) -> None:
    scratches = Degradation(key="scratches", label="scratches")
    taxonomy = dataclasses.replace(
        tiny_model.taxonomy, degradations=(*tiny_model.taxonomy.degradations, scratches)
    )
    told = Instructions(tiny_model.clip, taxonomy, load_phrases())
    assert told.phrases["scratches"] == (taxonomy.prompt("scratches"),)


def test_draw_depends_on_the_generator_alone(told: Instructions) -> None:
    label = labels("rain", "noise", "haze", "blur", of=told)
    first, again, other = (told.draw(label, random(seed)).tokens for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_all_kinds_mix_under_autocast(told: Instructions) -> None:
    label = labels(*["rain", "noise", "haze", "blur"] * 5, of=told)
    with torch.autocast("cpu", torch.bfloat16):
        drawn = told.draw(label, random())
    assert drawn.tokens.shape[0] == drawn.pooled.shape[0] == 20
    assert bool(torch.isfinite(drawn.tokens.float()).all())
