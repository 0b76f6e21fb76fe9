"""Prompts in new words: what is kept from the tower, and what a row says."""

from autodir.phrases import UNKNOWN
from autodir.prompts import load_phrases, load_taxonomy


def test_kept_phrases_use_words_that_were_not_learnt(program):
    learnt, held = load_phrases().split(0, 0.15)
    phrases = program("phrases").kept_phrases(held, load_taxonomy(), 20)
    assert {"rain", "noise", UNKNOWN} <= phrases.keys()
    assert all(len(rows) == 20 for rows in phrases.values())
    known = {(word.key, word.language, word.slot, word.text) for word in learnt.words}
    assert not known & {(word.key, word.language, word.slot, word.text) for word in held.words}
    texts = {word.text for word in held.words if word.key == "rain"}
    assert all(any(text in phrase for text in texts) for phrase in phrases["rain"])


def test_a_row_names_the_weakest_degradation(program):
    found = {
        "accuracy": 0.9, "accepted": 0.8, "refused": 0.7, "accuracy/rain": 0.95,
        "accuracy/haze": 0.5, "template_cosine": 0.1,
    }  # fmt: skip
    phrases = {"rain": ["a", "b"], "haze": ["c"], UNKNOWN: ["d"]}
    row = program("phrases").rows_of("own", phrases, found)
    assert row == ["own", "3", "90.0%", "80.0%", "70.0%", "haze 50.0%"]


def test_the_own_tower_alone_is_measured_without_a_budget(program, tmp_path, capsys):
    out = tmp_path / "phrases.json"
    assert program("phrases").main(["--budget", "0", "--out", str(out)]) == 0
    assert "heldout.toml" in capsys.readouterr().out
    assert out.is_file()
