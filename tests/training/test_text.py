"""The text tower learns phrases; on a tower so small that seconds suffice."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from autodir.clip import SMALL, Clip
from autodir.phrases import UNKNOWN, PhraseCorpus, build_corpus
from autodir.prompts import Taxonomy, load_phrases, load_taxonomy
from autodir.tokens import learn_tokenizer
from autodir.training.text import (
    PhraseSampler,
    PhraseScorer,
    Scores,
    TextRecipe,
    drift,
    measure,
    text_loss,
    train_text,
)

FRAMES = {"en": {"noun": ["{x}", "remove the {x}", "too much {x}"], "sentence": ["{x}"]}}
TINY: dict[str, Any] = {
    **SMALL,
    "embed_dim": 32,
    "vision": {"layers": [1, 1, 1, 1], "width": 4, "image_size": 64, "head_width": 32},
    "text": {"context_length": 12, "vocab_size": 340, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return load_taxonomy().only(["haze", "rain"])


@pytest.fixture(scope="module")
def corpus() -> PhraseCorpus:
    return build_corpus(
        {
            "frames": FRAMES,
            "haze": {"en": {"noun": ["fog", "mist", "smog"]}},
            "rain": {"en": {"noun": ["shower", "storm", "drizzle"]}},
            "no": {"en": {"noun": ["nothing"]}},
            "unknown": {"en": {"noun": ["dog", "cat"], "sentence": ["hello"]}},
        }
    )


@pytest.fixture
def clip(taxonomy: Taxonomy, corpus: PhraseCorpus) -> Clip:
    torch.manual_seed(0)
    phrases = [phrase for key in (*corpus.keys, UNKNOWN) for phrase in corpus.phrases(key)]
    return Clip.from_config(TINY, learn_tokenizer([*phrases, *taxonomy.sentences] * 2, 340))


def recipe(**changes: Any) -> TextRecipe:
    settings = {"batch": 24, "learning_rate": 5e-3, "precision": "fp32", "pairs": 0.0, **changes}
    return TextRecipe(**settings)


def test_training_teaches_phrases_and_writes_the_model_folder(
    clip: Clip, taxonomy: Taxonomy, corpus: PhraseCorpus, tmp_path: Path
) -> None:
    image = [parameter.clone() for parameter in clip.towers.visual.parameters()]
    metrics = train_text(
        clip,
        budget=60,
        seed=0,
        run_dir=tmp_path,
        taxonomy=taxonomy,
        corpus=corpus,
        recipe=recipe(max_steps=150),
    )
    seen = {key: corpus.phrases(key) for key in ("haze", "rain", UNKNOWN)}
    learnt = measure(clip, taxonomy, seen)
    assert learnt["accepted"] >= 0.9
    assert learnt["refused"] >= 0.8
    assert learnt["template_cosine"] < 0.4
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == metrics
    again = Clip.load(tmp_path)
    assert again.config["prompt_scale"] == clip.config["prompt_scale"] != TINY["prompt_scale"]
    torch.testing.assert_close(again.encode_text(["fog"]).pooled, clip.encode_text(["fog"]).pooled)
    assert all(map(torch.equal, image, clip.towers.visual.parameters()))
    assert all(parameter.requires_grad for parameter in clip.parameters())


def test_kept_templates_stay_where_they_are(
    clip: Clip, taxonomy: Taxonomy, corpus: PhraseCorpus, tmp_path: Path
) -> None:
    with torch.no_grad():
        before = clip.eval().encode_text(taxonomy.sentences)
    moved = {}
    for keep in (0.0, 1000.0):
        copy = Clip.from_config(clip.config, clip.tokenizer)
        copy.load_state_dict(clip.state_dict())
        train_text(
            copy,
            budget=60,
            seed=0,
            run_dir=tmp_path / str(keep),
            taxonomy=taxonomy,
            corpus=corpus,
            recipe=recipe(max_steps=12, keep=keep, learning_rate=1e-3),
        )
        moved[keep] = float(drift(copy.encode_text(taxonomy.sentences), before).detach())
    assert moved[1000.0] < moved[0.0] / 2


def scores(cosines: list[list[float]], logits: list[list[float]]) -> Scores:
    values = torch.tensor(logits, dtype=torch.float32)
    return Scores(
        cosines=torch.tensor(cosines, dtype=torch.float32),
        logits=values,
        templates=torch.eye(2),
        probe=values,
    )


def test_loss_is_lower_for_the_right_answer() -> None:
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    right, _ = text_loss(scores([[1, 0], [0, 0]], [[5, -5], [-5, -5]]), targets, TextRecipe())
    wrong, _ = text_loss(scores([[0, 1], [0, 0]], [[-5, 5], [-5, -5]]), targets, TextRecipe())
    known, _ = text_loss(scores([[1, 0], [1, 0]], [[5, -5], [5, -5]]), targets, TextRecipe())
    assert float(right) < 0.1 < float(known) < float(wrong)


def test_loss_terms_have_their_closed_forms() -> None:
    targets = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    given = Scores(
        cosines=torch.tensor([[0.6, 0.0], [0.1, 0.1], [0.0, 0.0]]),
        logits=torch.zeros(3, 2),
        templates=torch.tensor([[1.0, 0.25], [0.25, 1.0]]),
        probe=torch.zeros(3, 2),
    )
    settings = TextRecipe(align=1.0, apart=2.0, states=0.0, margin=0.05)
    loss, terms = text_loss(given, targets, settings)
    ln2 = torch.log(torch.tensor(2.0))
    torch.testing.assert_close(terms["match"], 2 * ln2)
    torch.testing.assert_close(terms["align"], torch.tensor(0.4))  # the phrase of one degradation
    torch.testing.assert_close(terms["apart"], torch.tensor(2 * 0.2**2))
    torch.testing.assert_close(loss, 2 * ln2 + 0.4 + 2 * terms["apart"])


@torch.inference_mode()
def test_scorer_gives_each_phrase_its_own_row(clip: Clip, taxonomy: Taxonomy) -> None:
    phrases = ["remove the fog and the storm and the dog", "cat", "drizzle", "a b c d", "too much"]
    scorer = PhraseScorer(clip, taxonomy).eval()
    together = scorer(phrases)
    templates = clip.encode_text(taxonomy.sentences).pooled
    expected = clip.encode_text(phrases).pooled @ templates.T
    torch.testing.assert_close(together.cosines, expected)
    alone = [scorer([phrase]).probe[0] for phrase in phrases]
    torch.testing.assert_close(together.probe, torch.stack(alone))
    torch.testing.assert_close(together.logits, 10.0 * expected - 5.0)


def test_sampler_follows_its_seed_and_fills_the_batch(
    taxonomy: Taxonomy, corpus: PhraseCorpus
) -> None:
    sampler = PhraseSampler(corpus, taxonomy, TextRecipe())
    phrases, targets = sampler.batch(random.Random(5), 200)
    assert (phrases, targets.tolist()) == (
        sampler.batch(random.Random(5), 200)[0],
        sampler.batch(random.Random(5), 200)[1].tolist(),
    )
    assert targets.shape == (200, 3)
    named = targets.sum(0)
    assert float(named.min()) > 0
    assert 20 < int((targets.sum(1) == 0).sum()) < 150


def test_sampler_draws_two_degradations_at_once(taxonomy: Taxonomy, corpus: PhraseCorpus) -> None:
    sampler = PhraseSampler(corpus, taxonomy, TextRecipe(pairs=1.0, unknown=0.0, clean=0.0))
    drawn = [sampler.draw(random.Random(seed)) for seed in range(40)]
    both = [keys for _, keys in drawn if len(keys) == 2]
    assert len(both) > 30
    assert all(set(keys) == {"haze", "rain"} for keys in both)


def test_degradation_without_phrases_is_learnt_by_its_label(corpus: PhraseCorpus) -> None:
    taxonomy = load_taxonomy().only(["haze", "rain", "low_resolution"])
    sampler = PhraseSampler(corpus, taxonomy, TextRecipe())
    drawn = [sampler.draw(random.Random(seed)) for seed in range(300)]
    assert any(keys == ("low_resolution",) for _, keys in drawn)


def test_shipped_corpus_serves_the_shipped_taxonomy() -> None:
    taxonomy = load_taxonomy()
    _, targets = PhraseSampler(load_phrases(), taxonomy, TextRecipe()).batch(random.Random(0), 400)
    assert float(targets.sum(0).min()) > 0


@pytest.mark.parametrize("key", ["haze", "rain"])
def test_measure_counts_only_the_right_degradation(
    clip: Clip, taxonomy: Taxonomy, key: str
) -> None:
    clip.config["prompt_scale"], clip.config["prompt_bias"] = 100.0, -99.0
    metrics = measure(clip.eval(), taxonomy, {key: [taxonomy.prompt(key)], UNKNOWN: ["cat"]})
    assert metrics["accuracy"] == metrics["accepted"] == metrics[f"accuracy/{key}"] == 1.0
    wrong = "rain" if key == "haze" else "haze"
    assert measure(clip, taxonomy, {wrong: [taxonomy.prompt(key)]})["accuracy"] == 0.0
