"""Color fixes help, and never bring darkness or haze back."""

import pytest
import torch

from autodir.correction.recolor import RECOLORED, keep_colors
from autodir.prompts import load_taxonomy

DARK = 0.1 * torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0))
BRIGHT = (6 * DARK + 0.2).clamp(0, 1)


@pytest.mark.parametrize("method", ["adain", "wavelet"])
@pytest.mark.parametrize("key", sorted(RECOLORED))
def test_a_fix_that_would_undo_the_repair_is_left_out_with_a_word(
    key: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    result, why = keep_colors(BRIGHT, DARK, None, key, method)
    assert torch.equal(result, BRIGHT)
    assert method in why
    assert key in why
    assert why in caplog.text


@pytest.mark.parametrize("method", ["adain", "wavelet"])
def test_the_colors_of_stage_1_serve_every_repair(method: str) -> None:
    result, why = keep_colors(BRIGHT, DARK, 0.5 * BRIGHT, "underexposure", method)
    assert why == ""
    assert float(result.mean()) == pytest.approx(float(0.5 * BRIGHT.mean()), rel=0.02)


def test_other_repairs_take_the_colors_of_the_photo() -> None:
    result, why = keep_colors(BRIGHT, DARK, None, "noise", "adain")
    assert why == ""
    assert float(result.mean()) == pytest.approx(float(DARK.mean()), rel=0.02)
    assert torch.equal(keep_colors(BRIGHT, DARK, None, "haze", "none")[0], BRIGHT)


def test_the_degradations_named_are_known() -> None:
    assert {degradation.key for degradation in load_taxonomy()} >= RECOLORED
