"""Diagnosers that follow the user; the text tower here knows a few words by hand."""

from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from autodir.clip import Clip
from autodir.diagnosis.manual import ListDiagnoser, PromptDiagnoser, resolve_prompt, understand
from autodir.errors import ContractError, PromptError
from autodir.prompts import Taxonomy, load_taxonomy
from autodir.records import Diagnosis, Mixture, TextEmbedding

PIXELS = torch.full((1, 3, 8, 8), 0.5)
WORDS = {
    "noise": ("grain", "noise"),
    "haze": ("fog", "haze"),
    "rain": ("shower", "rain "),
    "no": ("leave", "needs no "),
}


class WordTower:
    """A text tower of one dimension per key: 1 where a word of the key stands in the phrase."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.config: dict[str, Any] = {"prompt_scale": 10.0, "prompt_bias": -5.0}
        self._taxonomy = taxonomy

    def encode_text(self, phrases: Sequence[str], masked: bool = True) -> TextEmbedding:
        pooled = torch.zeros(len(phrases), len(self._taxonomy.keys) + 1)
        for row, phrase in enumerate(phrases):
            for column, (key, sentence) in enumerate(
                zip(self._taxonomy.keys, self._taxonomy.sentences, strict=True)
            ):
                words = WORDS.get(key, ())
                named = any(word in phrase for word in words)
                pooled[row, column] = float(phrase == sentence or named)
        pooled[:, -1] = (pooled.sum(1) == 0).float()
        pooled = pooled / pooled.norm(dim=1, keepdim=True)
        return TextEmbedding(tokens=pooled[:, None], pooled=pooled)


class Recorder:
    """A diagnoser that finds the first degradation it may name."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def diagnose(self, pixels: Tensor, among: Taxonomy) -> Diagnosis:
        self.asked.append(among.keys)
        return Diagnosis(
            probabilities={"no": 1.0},
            presence={},
            main=next(iter(among), None),
            mixture=Mixture(phrases=("x",), weights=(1.0,)),
        )


@pytest.fixture
def taxonomy() -> Taxonomy:
    return load_taxonomy()


@pytest.fixture
def clip(taxonomy: Taxonomy) -> Clip:
    return cast("Clip", WordTower(taxonomy))


def test_prompt_is_the_nearest_template(clip: Clip, taxonomy: Taxonomy) -> None:
    degradation, probability = resolve_prompt("get rid of the fog", clip, taxonomy)
    assert degradation.key == "haze"
    assert probability == pytest.approx(torch.sigmoid(torch.tensor(5.0)).item())


@pytest.mark.parametrize("name", ["low_resolution", "low resolution", "Low-Resolution"])
def test_key_or_label_is_always_understood(clip: Clip, taxonomy: Taxonomy, name: str) -> None:
    degradation, probability = resolve_prompt(name, clip, taxonomy)
    assert (degradation.key, probability) == ("low_resolution", 1.0)


def test_unknown_prompt_names_what_is_known(clip: Clip, taxonomy: Taxonomy) -> None:
    with pytest.raises(PromptError, match="'add a cat'") as caught:
        resolve_prompt("add a cat", clip, taxonomy)
    assert "nearest: " in caught.value.hint
    assert "low resolution, raindrop, compression" in caught.value.hint


def test_prompt_below_the_threshold_is_refused(clip: Clip, taxonomy: Taxonomy) -> None:
    mixed = "grain and fog and shower"
    with pytest.raises(PromptError, match="names no degradation"):
        resolve_prompt(mixed, clip, taxonomy, threshold=0.9)
    assert resolve_prompt(mixed, clip, taxonomy, threshold=0.5)[1] < 0.9


def test_model_that_follows_any_prompt_refuses_none(clip: Clip, taxonomy: Taxonomy) -> None:
    clip.config["any_prompt"] = True
    diagnosis = PromptDiagnoser(["add a cat"], clip, taxonomy).diagnose(
        torch.zeros(1, 3, 8, 8), taxonomy
    )
    assert diagnosis.main is not None
    assert diagnosis.mixture == Mixture(phrases=("add a cat",), weights=(1.0,), free=True)


def test_prompt_that_asks_for_nothing_is_refused(clip: Clip, taxonomy: Taxonomy) -> None:
    with pytest.raises(PromptError):
        resolve_prompt("leave it", clip, taxonomy)


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_empty_prompt_is_refused(clip: Clip, taxonomy: Taxonomy, text: str) -> None:
    with pytest.raises(PromptError, match="empty"):
        resolve_prompt(text, clip, taxonomy)


def test_prompt_may_only_name_what_the_taxonomy_has(clip: Clip, taxonomy: Taxonomy) -> None:
    with pytest.raises(PromptError):
        resolve_prompt("the fog", clip, taxonomy.without("haze"))
    with pytest.raises(PromptError, match="none is left"):
        resolve_prompt("the fog", clip, taxonomy.without(*taxonomy))


def test_understanding_tells_all_degradations(clip: Clip, taxonomy: Taxonomy) -> None:
    presence = understand("fog and grain", clip, taxonomy).presence
    assert set(presence) == {degradation.key for degradation in taxonomy}
    assert presence["haze"] == presence["noise"] > 0.5 > presence["blur"]


def test_prompts_are_followed_in_order_and_then_it_is_clean(clip: Clip, taxonomy: Taxonomy) -> None:
    diagnoser = PromptDiagnoser(["no more fog", "the grain!"], clip, taxonomy)
    first = diagnoser.diagnose(PIXELS, taxonomy)
    second = diagnoser.diagnose(PIXELS, taxonomy.without("haze"))
    last = diagnoser.diagnose(PIXELS, taxonomy.without("haze", "noise"))
    assert [d.main.key for d in (first, second) if d.main] == ["haze", "noise"]
    assert [d.prompt for d in (first, second, last)] == ["no more fog", "the grain!", None]
    assert last.is_clean
    assert last.main_probability == 1.0
    assert "haze" not in last.presence


def test_prompt_conditions_the_repair_in_its_own_words(clip: Clip, taxonomy: Taxonomy) -> None:
    diagnosis = PromptDiagnoser(["no more fog"], clip, taxonomy).diagnose(PIXELS, taxonomy)
    assert diagnosis.mixture == Mixture(phrases=("no more fog",), weights=(1.0,), free=True)
    assert diagnosis.main_probability == pytest.approx(diagnosis.presence["haze"])


@pytest.mark.parametrize("text", ["no more fog", "haze", "rain"])
def test_prompt_probabilities_sum_to_one(clip: Clip, taxonomy: Taxonomy, text: str) -> None:
    diagnosis = PromptDiagnoser([text], clip, taxonomy).diagnose(PIXELS, taxonomy)
    assert sum(diagnosis.probabilities.values()) == pytest.approx(1.0)
    assert set(diagnosis.probabilities) == set(taxonomy.keys)
    assert max(diagnosis.probabilities.values()) == diagnosis.main_probability


def test_same_prompt_twice_is_done_twice(clip: Clip, taxonomy: Taxonomy) -> None:
    diagnoser = PromptDiagnoser(["fog", "more fog"], clip, taxonomy)
    diagnoser.diagnose(PIXELS, taxonomy)
    again = diagnoser.diagnose(PIXELS, taxonomy.without("haze"))
    assert again.main == taxonomy.get("haze")


def test_bad_prompt_stops_before_any_work(clip: Clip, taxonomy: Taxonomy) -> None:
    with pytest.raises(PromptError, match="add a cat"):
        PromptDiagnoser(["no more fog", "add a cat"], clip, taxonomy)


def test_plan_is_known_before_any_work(clip: Clip, taxonomy: Taxonomy) -> None:
    planned = PromptDiagnoser(["no more fog", "rain"], clip, taxonomy).planned
    assert [item.degradation.key for item in planned] == ["haze", "rain"]
    assert planned[1].probability == 1.0


def test_pixels_are_checked(clip: Clip, taxonomy: Taxonomy) -> None:
    with pytest.raises(ContractError):
        PromptDiagnoser(["fog"], clip, taxonomy).diagnose(PIXELS[0], taxonomy)


def test_list_asks_only_about_what_is_listed_and_left(taxonomy: Taxonomy) -> None:
    inner = Recorder()
    diagnoser = ListDiagnoser(inner, taxonomy, only=["rain", "Low Resolution", "noise"])
    diagnoser.diagnose(PIXELS, taxonomy)
    diagnoser.diagnose(PIXELS, taxonomy.without("noise"))
    diagnoser.diagnose(PIXELS, taxonomy.only(["blur"]))
    assert inner.asked == [
        ("noise", "rain", "low_resolution", "no"),
        ("rain", "low_resolution", "no"),
        ("no",),
    ]


def test_list_without_names_asks_about_everything(taxonomy: Taxonomy) -> None:
    inner = Recorder()
    ListDiagnoser(inner, taxonomy).diagnose(PIXELS, taxonomy)
    assert inner.asked == [taxonomy.keys]


def test_skipped_degradation_is_never_asked_about(taxonomy: Taxonomy) -> None:
    diagnoser = ListDiagnoser(Recorder(), taxonomy, only=["rain", "noise"], skip=["noise"])
    assert diagnoser.keys == {"rain"}
    assert "blur" not in ListDiagnoser(Recorder(), taxonomy, skip=["blur"]).keys


def test_misspelt_list_is_refused_before_any_work(taxonomy: Taxonomy) -> None:
    with pytest.raises(PromptError, match="'rian'") as caught:
        ListDiagnoser(Recorder(), taxonomy, only=["rian"])
    assert "rain" in caught.value.hint
    with pytest.raises(PromptError):
        ListDiagnoser(Recorder(), taxonomy, skip=["no"])
