"""What every degradation promises: shape, range, determinism, records, monotone severity."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from autodir.errors import ConfigError
from autodir.prompts import load_taxonomy
from autodir.synthesis.operators import OPERATORS, quantize_8bit

KEYS = list(OPERATORS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_table_holds_every_degradation_of_the_taxonomy_in_its_order() -> None:
    assert tuple(OPERATORS) == tuple(degradation.key for degradation in load_taxonomy())


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (7, 7), (8, 9), (33, 70)])
def test_any_size_keeps_shape_and_range(key: str, size: tuple[int, int]) -> None:
    clean = torch.rand(4, 3, *size, generator=seeded(1))
    result, parameters = OPERATORS[key](clean, torch.tensor([0.0, 0.3, 0.7, 1.0]), seeded(2))
    assert result.shape == clean.shape
    assert result.dtype == torch.float32
    assert bool(torch.isfinite(result).all())
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    assert len(parameters) == 4


@pytest.mark.parametrize("key", ["raindrop", "haze", "rain"])
def test_large_frames_take_the_reduced_path(key: str) -> None:
    clean = torch.rand(1, 3, 40, 700, generator=seeded(1))
    result, _ = OPERATORS[key](clean, torch.tensor([0.8]), seeded(2))
    assert result.shape == clean.shape
    assert not torch.equal(result, clean)


@pytest.mark.parametrize("key", KEYS)
def test_a_seed_means_the_same_bits_and_another_seed_others(key: str, photos: Tensor) -> None:
    severity = torch.full((len(photos),), 0.6)
    first, parameters = OPERATORS[key](photos, severity, seeded(3))
    again, repeated = OPERATORS[key](photos, severity, seeded(3))
    other, _ = OPERATORS[key](photos, severity, seeded(4))
    assert torch.equal(first, again)
    assert parameters == repeated
    assert not torch.equal(first, other)


@pytest.mark.parametrize("key", KEYS)
def test_clean_input_is_left_alone(key: str, photos: Tensor) -> None:
    before = photos.clone()
    OPERATORS[key](photos, torch.full((len(photos),), 1.0), seeded(5))
    assert torch.equal(photos, before)


@pytest.mark.parametrize("key", KEYS)
def test_parameters_survive_json_and_recreate_the_image(key: str, photos: Tensor) -> None:
    one = photos[:1]
    first, parameters = OPERATORS[key](one, torch.tensor([0.7]), seeded(6))
    stored = json.loads(json.dumps(parameters[0]))
    settable = {name: value for name, value in stored.items() if not isinstance(value, list)}
    again, _ = OPERATORS[key](one, torch.tensor([0.7]), seeded(6), settable)
    assert torch.equal(first, again)


@pytest.mark.parametrize("key", KEYS)
def test_mean_psnr_falls_with_severity(key: str, photos: Tensor) -> None:
    clean = photos.repeat(8, 1, 1, 1)
    figures = []
    for level in (0.0, 0.5, 1.0):
        result, _ = OPERATORS[key](clean, torch.full((len(clean),), level), seeded(7))
        error = (result - clean).square().mean((1, 2, 3)).clamp_min(1e-10)
        figures.append(float((-10 * error.log10()).mean()))
    assert figures[0] > figures[1] + 0.5 > figures[2] + 1.0
    assert figures[0] < 45, "the mildest must still be visible"


@pytest.mark.parametrize("key", KEYS)
def test_an_unknown_parameter_is_an_error_that_names_the_known_ones(key: str) -> None:
    with pytest.raises(ConfigError, match="loudness") as caught:
        OPERATORS[key](torch.rand(1, 3, 8, 8), torch.tensor([0.5]), seeded(), {"loudness": 3.0})
    assert "known here" in caught.value.hint


@pytest.mark.parametrize("key", KEYS)
def test_an_empty_batch_stays_empty(key: str) -> None:
    result, parameters = OPERATORS[key](torch.zeros(0, 3, 8, 8), torch.zeros(0), seeded())
    assert result.shape == (0, 3, 8, 8)
    assert parameters == []


def test_quantizing_lands_on_the_256_levels() -> None:
    image = torch.tensor([-0.1, 0.0, 0.5 / 255 + 1e-4, 0.4, 2.0])
    levels = quantize_8bit(image) * 255
    assert torch.allclose(levels, torch.tensor([0.0, 0.0, 1.0, 102.0, 255.0]))
