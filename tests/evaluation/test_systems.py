import pytest
import torch

from autodir.evaluation.datasets import Case
from autodir.evaluation.metrics import Protocol
from autodir.evaluation.plan import load_suite
from autodir.evaluation.systems import MODEL_FREE, SYSTEMS, TECHNIQUES, TITLES


def case(*degradations, level=0.1):
    pixels = torch.full((1, 3, 16, 16), level)
    return Case(
        name="set/a",
        set="set",
        input=pixels,
        target=None,
        degradations=degradations,
        protocol=Protocol(),
    )


def test_every_system_has_a_title():
    assert set(TITLES) == set(SYSTEMS)
    assert set(SYSTEMS) >= MODEL_FREE


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_every_system_keeps_the_size(name, restorer):
    answer = SYSTEMS[name](restorer, case("underexposure"), 0)
    assert answer.image.shape == (1, 3, 16, 16)


@pytest.mark.parametrize("name", sorted(MODEL_FREE))
def test_model_free_systems_need_no_restorer(name):
    assert SYSTEMS[name](None, case("underexposure"), 0).image.shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("name", "diffusion", "correction"),
    [("diffusion", True, False), ("correction", False, True), ("both", True, True)],
)
def test_parts_undo_the_last_degradation_first(name, diffusion, correction, restorer):
    answer = SYSTEMS[name](restorer, case("rain", "noise"), 0)
    assert restorer.calls == [
        ("parts", "noise", diffusion, correction),
        ("parts", "rain", diffusion, correction),
    ]
    assert answer.treated == ("noise", "rain")


@pytest.mark.parametrize(
    ("name", "guard", "only"),
    [
        ("whole", True, ()),
        ("whole_no_guard", False, ()),
        ("oracle", True, ("noise", "rain")),
    ],
)
def test_loops_differ_in_guard_and_label(name, guard, only, restorer):
    SYSTEMS[name](restorer, case("rain", "noise"), 7)
    ((_, options),) = restorer.calls
    assert (options.guard, options.only, options.seed) == (guard, only, 7)


def test_whole_tells_what_was_treated(restorer):
    assert SYSTEMS["whole"](restorer, case("underexposure"), 0).treated == ("underexposure",)
    assert SYSTEMS["whole"](restorer, case(level=0.8), 0).treated == ()


def test_what_was_rolled_back_was_not_treated(restorer):
    restorer.verdict = "rolled back"
    assert SYSTEMS["whole"](restorer, case("underexposure"), 0).treated == ()


@pytest.mark.parametrize("name", ["oracle", "both", "classical"])
def test_true_label_of_a_clean_photo_leaves_it_alone(name, restorer):
    clean = case()
    assert SYSTEMS[name](restorer, clean, 0).image is clean.input
    assert restorer.calls == []


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_techniques_are_options_of_one_repair(name, restorer):
    SYSTEMS[name](restorer, case("rain", "noise"), 7)
    ((_, options),) = restorer.calls
    assert (options.guard, options.only, options.seed) == (False, ("noise", "rain"), 7)
    assert {key: getattr(options, key) for key in TECHNIQUES[name]} == TECHNIQUES[name]


def test_the_suite_asks_for_every_technique_that_needs_no_further_weights():
    columns = set(load_suite("techniques").systems)
    assert columns == {"input", *TECHNIQUES} - {"fidelity"}
