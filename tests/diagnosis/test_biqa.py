"""Blind quality assessment: its views, its head, and the rule for what to repair."""

from typing import Any

import pytest
import torch
from torch import Tensor

from autodir.checkpoint import Model
from autodir.diagnosis.biqa import (
    LARGEST,
    MIXED,
    SURE,
    BiqaDiagnoser,
    QualityHead,
    QualityModel,
    native_crops,
    parts,
    thumbnail,
)
from autodir.diagnosis.calibration import Calibration
from autodir.errors import ContractError


def photo(height: int = 50, width: int = 70, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def quality(tiny_model: Model) -> QualityModel:
    return tiny_model.quality_model().eval()


class Fixed(torch.nn.Module):
    """A quality model that always gives the same scores."""

    def __init__(self, model: QualityModel, logits: dict[str, float], presence: dict[str, float]):
        super().__init__()
        self.taxonomy = model.taxonomy
        self.logits = torch.tensor([[logits.get(key, 0.0) for key in self.taxonomy.keys]])
        keys = [degradation.key for degradation in self.taxonomy]
        self.presence = torch.tensor([[presence.get(key, -9.0) for key in keys]])

    def forward(self, image: Tensor, per_side: int = 3) -> tuple[Tensor, Tensor]:
        return self.logits, self.presence

    closely = forward


@pytest.mark.parametrize(
    ("size", "count"), [((32, 32), 1), ((40, 40), 1), ((48, 32), 2), ((64, 64), 9), ((500, 32), 3)]
)
def test_crops_cover_the_photo_without_much_overlap(size: tuple[int, int], count: int) -> None:
    crops = native_crops(photo(*size), 32)
    assert crops.shape == (1, count, 3, 32, 32)


def test_crops_reach_all_corners_at_native_resolution() -> None:
    image = photo(100, 140)
    crops = native_crops(image, 32, per_side=2)[0]
    assert torch.equal(crops[0], image[0, :, :32, :32])
    assert torch.equal(crops[1], image[0, :, :32, -32:])
    assert torch.equal(crops[3], image[0, :, -32:, -32:])


def test_single_crop_is_the_middle() -> None:
    image = photo(40, 36)
    assert torch.equal(native_crops(image, 32, 1)[0, 0], image[0, :, 4:36, 2:34])


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (20, 31), (1, 500)])
def test_small_photo_is_continued_and_never_padded_with_black(size: tuple[int, int]) -> None:
    crops = native_crops(photo(*size) * 0.5 + 0.5, 32)
    assert crops.shape[-2:] == (32, 32)
    assert float(crops.min()) >= 0.5


def test_thumbnail_shows_the_whole_scene_in_range() -> None:
    small = thumbnail(photo(90, 30).round(), 16)
    assert small.shape == (1, 3, 16, 16)
    assert 0 <= float(small.min()) <= float(small.max()) <= 1


def test_scores_are_scaled_cosines(tiny_model: Model) -> None:
    head = tiny_model.head
    embedding = torch.nn.functional.normalize(torch.rand(2, 16), dim=-1)
    prompts = torch.nn.functional.normalize(torch.rand(5, 16), dim=-1)
    expected = head.logit_scale.exp() * embedding @ prompts.T
    torch.testing.assert_close(head.scores(embedding, prompts), expected)


def test_head_gives_unit_embeddings_whatever_the_number_of_crops(tiny_model: Model) -> None:
    for count in (1, 9):
        features = torch.rand(2, count + 1, 16)
        embedding, presence = tiny_model.head(tiny_model.head.fused(features))
        torch.testing.assert_close(embedding.norm(dim=-1), torch.ones(2))
        assert presence.shape == (2, 8)


def test_order_of_the_crops_does_not_matter(tiny_model: Model) -> None:
    crops, whole = torch.rand(1, 4, 16), torch.rand(1, 1, 16)
    one, other = (tiny_model.head.fused(torch.cat([c, whole], 1)) for c in (crops, crops.flip(1)))
    torch.testing.assert_close(one, other)


def test_measures_count_for_whole_photos_once_they_are_blended_in(tiny_model: Model) -> None:
    model = tiny_model.quality_model()
    image = photo(seed=3)
    before, alone = model(image), model(image, whole=False)
    torch.testing.assert_close(before, alone)
    blend = tiny_model.head.add_blend(tiny_model.head.measures(image).shape[1])
    torch.testing.assert_close(model(image), before)  # untrained, it changes nothing
    torch.nn.init.normal_(blend.nets[0][-1].weight)
    assert not torch.equal(model(image)[0], before[0])
    torch.testing.assert_close(model(image, whole=False), before)
    again = QualityHead(**tiny_model.head.config)
    again.load_state_dict(tiny_model.head.state_dict())
    tiny_model.head.drop_blend()
    torch.testing.assert_close(model(image), before)
    assert "measures" not in tiny_model.head.config


def test_configuration_builds_the_same_head(tiny_model: Model) -> None:
    again = QualityHead(**tiny_model.head.config)
    assert again.state_dict().keys() == tiny_model.head.state_dict().keys()


def test_prompts_are_the_taxonomy_in_softmax_order(quality: QualityModel) -> None:
    sentences = [quality.taxonomy.prompt(key) for key in quality.taxonomy.keys]
    expected = quality.clip.encode_text(sentences).pooled
    torch.testing.assert_close(quality.prompts, expected)
    assert "prompts" not in quality.state_dict()


def test_batch_is_scored_like_its_photos(quality: QualityModel) -> None:
    both = torch.cat([photo(seed=1), photo(seed=2)])
    logits, presence = quality(both)
    assert (logits.shape, presence.shape) == ((2, 9), (2, 8))
    single = quality(both[1:])
    torch.testing.assert_close((logits[1:], presence[1:]), single, rtol=1e-4, atol=1e-5)


def test_probabilities_sum_to_one_over_what_is_asked(quality: QualityModel) -> None:
    diagnoser, everything = BiqaDiagnoser(quality, Calibration()), quality.taxonomy
    whole = diagnoser.diagnose(photo(), everything)
    part = diagnoser.diagnose(photo(), everything.only(["rain", "haze"]))
    assert sum(whole.probabilities.values()) == pytest.approx(1)
    assert set(part.probabilities) == {"rain", "haze", "no"}
    assert sum(part.probabilities.values()) == pytest.approx(1)
    ratios = [d.probabilities["rain"] / d.probabilities["haze"] for d in (whole, part)]
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-4)
    assert part.presence == whole.presence


def test_main_is_the_most_probable_of_those_present(quality: QualityModel) -> None:
    logits = {"noise": 5.0, "rain": 3.0, "haze": 1.0, "no": 9.0}
    model = Fixed(quality, logits, {"rain": 2.0, "haze": 4.0, "noise": -2.0})
    diagnosis = BiqaDiagnoser(model, Calibration()).diagnose(photo(), quality.taxonomy)
    assert diagnosis.main == quality.taxonomy.get("rain")  # noise is likelier, but not present


def test_photo_is_clean_where_no_presence_reaches_the_threshold(quality: QualityModel) -> None:
    model = Fixed(quality, {"rain": 9.0}, {"rain": 0.0})
    for threshold, clean in ((0.49, False), (0.5, False), (0.51, True)):
        figures = Calibration(clean_threshold=threshold)
        diagnosis = BiqaDiagnoser(model, figures).diagnose(photo(), quality.taxonomy)
        assert diagnosis.is_clean == clean


def test_what_is_not_allowed_is_never_main(quality: QualityModel) -> None:
    model = Fixed(quality, {"rain": 9.0}, {"rain": 9.0, "haze": 1.0})
    left = quality.taxonomy.without("rain")
    diagnosis = BiqaDiagnoser(model, Calibration()).diagnose(photo(), left)
    assert diagnosis.main == quality.taxonomy.get("haze")


def test_clean_label_conditions_nothing(quality: QualityModel) -> None:
    model = Fixed(quality, {"no": 9.0, "rain": 2.0}, {"rain": 2.0})
    diagnosis = BiqaDiagnoser(model, Calibration()).diagnose(photo(), quality.taxonomy)
    clean = quality.taxonomy.prompt("no")
    assert clean not in diagnosis.mixture.phrases
    assert sum(diagnosis.mixture.weights) == pytest.approx(1)
    heaviest = max(zip(diagnosis.mixture.weights, diagnosis.mixture.phrases, strict=True))
    assert heaviest[1] == quality.taxonomy.prompt("rain")


def test_what_is_not_found_conditions_nothing(quality: QualityModel) -> None:
    """The softmax may prefer a prompt whose presence is too low for a repair."""
    taxonomy = quality.taxonomy
    scores = {"raindrop": 9.0, "rain": 2.0, "haze": 1.0}
    model = Fixed(quality, scores, {"raindrop": -9.0, "rain": 3.0, "haze": 3.0})
    diagnosis = BiqaDiagnoser(model, Calibration()).diagnose(photo(), taxonomy)
    assert diagnosis.main == taxonomy.get("rain")
    assert set(diagnosis.mixture.phrases) == {taxonomy.prompt("rain"), taxonomy.prompt("haze")}
    shares = dict(zip(diagnosis.mixture.phrases, diagnosis.mixture.weights, strict=True))
    odds = shares[taxonomy.prompt("rain")] / shares[taxonomy.prompt("haze")]
    told = diagnosis.probabilities
    assert odds == pytest.approx(told["rain"] / told["haze"], rel=1e-3)
    nothing = Fixed(quality, scores, dict.fromkeys(scores, -9.0))
    clean = BiqaDiagnoser(nothing, Calibration()).diagnose(photo(), taxonomy)
    assert clean.main is None
    assert len(clean.mixture.phrases) == len(taxonomy.keys) - 1


def test_what_is_less_likely_there_than_not_has_no_part_in_the_mixture(
    quality: QualityModel,
) -> None:
    taxonomy, low = quality.taxonomy, Calibration(clean_threshold=0.2)
    scores = {"rain": 2.0, "haze": 1.0, "noise": 0.5}
    model = Fixed(quality, scores, {"rain": -0.5, "haze": -0.6, "noise": 0.5})
    diagnosis = BiqaDiagnoser(model, low).diagnose(photo(), taxonomy)
    assert diagnosis.main == taxonomy.get("rain")
    assert 0.2 < diagnosis.presence["haze"] < diagnosis.presence["rain"] < MIXED
    assert set(diagnosis.mixture.phrases) == {taxonomy.prompt("rain"), taxonomy.prompt("noise")}


def test_clean_label_may_be_let_into_the_mixture(quality: QualityModel) -> None:
    fixed = Fixed(quality, {"rain": 2.0, "no": 1.0}, {"rain": 3.0})
    diagnoser = BiqaDiagnoser(fixed, Calibration()).looking(crops=1, mix_clean=True)  # type: ignore[arg-type]
    diagnosis = diagnoser.diagnose(photo(40, 40), quality.taxonomy)
    assert diagnosis.mixture.phrases == quality.taxonomy.sentences
    assert diagnosis.mixture.weights == pytest.approx(list(diagnosis.probabilities.values()))


def test_number_of_crops_is_the_diagnosers(quality: QualityModel) -> None:
    image, among = photo(100, 100), quality.taxonomy
    diagnoser = BiqaDiagnoser(quality, Calibration())
    one = diagnoser.looking(crops=1, mix_clean=False).diagnose(image, among)
    expected = quality(image, 1)[0].softmax(-1)[0].tolist()
    assert list(one.probabilities.values()) == pytest.approx(expected)
    assert one.probabilities != diagnoser.diagnose(image, among).probabilities


def test_where_nothing_is_allowed_the_photo_is_clean(quality: QualityModel) -> None:
    nothing = quality.taxonomy.only([])
    diagnosis = BiqaDiagnoser(quality, Calibration(clean_threshold=0.0)).diagnose(photo(), nothing)
    assert diagnosis.is_clean
    assert diagnosis.probabilities == {"no": 1.0}
    assert diagnosis.main_probability == 1.0


def test_temperature_flattens_the_probabilities(quality: QualityModel) -> None:
    model = Fixed(quality, {"rain": 4.0}, {})
    top = [
        max(
            BiqaDiagnoser(model, Calibration(temperature=t))
            .diagnose(photo(), quality.taxonomy)
            .probabilities.values()
        )
        for t in (0.5, 1.0, 4.0)
    ]
    assert top == sorted(top, reverse=True)
    assert top[0] > top[1] > top[2]


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (1, 300), (33, 57)])
def test_photo_of_any_size_is_diagnosed_alike_each_time(
    quality: QualityModel, size: tuple[int, int]
) -> None:
    diagnoser = BiqaDiagnoser(quality, Calibration())
    first, again = (diagnoser.diagnose(photo(*size), quality.taxonomy) for _ in range(2))
    assert first == again


def test_wrong_pixels_are_refused(quality: QualityModel) -> None:
    with pytest.raises(ContractError):
        BiqaDiagnoser(quality, Calibration()).diagnose(torch.zeros(3, 8, 8), quality.taxonomy)


def test_parts_lie_across_from_each_other() -> None:
    image = photo(300, 400)
    first, last = parts(image)
    assert first.shape == last.shape == (1, 3, 180, 240)
    assert torch.equal(first, image[..., :180, :240])
    assert torch.equal(last, image[..., 120:, 160:])


@pytest.mark.parametrize("size", [(256, 900), (300, LARGEST + 1)])
def test_small_and_very_large_photos_have_no_parts(size: tuple[int, int]) -> None:
    assert parts(torch.zeros(1, 3, *size)) == []


class Brighter(QualityModel):
    """Calls a photo as noisy as its first pixel is bright."""

    def __init__(self, model: QualityModel, measured: bool = True) -> None:
        torch.nn.Module.__init__(self)
        self.taxonomy, self.seen = model.taxonomy, list[tuple[int, ...]]()
        self.head: Any = type("Head", (), {"measured": measured})()

    def forward(
        self, image: Tensor, per_side: int = 3, *, whole: bool = True
    ) -> tuple[Tensor, Tensor]:
        self.seen.append(tuple(image.shape[-2:]))
        presence = torch.full((1, 8), -9.0)
        presence[0, 0] = image[0, 0, 0, 0]
        return presence.new_full((1, 9), float(image[0, 0, 0, 0])), presence


def bright_corner(value: float) -> Tensor:
    image = torch.zeros(1, 3, 300, 300)
    image[..., 120:, 120:] = value  # where the second part begins
    return image


def test_parts_of_an_unsure_photo_have_half_of_the_say(quality: QualityModel) -> None:
    model, image = Brighter(quality), bright_corner(8.0)
    logits, presence = model.closely(image)
    assert float(presence[0, 0]) == float(logits[0, 3]) == 2.0  # (0 + (0 + 8) / 2) / 2
    assert presence[0, 1] == -9.0
    assert model.seen == [(300, 300), (180, 180), (180, 180)]


@pytest.mark.parametrize(("value", "measured"), [(SURE, True), (SURE - 1, False)])
def test_parts_are_not_asked_where_the_whole_is_sure_or_nothing_is_measured(
    quality: QualityModel, value: float, measured: bool
) -> None:
    model = Brighter(quality, measured)
    image = bright_corner(-5.0)
    image[..., 0, 0] = value
    assert float(model.closely(image)[1][0, 0]) == value
    assert model.seen == [(300, 300)]


def test_a_quick_diagnosis_looks_once(quality: QualityModel) -> None:
    model = Brighter(quality)
    diagnoser = BiqaDiagnoser(model, Calibration())
    image, among = bright_corner(8.0), quality.taxonomy
    first = among.keys[0]
    assert diagnoser.diagnose(image, among).presence[first] == pytest.approx(0.8808, abs=1e-4)
    assert diagnoser.quick().diagnose(image, among).presence[first] == 0.5
    assert diagnoser.quick().looking(2, True).once
    assert not diagnoser.looking(2, True).once
    assert diagnoser.looking(2, True).quick().crops == 2
