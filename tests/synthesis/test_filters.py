"""Filters: Gaussian taps and blurs of their own width."""

from __future__ import annotations

import pytest
import torch

from autodir.synthesis.filters import gaussian, gaussian_taps


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_gaussian_taps_sum_to_one_and_have_their_deviation() -> None:
    taps = gaussian_taps(torch.tensor([0.0, 1.5, 4.0]))
    offsets = torch.arange(taps.shape[1]) - taps.shape[1] // 2
    assert torch.allclose(taps.sum(1), torch.ones(3), atol=1e-6)
    deviation = (taps * offsets.square()).sum(1).sqrt()
    assert deviation.tolist() == pytest.approx([0, 1.5, 4.0], rel=0.03, abs=1e-6)


def test_gaussian_blurs_each_sample_by_its_own_sigma() -> None:
    x = torch.rand(2, 3, 32, 32, generator=seeded())
    result = gaussian(x, torch.tensor([0.0, 3.0]))
    assert torch.allclose(result[0], x[0], atol=1e-6)
    assert float(result[1].std()) < 0.3 * float(x[1].std())
