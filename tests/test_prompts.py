"""The taxonomy, the template and what files may say."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodir.errors import PromptError
from autodir.prompts import (
    Degradation,
    Taxonomy,
    load_heldout,
    load_phrases,
    load_taxonomy,
    load_templates,
)

PUBLISHED = (
    "noise",
    "blur",
    "rain",
    "underexposure",
    "haze",
    "low_resolution",
    "raindrop",
    "no",
    "compression",
)


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return load_taxonomy()


def write(folder: Path, text: str) -> Path:
    path = folder / "taxonomy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_keys_stand_in_the_published_softmax_order(taxonomy: Taxonomy) -> None:
    assert taxonomy.keys == PUBLISHED
    assert taxonomy.keys[taxonomy.clean_index] == "no"
    assert len(taxonomy) == 8


def test_labels_are_the_words_and_keys_the_identifiers(taxonomy: Taxonomy) -> None:
    assert taxonomy.labels[5] == "low resolution"
    assert all(key.isidentifier() for key in taxonomy.keys)


def test_prompt_is_the_published_sentence(taxonomy: Taxonomy) -> None:
    assert taxonomy.prompt("rain") == "A photo needs rain artifact reduction"
    assert taxonomy.prompt("low_resolution") == "A photo needs low resolution artifact reduction"
    assert taxonomy.prompt("no") == "A photo needs no artifact reduction"
    assert taxonomy.sentences == tuple(taxonomy.prompt(key) for key in taxonomy.keys)


@pytest.mark.parametrize(
    "name", ["low_resolution", "low resolution", "Low-Resolution", " LOW RESOLUTION "]
)
def test_degradation_is_found_by_key_or_label(taxonomy: Taxonomy, name: str) -> None:
    assert taxonomy.get(name).key == "low_resolution"
    assert taxonomy.index(name) == 5


def test_unknown_name_is_answered_with_the_nearest(taxonomy: Taxonomy) -> None:
    with pytest.raises(PromptError, match="'hase'") as caught:
        taxonomy.get("hase")
    assert "did you mean 'haze'?" in caught.value.hint
    assert "compression" in caught.value.hint


def test_clean_label_is_no_degradation(taxonomy: Taxonomy) -> None:
    assert "no" not in taxonomy
    with pytest.raises(PromptError):
        taxonomy.get("no")
    assert taxonomy.index("no") == 7


def test_without_moves_the_clean_index(taxonomy: Taxonomy) -> None:
    rest = taxonomy.without("rain", taxonomy.get("compression"))
    assert rest.keys == tuple(key for key in PUBLISHED if key not in ("rain", "compression"))
    assert rest.clean_index == 6


def test_without_leaves_the_original_alone(taxonomy: Taxonomy) -> None:
    taxonomy.without("rain")
    assert taxonomy.keys == PUBLISHED


def test_repaired_degradation_may_be_taken_away_again(taxonomy: Taxonomy) -> None:
    rain = taxonomy.get("rain")
    rest = taxonomy.without(rain)
    assert rest.without(rain) == rest
    with pytest.raises(PromptError):
        rest.without("rain")


def test_everything_can_be_taken_away_but_the_clean_label(taxonomy: Taxonomy) -> None:
    empty = taxonomy.without(*taxonomy)
    assert empty.keys == ("no",)
    assert len(empty) == 0


def test_only_keeps_the_softmax_order(taxonomy: Taxonomy) -> None:
    assert taxonomy.only(["compression", "noise"]).keys == ("noise", "no", "compression")


@settings(deadline=None)
@given(st.sets(st.sampled_from([key for key in PUBLISHED if key != "no"])))
def test_only_and_without_are_complements(chosen: set[str]) -> None:
    taxonomy = load_taxonomy()
    others = {degradation.key for degradation in taxonomy} - chosen
    assert taxonomy.only(chosen) == taxonomy.without(*others)


def test_dictionary_form_survives_json(taxonomy: Taxonomy) -> None:
    assert Taxonomy.from_dict(json.loads(json.dumps(taxonomy.to_dict()))) == taxonomy


def test_degradation_is_contained_by_key_and_by_value(taxonomy: Taxonomy) -> None:
    assert "rain" in taxonomy
    assert taxonomy.get("rain") in taxonomy
    assert "snow" not in taxonomy
    assert [degradation.key for degradation in taxonomy][-1] == "compression"


ONE = '[[degradation]]\nkey = "rain"\nlabel = "rain"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema = 2", "schema 2"),
        ("schema = 1\nclaen = 'no'", "'claen'"),
        ("schema = 1\n" + ONE + "color_fxi = 'none'", "'color_fxi'"),
        ("schema = 1\n" + ONE + "color_fix = 'magic'", "'magic'"),
        ("schema = 1\n" + ONE + "structure_weight = 2.5", "2.5"),
        ("schema = 1\n" + ONE + "sampled = 'no'", "'no'"),
        ("schema = 1\n" + ONE + ONE, "rain more than once"),
        ("schema = 1\n[[degradation]]\nlabel = 'rain'", "malformed"),
        ("schema = 1\n[[degradation]]\nkey = 'two words'\nlabel = 'x'", "two words"),
        ("schema = 1\nclean_index = 3\n" + ONE, "clean_index 3"),
        ("schema = 1\ntemplate = 'no field'", "{label}"),
        ("schema = 1\n[[degradation]]\nkey = 5\nlabel = 'x'", "malformed"),
        ("not toml", "cannot read"),
    ],
)
def test_malformed_taxonomy_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PromptError) as caught:
        load_taxonomy(write(tmp_path, text))
    assert said in caught.value.message


def test_misspelt_key_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(PromptError) as caught:
        load_taxonomy(write(tmp_path, "schema = 1\nclaen = 'no'"))
    assert "'clean'" in caught.value.hint


def test_taxonomy_takes_the_template_beside_it(tmp_path: Path) -> None:
    templates = tmp_path / "templates.toml"
    templates.write_text("schema = 1\ntemplate = 'Fix {label}'\nnull = ''", encoding="utf-8")
    taxonomy = load_taxonomy(write(tmp_path, "schema = 1\n" + ONE))
    assert taxonomy.prompt("rain") == "Fix rain"


def test_missing_file_is_a_prompt_error(tmp_path: Path) -> None:
    for load in (load_taxonomy, load_templates, load_heldout):
        with pytest.raises(PromptError, match="cannot read"):
            load(tmp_path / "absent.toml")
    with pytest.raises(PromptError, match=r"frames\.toml is missing"):
        load_phrases(tmp_path)


def test_templates_without_a_null_prompt_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "templates.toml"
    path.write_text("schema = 1\ntemplate = '{label}'", encoding="utf-8")
    with pytest.raises(PromptError, match="'null'"):
        load_templates(path)


def test_null_prompt_is_empty() -> None:
    assert load_templates().null == ""


def test_heldout_sentences_cover_each_degradation_and_the_unknown(taxonomy: Taxonomy) -> None:
    heldout = load_heldout()
    assert set(heldout) == {degradation.key for degradation in taxonomy} | {"unknown"}
    assert min(len(rows) for rows in heldout.values()) >= 20


def test_no_heldout_sentence_is_a_training_phrase() -> None:
    corpus = load_phrases()
    known = {
        phrase.casefold() for key in (*corpus.keys, "unknown") for phrase in corpus.phrases(key)
    }
    heldout = {row.casefold() for rows in load_heldout().values() for row in rows}
    assert sorted(known & heldout) == []


def test_degradation_needs_a_label() -> None:
    with pytest.raises(PromptError):
        Degradation(key="rain", label=" ")
