import csv
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from autodir.errors import ConfigError, ImageError
from autodir.evaluation import datasets
from autodir.evaluation.datasets import FOLDERS, SetSpec, data_root, load_set
from autodir.evaluation.metrics import Protocol, measure


def spec(*folders, **values):
    return SetSpec(name="set", folders=folders, **values)


def cases(data, *folders, **values):
    return list(load_set(spec(*folders, **values), data / "eval"))


def test_paired_inputs_meet_their_targets(data):
    found = cases(data, "LOL_eval15")
    assert [case.name for case in found] == [f"LOL_eval15/{index}" for index in range(3)]
    for case in found:
        assert case.degradations == ("underexposure",)
        assert case.input.shape == case.target.shape == (1, 3, 24, 32)
        assert (case.input - case.target * 0.4).abs().max() < 2 / 255


def test_target_may_have_another_format(data):
    target = data / "eval/LOL_eval15/target/1.png"
    target.rename(target.with_suffix(".PNG"))
    assert len(cases(data, "LOL_eval15")) == 3


def test_input_without_target_is_named(data):
    (data / "eval/LOL_eval15/target/1.png").unlink()
    with pytest.raises(ImageError, match=r"1\.png has 0 targets"):
        cases(data, "LOL_eval15")


def test_small_inputs_are_enlarged_by_bicubic(data):
    (case,) = cases(data, "Set5_x4")
    assert case.input.shape == case.target.shape == (1, 3, 32, 48)
    assert case.protocol == Protocol(color="y", crop=4)
    assert case.input.mul(255).frac().abs().max() < 1e-3 or case.input.mul(255).round().equal(
        case.input.mul(255)
    )


def test_real_pictures_have_no_target(data):
    for case in cases(data, "Rain_real"):
        assert case.target is None
        assert case.degradations == ("rain",)


def test_clean_pictures_are_their_own_target(data):
    for case in cases(data, "CBSD68", "Kodak24"):
        assert case.degradations == ()
        assert torch.equal(case.input, case.target)


@pytest.mark.parametrize(
    "how",
    [
        {"recipe": "gaussian", "level": 25},
        {"recipe": "jpeg", "level": 10},
        {"recipe": "synthetic", "level": 0.5, "chains": (("rain", "noise"),)},
    ],
)
def test_degraded_inputs_are_eight_bit_and_repeatable(data, how):
    first, again = cases(data, "CBSD68", **how), cases(data, "CBSD68", **how)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.input, other.input)
        assert not torch.equal(one.input, one.target)
        levels = one.input * 255
        assert (levels - levels.round()).abs().max() < 1e-3


def test_degraded_input_does_not_depend_on_the_limit(data):
    how = {"recipe": "gaussian", "level": 25}
    few = {case.name: case for case in cases(data, "CBSD68", limit=2, **how)}
    every = {case.name: case for case in cases(data, "CBSD68", **how)}
    assert len(few) == 2
    assert all(torch.equal(case.input, every[name].input) for name, case in few.items())


def test_other_seed_gives_other_noise(data):
    noisy = spec("CBSD68", recipe="gaussian", level=25)
    first = next(load_set(noisy, data / "eval", seed=0))
    other = next(load_set(noisy, data / "eval", seed=1))
    assert not torch.equal(first.input, other.input)


def test_gaussian_noise_has_the_deviation_asked_for():
    gray = torch.full((1, 3, 64, 64), 0.5)
    noisy = datasets.add_gaussian(gray, 25, torch.Generator().manual_seed(0))
    assert float((noisy - gray).std()) * 255 == pytest.approx(25, rel=0.03)


def test_lower_quality_costs_more(data):
    (case,) = cases(data, "Kodak24")
    scores = [
        measure(datasets.compress(case.target, quality), case.target, Protocol()).psnr
        for quality in (10, 40, 90)
    ]
    assert scores == sorted(scores)


def test_gray_picture_stays_gray_in_jpeg():
    gray = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)).expand(1, 3, 16, 16)
    decoded = datasets.compress(gray, 10)
    assert (decoded - decoded.mean(dim=1, keepdim=True)).abs().max() < 1e-6


def test_mixed_chains_take_turns(data):
    chains = (("rain", "noise"), ("haze",))
    found = cases(data, "CBSD68", recipe="synthetic", level=0.5, chains=chains)
    assert [case.degradations for case in found] == [chains[i % 2] for i in range(5)]


def test_chains_take_turns_over_all_folders_where_few_pictures_of_each_are_asked_for(data):
    chains = (("rain", "noise"), ("haze",), ("blur",))
    folders = ("CBSD68", "Kodak24", "CBSD68")
    found = cases(data, *folders, recipe="synthetic", level=0.5, chains=chains, limit=1)
    assert [case.degradations for case in found] == list(chains)


def test_limit_spreads_over_the_folder(data):
    assert [case.name for case in cases(data, "CBSD68", limit=2)] == ["CBSD68/0", "CBSD68/2"]


def test_empty_folder_is_a_config_error(data):
    with pytest.raises(ConfigError, match="holds no pictures"):
        cases(data, "McMaster")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"folders": ("CBSD86",)}, "unknown test set"),
        ({"folders": ("Rain100L",), "recipe": "jpeg"}, "degraded already"),
        ({"folders": ("CBSD68",), "recipe": "jpg"}, "unknown recipe"),
        ({"folders": ("CBSD68",), "recipe": "synthetic"}, "chains"),
        ({"folders": ("CBSD68",), "chains": (("rain",),)}, "chains"),
        ({"folders": ("CBSD68",), "recipe": "synthetic", "chains": (("fog",),)}, "unknown degr"),
    ],
)
def test_spec_refuses(values, match):
    with pytest.raises(ConfigError, match=match):
        SetSpec(name="set", **values)


def test_root_is_found_by_path_parent_and_variable(data, monkeypatch):
    assert data_root(data) == data_root(data / "eval") == data / "eval"
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(data))
    assert data_root() == data / "eval"


def test_folder_without_sets_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="none of the test sets"):
        data_root(tmp_path)


# --- the public sets themselves -------------------------------------------------------------------


@pytest.fixture
def public(monkeypatch) -> Path:
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    try:
        return data_root()
    except ConfigError as error:
        pytest.skip(f"the public test sets are not here: {error.message}")


@pytest.mark.data
def test_every_public_set_is_known_complete_and_of_its_kind(public):
    with (public / "SETS.csv").open(newline="", encoding="utf-8") as file:
        listed = {row["set"]: row for row in csv.DictReader(file)}
    assert set(listed) == set(FOLDERS)
    for name, row in listed.items():
        assert FOLDERS[name].kind == row["kind"], name
        place = public / name / ("target" if row["kind"] == "clean" else "input")
        assert len(list(place.iterdir())) == int(row["count"]), name


@pytest.mark.data
def test_every_paired_input_has_one_target(public):
    for name, folder in FOLDERS.items():
        if folder.kind == "paired":
            for path in (public / name / "input").iterdir():
                assert datasets._partner(path).stem == path.stem


PLAIN, GRAY = Protocol(), Protocol(color="gray")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "protocol", "expected"),
    [
        ("Rain100L", PLAIN, 24.62),
        ("Rain100H", PLAIN, 12.55),
        ("SOTS_outdoor", PLAIN, 18.25),
        ("SOTS_indoor", PLAIN, 11.49),
        ("LOL_eval15", PLAIN, 7.72),
        ("REDS_003", PLAIN, 23.88),
        ("RainDrop", PLAIN, 18.44),
        ("CC15", PLAIN, 34.9),
        # The figure is the one of the aligned pictures; with the best shift the input has 23.27.
        ("Levin09", GRAY, 21.55),
        ("Levin09", FOLDERS["Levin09"].protocol, 23.27),
        # The figure is the one on RGB; the set's protocol is Y.
        ("ResShift_ValSR_x4", PLAIN, 22.83),
    ],
)
def test_degraded_inputs_score_as_published(public, name, protocol, expected):
    scores = [
        measure(case.input, case.target, protocol).psnr for case in load_set(spec(name), public)
    ]
    assert statistics.mean(scores) == pytest.approx(expected, abs=0.1)


@pytest.mark.data
@pytest.mark.parametrize(("sigma", "expected"), [(15, 24.84), (25, 20.53), (50, 15.00)])
def test_noisy_inputs_score_as_published(public, sigma, expected):
    noisy = replace(spec("CBSD68"), recipe="gaussian", level=sigma)
    scores = [
        measure(case.input, case.target, PLAIN).psnr for case in load_set(noisy, public, limit=16)
    ]
    assert statistics.mean(scores) == pytest.approx(expected, abs=0.1)
