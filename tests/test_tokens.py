"""Both tokenizers keep one contract: BOS, text, EOS, padding."""

from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autodir.errors import CheckpointError
from autodir.tokens import (
    ClipTokenizer,
    PhraseTokenizer,
    Tokenizer,
    learn_tokenizer,
    load_tokenizer,
)

PHRASES = ["remove the fog", "remove the rain", "foggy photo", "the photo is noisy", "去雾"] * 3
LEARNT = learn_tokenizer(PHRASES, vocabulary=320)


@pytest.fixture(scope="module")
def published() -> ClipTokenizer:
    return ClipTokenizer()


def test_published_prompts_have_the_published_token_counts(published: ClipTokenizer) -> None:
    words = ["noise", "blur", "rain", "underexposure", "haze", "low resolution", "raindrop", "no"]
    prompts = [f"A photo needs {word} artifact reduction" for word in words]
    last = published.encode([*prompts, ""], 77).last
    assert (last + 1).tolist() == [8, 8, 8, 10, 8, 9, 9, 8, 2]


def test_published_padding_is_the_end_token(published: ClipTokenizer) -> None:
    tokens = published.encode(["rain"], 77)
    assert tokens.ids[0, 0] == 49406
    assert set(tokens.ids[0, 2:].tolist()) == {49407}
    assert published.vocabulary == 49408


@settings(deadline=None)
@given(st.text(max_size=60))
@example("<eos> <pad>")
def test_any_text_is_framed_and_padded(text: str) -> None:
    tokens = LEARNT.encode([text], 24)
    row, last = tokens.ids[0].tolist(), int(tokens.last[0])
    assert len(row) == 24
    assert row[0] == 1
    assert row[last] == 2
    assert set(row[last + 1 :]) <= {0}
    assert not {0, 1, 2} & set(row[1:last])
    assert max(row) < LEARNT.vocabulary


@pytest.mark.parametrize("tokenizer", [LEARNT, ClipTokenizer()], ids=["bpe", "clip"])
def test_long_text_is_cut_and_keeps_its_end(tokenizer: Tokenizer) -> None:
    short, long = tokenizer.encode(["fog fog fog fog", "fog " * 400], 8).last.tolist()
    assert (short, long) == (5, 7)
    tokens = tokenizer.encode(["fog " * 400], 8)
    assert tokens.ids[0, 7] == tokenizer.encode([""], 8).ids[0, 1]


def test_case_makes_no_difference() -> None:
    upper, lower = LEARNT.encode(["REMOVE the Fog", "remove the fog"], 24).ids
    assert torch.equal(upper, lower)


def test_known_words_are_shorter_than_their_letters() -> None:
    assert LEARNT.encode(["remove the fog"], 24).last[0] < 6


def test_different_texts_have_different_ids() -> None:
    one, other = LEARNT.encode(["snow", "snwo"], 24).ids
    assert not torch.equal(one, other)


def test_same_phrases_learn_the_same_tokenizer(tmp_path: Path) -> None:
    for name, phrases in (("a", PHRASES), ("b", list(reversed(PHRASES)))):
        (tmp_path / name).mkdir()
        learn_tokenizer(phrases, vocabulary=320).save(tmp_path / name)
    first, second = (tmp_path / name / "tokenizer.json" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_saved_tokenizer_is_read_back(tmp_path: Path) -> None:
    LEARNT.save(tmp_path)
    again = load_tokenizer("bpe", tmp_path)
    assert isinstance(again, PhraseTokenizer)
    assert torch.equal(again.encode(PHRASES, 24).ids, LEARNT.encode(PHRASES, 24).ids)


def test_vocabulary_is_bounded() -> None:
    assert 259 <= LEARNT.vocabulary <= 320


@pytest.mark.parametrize(
    "text", ["", "{}", '{"model": {"type": "BPE", "vocab": {}, "merges": []}}']
)
def test_damaged_tokenizer_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError):
        load_tokenizer("bpe", tmp_path)


def test_openclip_pads_with_zero(published: ClipTokenizer) -> None:
    ours = load_tokenizer("open_clip", Path()).encode(["rain", ""], 8)
    assert ours.ids[1].tolist() == [49406, 49407, 0, 0, 0, 0, 0, 0]
    assert torch.equal(ours.last, published.encode(["rain", ""], 8).last)


def test_missing_tokenizer_and_unknown_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read"):
        load_tokenizer("bpe", tmp_path)
    with pytest.raises(CheckpointError, match="'words'"):
        load_tokenizer("words", tmp_path)
