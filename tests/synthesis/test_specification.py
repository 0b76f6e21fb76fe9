"""Degradations as words: reading them, refusing them, repeating them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autodir.errors import ConfigError, ContractError, PromptError
from autodir.synthesis.specification import Specification, degrade, parse_degradation


def test_a_key_alone_has_medium_severity() -> None:
    assert parse_degradation("rain") == Specification(key="rain", severity=0.5)


def test_parameters_and_severity_are_read() -> None:
    found = parse_degradation(" noise: sigma=25 , kind=gaussian, severity=0.8")
    assert found == Specification(
        key="noise", severity=0.8, fixed={"sigma": 25.0, "kind": "gaussian"}
    )


@pytest.mark.parametrize("text", ["low resolution:factor=4", "Low-Resolution:factor=4"])
def test_a_label_is_as_good_as_a_key(text: str) -> None:
    assert parse_degradation(text).key == "low_resolution"


def test_text_of_a_specification_reads_back() -> None:
    wanted = parse_degradation("compression:quality=12,kind=4:4:4,severity=0.25")
    assert parse_degradation(str(wanted)) == wanted


def test_an_unknown_degradation_gets_its_nearest_match() -> None:
    with pytest.raises(PromptError, match="raindrops") as caught:
        parse_degradation("raindrops")
    assert "raindrop" in caught.value.hint


def test_a_degradation_like_no_other_gets_the_list() -> None:
    with pytest.raises(PromptError) as caught:
        parse_degradation("zzz")
    assert "compression" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "noise:",
        "noise:sigma",
        "noise:sigma=",
        "noise:=3",
        "noise:sigma=1,sigma=2",
        "noise:severity=2",
        "noise:severity=high",
        "noise:sigma=1,",
    ],
)
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_degradation(text)


def test_empty_text_is_refused() -> None:
    with pytest.raises(PromptError):
        parse_degradation("  ")


def test_the_same_seed_and_text_give_the_same_bits(photos: Tensor) -> None:
    wanted = [parse_degradation("haze"), parse_degradation("noise:sigma=25")]
    first, stages = degrade(photos[:1], wanted, seed=3)
    again, _ = degrade(photos[:1], wanted, seed=3)
    other, _ = degrade(photos[:1], wanted, seed=4)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert [stage.key for stage in stages] == ["haze", "noise"]
    assert stages[1].parameters == [{"kind": "gaussian", "sigma": 25.0}]


def test_nothing_asked_for_changes_nothing(photos: Tensor) -> None:
    result, stages = degrade(photos, [])
    assert result is photos
    assert stages == []


def test_a_wrong_parameter_names_its_degradation(photos: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"^haze: .*sigma"):
        degrade(photos, [parse_degradation("haze:sigma=3")])


def test_an_image_without_a_batch_is_refused() -> None:
    with pytest.raises(ContractError):
        degrade(torch.rand(3, 8, 8), [])
