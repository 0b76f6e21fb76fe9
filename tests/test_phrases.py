"""The phrase corpus: composed, divided, and roughened by typos."""

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodir.errors import PromptError
from autodir.phrases import UNKNOWN, PhraseCorpus, augment, build_corpus
from autodir.prompts import load_phrases, load_taxonomy

SMALL = {
    "frames": {
        "schema": 1,
        "en": {"noun": ["{x}", "remove the {x}"], "verb": ["{x}"], "wrap": ["hi, {x}"]},
    },
    "haze": {"schema": 1, "en": {"noun": ["fog", "mist"], "verb": ["dehaze it"]}},
    "unknown": {"schema": 1, "en": {"noun": ["dog"]}},
}


@pytest.fixture(scope="module")
def corpus() -> PhraseCorpus:
    return load_phrases()


def test_each_word_stands_in_each_frame_that_fits_it() -> None:
    small = build_corpus(SMALL)
    assert small.phrases("haze") == (
        "fog",
        "remove the fog",
        "mist",
        "remove the mist",
        "dehaze it",
    )
    assert small.unknown == ("dog", "remove the dog")
    assert small.keys == ("haze",)


def test_every_label_has_hundreds_of_phrases(corpus: PhraseCorpus) -> None:
    taxonomy = load_taxonomy()
    assert set(corpus.keys) == set(taxonomy.keys)
    for degradation in taxonomy:
        assert len(corpus.words_of(degradation.key)) >= 200
        assert len(corpus.phrases(degradation.key)) >= 1000
    assert len(corpus.unknown) >= 1000


def test_no_phrase_names_two_degradations(corpus: PhraseCorpus) -> None:
    sets = {key: {p.casefold() for p in corpus.phrases(key)} for key in (*corpus.keys, UNKNOWN)}
    for one, other in combinations(sets, 2):
        assert sorted(sets[one] & sets[other]) == [], (one, other)


def test_corpus_is_the_same_each_time(corpus: PhraseCorpus) -> None:
    assert load_phrases().phrases("rain") == corpus.phrases("rain")


def test_corpus_speaks_six_languages(corpus: PhraseCorpus) -> None:
    for degradation in load_taxonomy():
        languages = {word.language for word in corpus.words_of(degradation.key)}
        assert languages == {"en", "de", "fr", "es", "it", "zh"}


def test_split_shares_neither_words_nor_frames(corpus: PhraseCorpus) -> None:
    learn, held = corpus.split(seed=1, holdout=0.2)
    assert not set(learn.words) & set(held.words)
    assert set(learn.words) | set(held.words) == set(corpus.words)
    for language, slots in corpus.frames.items():
        for slot, frames in slots.items():
            assert not set(learn.frames[language][slot]) & set(held.frames[language][slot])
            assert set(learn.frames[language][slot]) | set(held.frames[language][slot]) == set(
                frames
            )


def test_split_has_both_parts_for_each_key(corpus: PhraseCorpus) -> None:
    learn, held = corpus.split(seed=0, holdout=0.1)
    for key in (*corpus.keys, UNKNOWN):
        assert learn.phrases(key)
        assert held.phrases(key)


def test_split_follows_its_seed(corpus: PhraseCorpus) -> None:
    assert corpus.split(seed=3) == corpus.split(seed=3)
    assert corpus.split(seed=3) != corpus.split(seed=4)


def test_slot_of_one_frame_serves_both_parts() -> None:
    learn, held = build_corpus(SMALL).split(seed=0, holdout=0.5)
    assert learn.frames["en"]["verb"] == held.frames["en"]["verb"] == ("{x}",)


def test_drawn_phrase_holds_its_word_and_follows_the_seed(corpus: PhraseCorpus) -> None:
    word = corpus.words_of("haze")[0]
    drawn = [corpus.draw(word, random.Random(seed)) for seed in range(50)]
    assert all(word.text in phrase for phrase in drawn)
    assert len(set(drawn)) > 10
    assert drawn == [corpus.draw(word, random.Random(seed)) for seed in range(50)]


def test_wrap_goes_around_a_drawn_phrase() -> None:
    small = build_corpus(SMALL)
    word = small.words_of("haze")[-1]
    assert small.draw(word, random.Random(0), wrap=1.0) == "hi, dehaze it"
    assert small.draw(word, random.Random(0), wrap=0.0) == "dehaze it"


def test_key_without_words_is_answered_with_the_known_ones() -> None:
    with pytest.raises(PromptError, match="'snow'") as caught:
        build_corpus(SMALL).phrases("snow")
    assert "haze" in caught.value.hint


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"frames": {"en": {"noun": ["no field"]}}}, "must hold {x}"),
        ({"frames": {"en": {"noum": ["{x}"]}}}, "unknown slot 'noum'"),
        ({"snow": {"en": {"noum": ["snow"]}}}, "unknown slot 'noum'"),
        ({"snow": {"xx": {"noun": ["snow"]}}}, "language 'xx'"),
        ({"snow": {"en": {"noun": [" "]}}}, "an empty noun"),
        ({"snow": {"en": ["snow"]}}, "one table per language"),
    ],
)
def test_malformed_file_is_refused(table: dict[str, object], said: str) -> None:
    with pytest.raises(PromptError) as caught:
        build_corpus({**SMALL, **table})  # type: ignore[dict-item]
    assert said in caught.value.message


@settings(deadline=None)
@given(st.text(max_size=80), st.integers(0, 10_000))
def test_augment_takes_any_text_and_follows_its_seed(phrase: str, seed: int) -> None:
    assert augment(phrase, random.Random(seed)) == augment(phrase, random.Random(seed))


def test_augment_makes_typos_and_leaves_short_words() -> None:
    drawn = {augment("get rid of the fog", random.Random(seed)) for seed in range(200)}
    assert len(drawn) > 10
    assert all("fog" in phrase.casefold() for phrase in drawn)


def test_augment_mostly_keeps_the_words() -> None:
    same = [augment("remove the haze", random.Random(seed)) for seed in range(300)]
    assert sum("haze" in phrase.casefold() for phrase in same) > 150


def test_augment_drops_accents_at_times() -> None:
    drawn = {augment("trouvé", random.Random(seed)).casefold() for seed in range(200)}
    assert "trouvé" in drawn
    assert "trouve" in drawn
