import numpy as np
import pytest
import torch

from autodir.evaluation import baselines
from autodir.evaluation.baselines import BASELINES, restore_classically
from autodir.evaluation.metrics import Protocol, measure
from autodir.prompts import load_taxonomy


@pytest.mark.parametrize("key", sorted(BASELINES))
def test_each_tool_keeps_size_and_range_and_changes_something(key, noisy):
    result = restore_classically(noisy, key)
    assert result.shape == noisy.shape
    assert result.dtype == torch.float32
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    assert (result - noisy).abs().max() > 1.5 / 255


def test_each_tool_belongs_to_a_degradation():
    assert set(BASELINES) <= set(load_taxonomy().keys)


def test_degradation_without_a_tool_comes_back_as_it_is(noisy):
    assert restore_classically(noisy, "low_resolution") is noisy


def test_noise_level_is_estimated():
    generator = np.random.default_rng(0)
    gray = 128 + generator.normal(0, 15, (96, 96, 3))
    assert baselines.noise_level(gray.round().astype(np.uint8)) == pytest.approx(15, rel=0.1)


def test_denoising_a_noisy_ramp_gains(noisy):
    clean = torch.linspace(0.2, 0.8, 48).expand(1, 3, 40, 48)
    before = measure(noisy, clean, Protocol()).psnr
    assert measure(restore_classically(noisy, "noise"), clean, Protocol()).psnr > before + 3


def test_dehazing_undoes_a_uniform_veil():
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 12, 12, generator=generator).pow(2)
    clean = torch.nn.functional.interpolate(coarse, (96, 96), mode="nearest")
    hazy = clean * 0.5 + 0.9 * 0.5
    before = measure(hazy, clean, Protocol()).psnr
    assert measure(restore_classically(hazy, "haze"), clean, Protocol()).psnr > before + 2


def test_brightening_brightens_and_leaves_a_bright_photo_its_level():
    dark = torch.full((1, 3, 32, 32), 0.05)
    assert float(restore_classically(dark, "underexposure").mean()) > 0.3
    bright = torch.full((1, 3, 32, 32), 0.6)
    assert float(restore_classically(bright, "underexposure").mean()) == pytest.approx(0.6, abs=0.1)


def test_sharpening_steepens_an_edge():
    edge = torch.full((1, 3, 16, 16), 0.3)
    edge[..., 8:] = 0.7
    result = restore_classically(edge, "blur")
    assert float(result.max()) > 0.75
    assert float(result.min()) < 0.25
