"""The restore loop on a tiny model: what it repeats, when it ends, and what it never touches."""

import copy
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

from autodir.checkpoint import Model
from autodir.config import RestoreOptions
from autodir.diagnosis import guard
from autodir.diagnosis.guard import Guard
from autodir.diagnosis.maps import PresenceMap
from autodir.errors import ConfigError, ContractError, DeviceError, PromptError
from autodir.pipeline import RestorationReport, Restorer, find_device
from autodir.prompts import Taxonomy
from autodir.records import Diagnosis, Mixture, NoiseSource, Verdict

FREE = RestoreOptions(guard=False, structure_weight=0.0, color_fix="none", max_steps=2)
"""Diffusion alone and unjudged: with random weights each round changes each pixel."""
HARMLESS = RestoreOptions(structure_weight=0.9, color_fix="none")
"""The untrained correction gives nearly the photo back, so the guard keeps each round."""


class Pretend:
    """Finds the given degradations in their order, as long as they are allowed."""

    def __init__(self, taxonomy: Taxonomy, keys: Sequence[str], growing: bool = False) -> None:
        self.taxonomy, self.keys, self.growing = taxonomy, keys, growing
        self.seen: list[Tensor] = []

    def quick(self) -> "Pretend":
        return self

    def diagnose(self, pixels: Tensor, among: Taxonomy) -> Diagnosis:
        level = 0.6 + 0.1 * len(self.seen) if self.growing else 0.6
        self.seen.append(pixels)
        found = [key for key in self.keys if key in among]
        keys = [degradation.key for degradation in among]
        return Diagnosis(
            probabilities={**{key: 1 / (len(keys) + 1) for key in keys}, "no": 1 / (len(keys) + 1)},
            presence={degradation.key: min(level, 1.0) for degradation in self.taxonomy},
            main=among.get(found[0]) if found else None,
            mixture=Mixture(phrases=("A photo",), weights=(1.0,)),
        )


@pytest.fixture
def restorer(tiny_model: Model) -> Restorer:
    return Restorer(tiny_model, {"model": "tiny"})


def pretend(restorer: Restorer, *keys: str, growing: bool = False) -> Pretend:
    """Let a pretend diagnoser decide, for the loop and for the guard."""
    diagnoser = Pretend(restorer.taxonomy, keys, growing)
    restorer.diagnoser = diagnoser  # type: ignore[assignment]
    return diagnoser


def photo(height: int = 32, width: int = 48, seed: int = 0) -> Tensor:
    smooth = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(smooth, (height, width), mode="bilinear")
    return (large[0] * 255).round() / 255


def repaired(report: RestorationReport) -> list[str]:
    return [step.degradation for step in report.steps]


def test_same_seed_gives_identical_pixels(restorer: Restorer) -> None:
    first, again = restorer.restore(photo(), FREE), restorer.restore(photo(), FREE)
    assert torch.equal(first.image.pixels, again.image.pixels)
    assert not torch.equal(first.image.pixels, photo())


def test_other_seed_gives_other_pixels(restorer: Restorer) -> None:
    other = RestoreOptions(**{**FREE.to_dict(), "seed": 1})
    pixels = [restorer.restore(photo(), options).image.pixels for options in (FREE, other)]
    assert not torch.equal(*pixels)


def test_global_random_state_plays_no_part(restorer: Restorer) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = restorer.restore(photo(), FREE).image.pixels
        torch.manual_seed(2)
        assert torch.equal(restorer.restore(photo(), FREE).image.pixels, first)


def test_strength_zero_gives_the_input(restorer: Restorer) -> None:
    result = restorer.restore(photo(), RestoreOptions(strength=0.0, guard=False))
    assert torch.equal(result.image.pixels, photo())
    assert result.report.stopped == "strength is 0"
    assert result.report.steps == ()


def test_half_strength_lies_halfway(restorer: Restorer) -> None:
    half = RestoreOptions(**{**FREE.to_dict(), "strength": 0.5})
    whole = restorer.restore(photo(), FREE).image.pixels
    part = restorer.restore(photo(), half).image.pixels
    torch.testing.assert_close(part, (photo() + whole) / 2)


def test_clean_photo_keeps_its_pixels(tiny_model: Model) -> None:
    model = copy.copy(tiny_model)
    model.calibration = {"clean_threshold": 2.0}
    result = Restorer(model).restore(photo(), FREE)
    assert torch.equal(result.image.pixels, photo())
    assert result.report.clean
    assert result.report.steps == ()
    assert result.report.stopped == "no degradation left"


def test_each_degradation_is_repaired_at_most_once(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LEAST_TRACE", {})
    endless = {**FREE.to_dict(), "max_steps": 64}
    report = restorer.restore(photo(), RestoreOptions(**{**endless, "mix_clean": True})).report
    keys = [degradation.key for degradation in restorer.taxonomy]
    assert sorted(repaired(report)) == sorted(keys)  # a threshold of 0 finds all of them
    assert report.stopped == "no degradation left"
    ours = repaired(restorer.restore(photo(), RestoreOptions(**endless)).report)
    assert set(keys) - set(ours) <= {"blur", "low_resolution"}  # one covers the other
    assert len(ours) == len(set(ours)) == len(keys) - 1


@pytest.mark.parametrize(
    ("trace", "expected"),
    [(0.05, ["noise", "rain"]), (0.3, ["noise", "underexposure", "rain"])],
)
def test_darkness_that_the_first_look_did_not_see_is_no_later_discovery(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch, trace: float, expected: list[str]
) -> None:
    diagnoser = pretend(restorer, "noise", "underexposure", "rain")
    look = diagnoser.diagnose

    def faint(pixels: Tensor, among: Taxonomy) -> Diagnosis:
        seen = look(pixels, among)
        return dataclasses.replace(seen, presence={**seen.presence, "underexposure": trace})

    monkeypatch.setattr(diagnoser, "diagnose", faint)
    report = restorer.restore(photo(), RestoreOptions(guard=False)).report
    assert repaired(report) == expected


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_loop_ends_after_max_steps(restorer: Restorer, rounds: int) -> None:
    limited = RestoreOptions(**{**FREE.to_dict(), "max_steps": rounds})
    report = restorer.restore(photo(), limited).report
    assert len(report.steps) == rounds
    assert report.stopped == f"{rounds} rounds done"
    assert [step.index for step in report.steps] == list(range(rounds))


def test_each_round_starts_from_the_last(restorer: Restorer) -> None:
    diagnoser = pretend(restorer, "rain", "noise")
    result = restorer.restore(photo(), FREE)
    assert repaired(result.report) == ["rain", "noise"]
    assert torch.equal(diagnoser.seen[0][0], photo())
    assert not torch.equal(diagnoser.seen[1], diagnoser.seen[0])
    assert torch.equal(diagnoser.seen[2][0], result.image.pixels)


def test_only_the_wanted_degradations_are_repaired(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LEAST_TRACE", {})
    wanted = RestoreOptions(
        **{**FREE.to_dict(), "only": ("rain", "low resolution"), "max_steps": 9}
    )
    report = restorer.restore(photo(), wanted).report
    assert set(repaired(report)) == {"rain", "low_resolution"}


def test_skipped_degradations_are_left_alone(restorer: Restorer) -> None:
    less = RestoreOptions(**{**FREE.to_dict(), "skip": ("rain", "blur"), "max_steps": 9})
    keys = {degradation.key for degradation in restorer.taxonomy}
    assert set(repaired(restorer.restore(photo(), less).report)) == keys - {"rain", "blur"}


@pytest.mark.parametrize("field", ["only", "skip"])
def test_unknown_degradation_is_named(restorer: Restorer, field: str) -> None:
    with pytest.raises(PromptError, match="rian"):
        restorer.restore(photo(), RestoreOptions.from_mapping({field: ("rian",)}))


def test_prompts_are_followed_in_order_and_may_repeat(restorer: Restorer) -> None:
    told = RestoreOptions(prompt=("noise", "rain", "noise"), structure_weight=0.0, max_steps=1)
    report = restorer.restore(photo(), told).report
    assert repaired(report) == ["noise", "rain", "noise"]
    assert [step.prompt for step in report.steps] == ["noise", "rain", "noise"]
    assert {step.verdict for step in report.steps} == {"kept"}  # own words are not overruled
    assert report.stopped == "all prompts done"


def test_prompt_that_says_nothing_known_is_an_error(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(restorer.model.clip.config, "prompt_bias", -100.0)
    with pytest.raises(PromptError, match="paint it black"):
        restorer.restore(photo(), RestoreOptions(prompt=("paint it black",)))


def test_guard_rolls_back_what_makes_it_worse(restorer: Restorer) -> None:
    pretend(restorer, "rain", growing=True)
    result = restorer.restore(photo(), HARMLESS)
    (step,) = result.report.steps
    assert step.verdict == "rolled back"
    assert torch.equal(result.image.pixels, photo())
    assert "rain" in step.why


def test_guard_rolls_back_another_picture(restorer: Restorer) -> None:
    pretend(restorer, "rain")
    foreign = RestoreOptions(structure_weight=0.0, color_fix="none")
    result = restorer.restore(photo(), foreign)
    assert result.report.steps[0].verdict == "rolled back"
    assert torch.equal(result.image.pixels, photo())


def test_without_guard_the_same_round_is_kept(restorer: Restorer) -> None:
    pretend(restorer, "rain", growing=True)
    result = restorer.restore(photo(), FREE)
    assert [step.verdict for step in result.report.steps] == ["kept"]
    assert not torch.equal(result.image.pixels, photo())


def test_loop_goes_on_from_the_image_of_the_verdict(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(restorer, "rain")
    blended = torch.full((1, 3, 32, 48), 0.25)
    verdict = Verdict(kind="blended", why="half of it", image=blended)
    monkeypatch.setattr(Guard, "judge", lambda *_, behind: verdict)
    result = restorer.restore(photo(), HARMLESS)
    assert torch.equal(result.image.pixels, blended[0])
    assert result.report.steps[0].why == "half of it"


@pytest.mark.parametrize("guard", [True, False])
def test_looks_after_a_repair_are_quick(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch, guard: bool
) -> None:
    close = pretend(restorer, "rain")
    quick = Pretend(restorer.taxonomy, ["rain"])
    monkeypatch.setattr(close, "quick", lambda: quick)
    restorer.restore(photo(), dataclasses.replace(HARMLESS, guard=guard))
    assert (len(close.seen), len(quick.seen)) == (1, 1)
    torch.testing.assert_close(close.seen[0], photo()[None])


@pytest.mark.parametrize("only", [(), ("rain",)])
def test_diagnosis_of_the_guard_is_not_made_twice(
    restorer: Restorer, only: tuple[str, ...]
) -> None:
    diagnoser = pretend(restorer, "rain")
    report = restorer.restore(photo(), dataclasses.replace(HARMLESS, only=only)).report
    assert [step.verdict for step in report.steps] == ["kept"]
    assert len(diagnoser.seen) == 2


@pytest.mark.parametrize(
    "size", [*((n, n) for n in range(1, 8)), (1, 7), (5, 2), (1, 400), (400, 1), (33, 57)]
)
def test_photo_of_any_size_keeps_it(restorer: Restorer, size: tuple[int, int]) -> None:
    options = RestoreOptions(guard=False, structure_weight=0.5, max_steps=1)
    pixels = restorer.restore(photo(*size), options).image.pixels
    assert pixels.shape == (3, *size)
    assert pixels.dtype == torch.float32
    assert bool(torch.isfinite(pixels).all())
    assert 0 <= float(pixels.min()) <= float(pixels.max()) <= 1


@pytest.mark.parametrize("fix", ["none", "adain", "wavelet"])
def test_color_fix_is_applied_last(restorer: Restorer, fix: str) -> None:
    pretend(restorer, "noise")
    options = RestoreOptions(**{**FREE.to_dict(), "color_fix": fix})
    means = restorer.restore(photo(), options).image.pixels.mean((1, 2))
    distance = float((means - photo().mean((1, 2))).abs().max())
    assert (distance < 0.03) == (fix != "none")


def test_samples_that_do_not_help_are_not_drawn(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    taxonomy = restorer.taxonomy
    restorer.taxonomy = dataclasses.replace(
        taxonomy,
        degradations=tuple(dataclasses.replace(d, sampled=d.key != "blur") for d in taxonomy),
    )
    given: list[Tensor] = []
    correct = restorer.corrector.correct

    def noted(degraded: Tensor, restored: Tensor, *rest: object) -> Tensor:
        given.append(restored - degraded)
        return correct(degraded, restored, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(restorer.corrector, "correct", noted)
    for key, options, drawn in (
        ("blur", RestoreOptions(max_steps=1), False),
        ("noise", RestoreOptions(max_steps=1), True),
        ("blur", RestoreOptions(max_steps=1, sampling_steps=2), True),
        ("blur", RestoreOptions(max_steps=1, structure_weight=0.9), True),
    ):
        pretend(restorer, key)
        seen: list[object] = []
        restorer.restore(photo(), options, callback=seen.append)
        assert bool(given.pop().any()) == drawn
        assert bool(seen) == drawn


def test_gray_photo_with_alpha_stays_one(restorer: Restorer) -> None:
    generator = np.random.default_rng(0)
    array = generator.integers(0, 255, (20, 30, 2), dtype=np.uint8)
    result = restorer.restore(PIL.Image.fromarray(array, "LA"), FREE).image
    written = result.to_pil()
    assert written.mode == "LA"
    assert np.array_equal(np.asarray(written)[..., 1], array[..., 1])
    assert not np.array_equal(np.asarray(written)[..., 0], array[..., 0])


def test_scale_enlarges_and_then_repairs_low_resolution_alone(restorer: Restorer) -> None:
    pretend(restorer, "rain", "low_resolution", "noise")
    options = RestoreOptions(**{**HARMLESS.to_dict(), "scale": 2})
    result = restorer.restore(photo(20, 30), options)
    assert result.image.size == (40, 60)
    assert repaired(result.report) == ["low_resolution"]


def test_callback_sees_each_sampling_step(restorer: Restorer) -> None:
    seen: list[object] = []
    options = RestoreOptions(**{**FREE.to_dict(), "sampling_steps": 3})
    restorer.restore(photo(), options, callback=seen.append)
    assert len(seen) == 2 * 3


def test_callback_can_end_the_sampling(restorer: Restorer) -> None:
    seen: list[object] = []

    def once(step: object) -> bool:
        seen.append(step)
        return False

    options = RestoreOptions(**{**FREE.to_dict(), "sampling_steps": 3})
    restorer.restore(photo(), options, callback=once)
    assert len(seen) == 2  # one in each round


def test_diagnosis_is_that_of_the_first_round(restorer: Restorer) -> None:
    found = restorer.diagnose(photo())
    assert dataclasses.replace(found, severity={}) == restorer.restore(photo(), FREE).report.first
    assert found.severity["noise"].unit == "levels"
    assert sum(found.probabilities.values()) == pytest.approx(1)


def test_clean_parts_keep_their_bits_where_only_the_others_are_repaired(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = PresenceMap(
        logits=torch.tensor([[9.0, -9.0]]),
        rows=torch.tensor([8.0]),
        columns=torch.tensor([24.0, 40.0]),
        size=(64, 64),
    )
    found = dict.fromkeys(restorer.taxonomy.keys, left)
    monkeypatch.setattr("autodir.diagnosis.maps.presence_maps", lambda *_: found)
    options = RestoreOptions(**{**FREE.to_dict(), "only_where_needed": True})
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(5))
    result = restorer.restore(picture, options).image.pixels
    assert torch.equal(result[..., 40:], picture[..., 40:])
    assert not torch.equal(result[..., :24], picture[..., :24])


def test_a_map_of_every_degradation_has_the_size_of_the_photo(restorer: Restorer) -> None:
    maps = restorer.maps(photo())
    assert list(maps) == [degradation.key for degradation in restorer.taxonomy]
    assert {found.presence().shape for found in maps.values()} == {photo().shape[-2:]}


def test_plan_is_the_first_round(restorer: Restorer) -> None:
    pretend(restorer, "haze", "rain")
    (step,) = restorer.plan(photo())
    assert (step.degradation, step.prompt) == ("haze", None)
    assert step.structure_weight == restorer.taxonomy.get("haze").structure_weight


def test_plan_of_prompts_lists_them_in_order(restorer: Restorer) -> None:
    planned = restorer.plan(photo(), RestoreOptions(prompt=("rain", "noise"), structure_weight=0.3))
    assert [step.degradation for step in planned] == ["rain", "noise"]
    assert {step.structure_weight for step in planned} == {0.3}


def test_plan_of_a_clean_photo_is_empty(restorer: Restorer) -> None:
    pretend(restorer)
    assert restorer.plan(photo()) == []


def test_parts_can_be_left_out(restorer: Restorer) -> None:
    pixels = photo()[None]

    def applied(diffusion: bool, correction: bool) -> Tensor:
        return restorer.apply_parts(
            pixels, "noise", diffusion=diffusion, correction=correction, structure_weight=0.5
        )

    prompt = Mixture(phrases=(restorer.taxonomy.prompt("noise"),), weights=(1.0,))
    conditioning = restorer.diffusion.condition(pixels, prompt)
    sampled = restorer.diffusion.sample(conditioning, NoiseSource(0))
    assert torch.equal(applied(False, False), pixels)
    assert torch.equal(applied(True, False), sampled)
    torch.testing.assert_close(applied(False, True), pixels)
    torch.testing.assert_close(applied(True, True), (sampled + pixels) / 2)


def test_report_tells_what_repeats_the_result(restorer: Restorer) -> None:
    report = restorer.restore(photo(), FREE).report
    assert isinstance(report, RestorationReport)
    told = json.loads(report.to_json())
    assert report.options["structure_weight"] == 0.0
    assert report.provenance["model"] == "tiny"
    assert len(told["steps"]) == 2


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "meta", ""])
def test_absent_device_is_named(name: str) -> None:
    with pytest.raises(DeviceError, match=repr(name)):
        find_device(name)


def test_device_of_the_processor_is_always_there() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize("precision", ["int3", "fp16"])
def test_precision_that_the_processor_lacks_is_refused(
    tiny_model_folder: Path, precision: str
) -> None:
    with pytest.raises(ConfigError, match=precision):
        Restorer.from_pretrained(tiny_model_folder, device="cpu", precision=precision)


def test_model_from_disk_says_which_it_is(tiny_model_folder: Path) -> None:
    loaded = Restorer.from_pretrained(
        tiny_model_folder, device="cpu", threads=torch.get_num_threads()
    )
    assert loaded.info["model"] == "tiny"
    assert len(loaded.info["model_sha256"]) == 64


def test_both_parts_run_in_bfloat16(tiny_model_folder: Path) -> None:
    half = Restorer.from_pretrained(tiny_model_folder, device="cpu", precision="bf16")
    exact = Restorer.from_pretrained(tiny_model_folder, device="cpu", precision="fp32")
    options = RestoreOptions(guard=False, structure_weight=0.5, max_steps=1, only=("noise",))
    pixels = [each.restore(photo(), options).image.pixels for each in (half, exact)]
    assert pixels[0].dtype == torch.float32
    assert float((pixels[0] - pixels[1]).abs().mean()) < 0.05


def test_tensor_that_is_no_photo_is_refused(restorer: Restorer) -> None:
    with pytest.raises(ContractError):
        restorer.apply_parts(torch.full((1, 3, 8, 8), float("nan")), "noise")
