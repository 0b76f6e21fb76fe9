"""The card of a converted model says what its user must know."""

from __future__ import annotations

from autodir.checkpoint import Model
from autodir.conversion.card import REPOSITORY, model_card

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
