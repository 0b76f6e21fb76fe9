"""The card of a converted model says what its user must know."""

from __future__ import annotations

import pytest

from autodir.checkpoint import Model
from autodir.conversion.card import REPOSITORY, model_card, restorer_card

FACTS = {"source": "autodir.ckpt", "sha256": "ab" * 32, "dtype": "fp16", "steps": 61999}


def test_card_names_origin_licences_and_checks(tiny_model: Model) -> None:
    card = model_card(FACTS, tiny_model)
    for words in (
        REPOSITORY, "Google Drive", "No licence is stated", "OpenRAIL-M", "ab" * 32, "61,999",
        "What you must check", "--preset parity",
    ):  # fmt: skip
        assert words in card
    counted = sum(value.numel() for value in tiny_model.scm.parameters())
    assert f"{counted:,}" in card


def test_unknown_steps_are_said_to_be_unknown(tiny_model: Model) -> None:
    assert "not stated" in model_card(FACTS | {"steps": None}, tiny_model)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("stablesr-768v", ("non-commercial", "S-Lab License 1.0", "IceClear/StableSR")),
        ("diffbir", ("Apache-2.0", "XPixelGroup/DiffBIR", "--stage1")),
    ],
)
def test_card_of_a_restorer_names_its_licences(
    tiny_model: Model, layout: str, words: tuple[str, ...]
) -> None:
    more = {"layout": layout, "diagnosis": "small"}
    besides = {"base": {"source": "v2-1_512.ckpt", "sha256": "cd" * 32}}
    card = restorer_card(FACTS | more | {"besides": besides}, tiny_model)
    for word in (*words, "Open RAIL++-M", "ab" * 32, "cd" * 32, "v2-1_512.ckpt", "small", layout):
        assert word in card
