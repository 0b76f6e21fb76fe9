"""The guard keeps what helps, halves what also harms, and takes back what harms."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from autodir.diagnosis.changes import structure_agreement
from autodir.diagnosis.guard import (
    LEAST_CONTRAST,
    LEAST_CONTRAST_IN_DOUBT,
    LEAST_VEIL,
    MOST_LIGHT,
    Guard,
    GuardOptions,
    left_after,
    not_ruled_out,
)
from autodir.errors import ContractError
from autodir.prompts import Taxonomy, load_taxonomy
from autodir.records import Diagnosis, Mixture

TAXONOMY = load_taxonomy()


def found(key: str | None, presence: Mapping[str, float]) -> Diagnosis:
    return Diagnosis(
        probabilities={"no": 1.0},
        presence=presence,
        main=TAXONOMY.get(key) if key else None,
        mixture=Mixture(phrases=("a photo",), weights=(1.0,)),
    )


class Says:
    """A diagnoser that always says the same."""

    def __init__(self, presence: Mapping[str, float]) -> None:
        self.answer = found(None, presence)
        self.asked: list[Taxonomy] = []

    def diagnose(self, pixels: Tensor, among: Taxonomy) -> Diagnosis:
        self.asked.append(among)
        return self.answer


def scene(seed: int = 0) -> Tensor:
    smooth = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(smooth, (60, 80), mode="bilinear")


IMAGE = scene()
BETTER = (IMAGE * 0.98 + 0.01).clamp(0, 1)
BEFORE = {"noise": 0.9, "blur": 0.1, "haze": 0.1}


def judged(
    after: Mapping[str, float],
    candidate: Tensor = BETTER,
    key: str = "noise",
    options: GuardOptions | None = None,
):  # type: ignore[no-untyped-def]
    guard = Guard(Says(after), options)
    return guard.judge(found(key, BEFORE), IMAGE, candidate, TAXONOMY)


def test_round_that_helps_is_kept() -> None:
    verdict = judged({"noise": 0.2, "blur": 0.1, "haze": 0.1})
    assert verdict.kind == "kept"
    assert torch.equal(verdict.image, BETTER)
    assert verdict.after is not None
    assert verdict.measures["gain"] == pytest.approx(0.7)
    assert "noise fell by 0.70" in verdict.why


def test_smoothness_where_grain_was_is_no_harm() -> None:
    before, after = {**BEFORE, "compression": 0.0}, {"noise": 0.3, "compression": 0.99}
    kept = Guard(Says(after)).judge(found("noise", before), IMAGE, BETTER, TAXONOMY)
    assert kept.kind == "kept"
    other = {"haze": 0.3, "compression": 0.99}
    drops = found("raindrop", {**before, "raindrop": 0.1})
    taken = Guard(Says(other)).judge(drops, IMAGE, BETTER, TAXONOMY)
    assert taken.kind == "blended"
    assert "compression grew" in taken.why


@pytest.mark.parametrize("other", ["noise", "compression", "low_resolution", "blur"])
def test_what_the_light_uncovers_is_no_harm(other: str) -> None:
    before = {**BEFORE, "underexposure": 0.95, other: 0.0}
    lit = Guard(Says({"underexposure": 0.9, other: 0.99}))
    dark = found("underexposure", before)
    assert lit.judge(dark, IMAGE * 0.3, BETTER * 0.3, TAXONOMY).kind == "kept"
    rainy = Guard(Says({"underexposure": 0.9, "rain": 0.99}))
    dark = found("underexposure", {**before, "rain": 0.1})
    assert rainy.judge(dark, IMAGE * 0.3, BETTER * 0.3, TAXONOMY).kind == "blended"


def test_a_dark_scene_that_looks_veiled_in_the_light_was_dark_by_nature() -> None:
    for sure, haze, kind in ((0.9, 0.4, "kept"), (0.99, 0.9, "kept"), (0.9, 0.9, "rolled back")):
        before = {"underexposure": sure, "haze": 0.0}
        guard = Guard(Says({"underexposure": 0.0, "haze": haze}))
        dark = 0.3 * IMAGE
        verdict = guard.judge(found("underexposure", before), dark, IMAGE, TAXONOMY)
        assert verdict.kind == kind
    assert torch.equal(verdict.image, dark)
    assert "haze" in verdict.why
    veiled = {"underexposure": 0.9, "haze": 0.8}  # it was seen in the dark already
    assert guard.judge(found("underexposure", veiled), dark, IMAGE, TAXONOMY).kind == "kept"


def test_grain_is_no_structure() -> None:
    generator = torch.Generator().manual_seed(0)
    noisy = IMAGE + 0.08 * torch.randn(IMAGE.shape, generator=generator)
    assert 0.2 < structure_agreement(noisy, IMAGE) < 0.4
    for key, kind in (("noise", "kept"), ("blur", "rolled back")):
        guard = Guard(Says({}))
        assert guard.judge(found(key, BEFORE), noisy, IMAGE, TAXONOMY).kind == kind


@pytest.mark.parametrize(
    ("sure", "behind", "kind"),
    [(0.5, (), "kept"), (0.5, ("noise",), "rolled back"), (0.9, ("noise",), "kept")],
)
def test_behind_another_repair_blur_has_to_be_sure(
    sure: float, behind: tuple[str, ...], kind: str
) -> None:
    guard = Guard(Says({"blur": 0.0, "noise": 0.0}))
    soft = torch.nn.functional.avg_pool2d(IMAGE, 3, 1, 1, count_include_pad=False)
    before = found("blur", {"blur": sure, "noise": 0.0})
    assert guard.judge(before, soft, IMAGE, TAXONOMY, behind=behind).kind == kind


def test_darkness_and_drops_are_not_discovered_in_doubt_either() -> None:
    for key, image in (("underexposure", 0.4 * IMAGE), ("raindrop", 0.97 * IMAGE)):
        guard = Guard(Says({key: 0.0}))
        before = found(key, {key: 0.4})
        assert guard.judge(before, image, IMAGE, TAXONOMY).kind == "kept"
        verdict = guard.judge(before, image, IMAGE, TAXONOMY, behind=("low_resolution",))
        assert verdict.kind == "rolled back"
        assert "in doubt" in verdict.why


@pytest.mark.parametrize(
    ("sure", "behind", "kind"),
    [(0.7, ("rain",), "rolled back"), (0.9, ("rain",), "kept"), (0.7, ("blur",), "kept")],
)
def test_behind_rain_haze_has_to_be_sure(sure: float, behind: tuple[str, ...], kind: str) -> None:
    hazy, candidate = 0.5 + 0.4 * IMAGE, 1.3 * (0.4 * IMAGE) + 0.4
    before = found("haze", {**BEFORE, "haze": sure})
    verdict = Guard(Says({**BEFORE, "haze": 0.0})).judge(
        before, hazy, candidate, TAXONOMY, behind=behind
    )
    assert verdict.kind == kind
    assert ("in doubt" in verdict.why) == (kind != "kept")


def test_no_repair_puts_drops_on_the_lens() -> None:
    before = {**BEFORE, "raindrop": 0.0, "rain": 0.0}
    seeming = Guard(Says({"noise": 0.3, "raindrop": 0.99}))
    assert seeming.judge(found("noise", before), IMAGE, BETTER, TAXONOMY).kind == "kept"
    streaked = Guard(Says({"noise": 0.3, "rain": 0.99}))
    assert streaked.judge(found("noise", before), IMAGE, BETTER, TAXONOMY).kind == "blended"


def test_candidate_is_diagnosed_among_what_is_left() -> None:
    says, left = Says({"noise": 0.2}), TAXONOMY.without("noise")
    Guard(says).judge(found("noise", BEFORE), IMAGE, BETTER, left)
    assert says.asked == [left]


def test_round_after_which_the_named_one_grew_is_rolled_back() -> None:
    verdict = judged({"noise": 0.97, "blur": 0.1, "haze": 0.1})
    assert verdict.kind == "rolled back"
    assert verdict.image is IMAGE
    assert verdict.after is None  # it would be the diagnosis of an image that is gone
    assert "noise" in verdict.why


def test_growth_within_the_tolerance_is_kept() -> None:
    assert judged({"noise": 0.94, "blur": 0.1, "haze": 0.1}).kind == "kept"


def test_side_effect_larger_than_the_gain_takes_half_of_the_change() -> None:
    verdict = judged({"noise": 0.6, "blur": 0.1, "haze": 0.8})
    assert verdict.kind == "blended"
    torch.testing.assert_close(verdict.image, (IMAGE + BETTER) / 2)
    assert "haze grew by 0.70" in verdict.why


def test_side_effect_smaller_than_the_gain_is_accepted() -> None:
    assert judged({"noise": 0.1, "blur": 0.1, "haze": 0.8}).kind == "kept"


def test_side_effect_far_larger_than_the_gain_is_rolled_back() -> None:
    strict = GuardOptions(harm=0.4)
    verdict = judged({"noise": 0.85, "blur": 0.1, "haze": 0.8}, options=strict)
    assert verdict.kind == "rolled back"
    assert "haze" in verdict.why


def test_share_of_a_blend_is_an_option() -> None:
    options = GuardOptions(blend=0.25)
    verdict = judged({"noise": 0.6, "blur": 0.1, "haze": 0.8}, options=options)
    torch.testing.assert_close(verdict.image, 0.75 * IMAGE + 0.25 * BETTER)


def test_change_of_tone_is_another_picture_unless_the_repair_is_one_of_tone() -> None:
    after = {"noise": 0.0, "blur": 0.1, "haze": 0.1}
    brighter = (IMAGE + 0.2).clamp(0, 1)
    assert judged(after, brighter, "noise").kind == "rolled back"
    dark, says = IMAGE * 0.4, Guard(Says(after))
    lit = says.judge(found("underexposure", BEFORE), dark, dark + 0.2, TAXONOMY)
    assert lit.kind == "kept"


def test_other_structure_is_another_picture() -> None:
    verdict = judged({"noise": 0.0}, scene(seed=3) * 0.1 + IMAGE.mean() - 0.05)
    assert verdict.kind == "rolled back"
    assert "same picture" in verdict.why


def test_gray_plane_instead_of_the_scene_is_rolled_back() -> None:
    dark, says = IMAGE * 0.4, Guard(Says({"noise": 0.0}))
    plane = dark.mean((2, 3), keepdim=True).expand_as(IMAGE).contiguous()
    verdict = says.judge(found("underexposure", BEFORE), dark, plane, TAXONOMY)
    assert verdict.kind == "rolled back"
    assert "same picture" in verdict.why


def test_clean_photo_needs_no_verdict() -> None:
    verdict = Guard(Says({})).judge(found(None, BEFORE), IMAGE, BETTER, TAXONOMY)
    assert verdict.kind == "kept"
    assert verdict.image is IMAGE


def test_candidate_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ContractError, match="candidate"):
        judged({}, torch.full_like(IMAGE, float("nan")))


def test_light_is_given_only_where_it_is_missing() -> None:
    before = {**BEFORE, "underexposure": 0.9}
    guard = Guard(Says({"underexposure": 0.0}))
    dark, bright = (
        guard.judge(found("underexposure", before), IMAGE * share, BETTER * share, TAXONOMY)
        for share in (0.4, 1.0)
    )
    assert dark.kind == "kept"
    assert dark.measures["light"] < MOST_LIGHT < bright.measures["light"]
    assert bright.kind == "rolled back"
    assert "no lack of light" in bright.why
    pale = guard.judge(found("underexposure", before), IMAGE * 0.4, IMAGE * 0.2 + 0.7, TAXONOMY)
    assert pale.kind == "rolled back"
    assert "too light" in pale.why


def test_haze_is_lifted_where_contrast_comes_back() -> None:
    presence = {"noise": 0.1, "blur": 0.1, "haze": 0.2}
    veiled = 0.4 + 0.4 * IMAGE
    verdicts = [
        Guard(Says(presence)).judge(
            found("haze", {**BEFORE, "haze": 0.97}), veiled, candidate, TAXONOMY
        )
        for candidate in (0.9 * IMAGE, veiled - 0.2)
    ]
    assert [verdict.kind for verdict in verdicts] == ["kept", "rolled back"]
    assert "no veil" in verdicts[1].why
    assert verdicts[1].measures["contrast"] == pytest.approx(1, abs=0.01)
    assert torch.equal(verdicts[1].image, veiled)


@pytest.mark.parametrize(("sure", "kind"), [(0.6, "rolled back"), (0.97, "kept")])
def test_where_haze_is_in_doubt_more_contrast_has_to_come_back(sure: float, kind: str) -> None:
    presence = {"noise": 0.1, "blur": 0.1, "haze": 0.2}
    clear, candidate = IMAGE * 0.6, IMAGE * 0.6 * 1.28 - 0.05
    verdict = Guard(Says(presence)).judge(
        found("haze", {**BEFORE, "haze": sure}), clear, candidate, TAXONOMY
    )
    assert verdict.kind == kind
    assert verdict.measures["veil"] < LEAST_VEIL
    assert LEAST_CONTRAST < verdict.measures["contrast"] < LEAST_CONTRAST_IN_DOUBT


def test_what_lies_in_the_scene_is_looked_for_where_the_first_look_saw_a_trace() -> None:
    seen = dict.fromkeys((one.key for one in TAXONOMY), 0.0) | {"haze": 0.32}
    left = not_ruled_out(found("noise", seen), TAXONOMY)
    assert {one.key for one in TAXONOMY} - {one.key for one in left} == {
        "underexposure",
        "blur",
        "low_resolution",
        "rain",
        "raindrop",
    }
    assert left.clean == TAXONOMY.clean
    asked = TAXONOMY.without("haze")
    assert {one.key for one in not_ruled_out(found("noise", seen), asked)} == {
        one.key for one in asked
    } - {"underexposure", "blur", "low_resolution", "rain", "raindrop"}


@pytest.mark.parametrize(("rain", "expected"), [(0.6, True), (0.4, False)])
def test_haze_behind_rain_needs_no_trace(rain: float, expected: bool) -> None:
    seen = dict.fromkeys((one.key for one in TAXONOMY), 0.0) | {"rain": rain}
    left = {one.key for one in not_ruled_out(found("rain", seen), TAXONOMY)}
    assert ("haze" in left) == expected
    assert "underexposure" not in left


def test_a_first_look_without_presence_rules_nothing_out() -> None:
    assert not_ruled_out(found("noise", {}), TAXONOMY) == TAXONOMY


def test_a_round_that_changes_less_than_rounding_is_taken_back() -> None:
    after = {"noise": 0.0, "blur": 0.1, "haze": 0.1}
    nothing = judged(after, candidate=IMAGE + 0.2 / 255)
    assert (nothing.kind, "nothing to be seen" in nothing.why) == ("rolled back", True)
    assert torch.equal(nothing.image, IMAGE)
    assert judged(after, candidate=IMAGE + 0.4 / 255).kind == "kept"


@pytest.mark.parametrize("repaired", ["rain", "haze"])
def test_grain_that_was_hidden_is_no_harm(repaired: str) -> None:
    before = found(repaired, {**BEFORE, "noise": 0.1, repaired: 0.9})
    after = Says({"noise": 0.95, "blur": 0.1, "haze": 0.1, "rain": 0.2})
    veiled = 0.4 + 0.4 * IMAGE
    assert Guard(after).judge(before, veiled, 0.9 * IMAGE, TAXONOMY).kind == "kept"


def test_a_veil_over_the_photo_as_it_came_may_hide_what_is_far_alone() -> None:
    veiled = 0.5 + 0.3 * IMAGE
    lifted = veiled.mean() + 1.1 * (veiled - veiled.mean()) - 0.05
    guard, hazy = Guard(Says({"haze": 0.0})), found("haze", {"haze": 0.7})
    for behind, kind in (((), "kept"), (("rain",), "rolled back")):
        verdict = guard.judge(hazy, veiled, lifted, TAXONOMY, behind=behind)
        assert verdict.measures["veil"] > LEAST_VEIL
        assert verdict.kind == kind, verdict.why
    darker = guard.judge(hazy, veiled, veiled - 0.1, TAXONOMY)
    assert darker.kind == "rolled back"
    clear = 0.3 * IMAGE
    verdict = guard.judge(hazy, clear, 1.1 * clear, TAXONOMY)
    assert (verdict.kind, verdict.measures["veil"] < LEAST_VEIL) == ("rolled back", True)


@pytest.mark.parametrize(
    ("presence", "behind", "kind"),
    [
        (0.98, ("noise",), "rolled back"),
        (0.995, ("noise",), "kept"),
        (0.98, ("noise", "rain"), "kept"),
        (0.98, ("rain",), "kept"),
    ],
)
def test_what_looks_hazy_without_its_noise_has_to_look_it_surely(
    presence: float, behind: tuple[str, ...], kind: str
) -> None:
    veiled = 0.5 + 0.3 * IMAGE
    lifted = veiled.mean() + 1.3 * (veiled - veiled.mean()) - 0.05
    guard = Guard(Says({"haze": 0.0}))
    verdict = guard.judge(
        found("haze", {"haze": presence}), veiled, lifted, TAXONOMY, behind=behind
    )
    assert 1.25 < verdict.measures["contrast"] < 1.35
    assert verdict.kind == kind, verdict.why


def test_of_a_repair_of_blur_the_edges_tell_and_not_the_presence() -> None:
    before = {"blur": 0.6, "low_resolution": 0.0, "noise": 0.1}
    noisy = IMAGE + 0.05 * torch.randn(IMAGE.shape, generator=torch.Generator().manual_seed(2))
    softer = torch.nn.functional.avg_pool2d(noisy, 3, 1, 1, count_include_pad=False)
    for after in ({"blur": 0.9}, {"blur": 0.7, "low_resolution": 0.99}):
        guard = Guard(Says({"noise": 0.1, **after}))
        verdict = guard.judge(found("blur", before), softer, noisy, TAXONOMY)
        assert verdict.kind == "kept", verdict.why
        assert "sharper edges" in verdict.why
    guard = Guard(Says({"noise": 0.95, "blur": 0.5}))
    assert guard.judge(found("blur", before), softer, noisy, TAXONOMY).kind == "blended"


def test_a_repair_of_blur_leaves_no_softer_edges() -> None:
    after = {"noise": 0.1, "blur": 0.0, "haze": 0.1}
    before = {**BEFORE, "blur": 0.9, "noise": 0.1}
    noisy = IMAGE + 0.05 * torch.randn(IMAGE.shape, generator=torch.Generator().manual_seed(2))
    softer = torch.nn.functional.avg_pool2d(noisy, 3, 1, 1, count_include_pad=False)
    for image, candidate, kind in ((softer, noisy, "kept"), (noisy, softer, "rolled back")):
        verdict = Guard(Says(after)).judge(found("blur", before), image, candidate, TAXONOMY)
        assert verdict.kind == kind, verdict.why
        assert ("softer edges" in verdict.why) == (kind == "rolled back")
        assert "edges" in verdict.measures


def test_what_was_repaired_is_not_looked_for_again_nor_what_it_covers() -> None:
    every = {one.key for one in TAXONOMY}
    assert every - {one.key for one in left_after("rain", TAXONOMY)} == {"rain"}
    left = left_after("low_resolution", TAXONOMY)
    assert every - {one.key for one in left} == {"low_resolution", "blur"}
    assert {one.key for one in left_after("blur", left)} == {one.key for one in left}
    assert {one.key for one in left_after("blur", TAXONOMY)} == {one.key for one in left}
    alone = left_after("blur", TAXONOMY, covered=False)
    assert every - {one.key for one in alone} == {"blur"}
