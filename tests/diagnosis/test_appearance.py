"""Measures of appearance: one length for every photo, finite, and moved by what they measure."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.diagnosis.appearance import WINDOW, measure, native_windows
from autodir.errors import ContractError
from autodir.synthesis.codec import jpeg


@pytest.fixture(scope="module")
def scene() -> Tensor:
    """(1, 3, 128, 128): soft shapes with edges and fine detail."""
    generator = torch.Generator().manual_seed(0)
    coarse = F.interpolate(torch.rand(1, 3, 8, 8, generator=generator), (128, 128))
    return (0.7 * coarse + 0.2 * torch.rand(1, 1, 128, 128, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (33, 31), (128, 128), (40, 600)])
def test_every_size_gives_as_many_finite_measures(scene: Tensor, size: tuple[int, int]) -> None:
    measures = measure(torch.rand(1, 3, *size))
    assert measures.shape == measure(scene).shape
    assert bool(torch.isfinite(measures).all())


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_photo_without_any_structure_has_finite_measures(level: float) -> None:
    assert bool(torch.isfinite(measure(torch.full((1, 3, 64, 64), level))).all())


def test_the_same_photo_has_the_same_measures(scene: Tensor) -> None:
    assert torch.equal(measure(scene), measure(scene.clone()))


def test_noise_blur_blocks_and_darkness_move_the_measures_apart(scene: Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    noisy = (scene + 0.1 * torch.randn(scene.shape, generator=generator)).clamp(0, 1)
    changed = {
        "noise": noisy,
        "blur": F.avg_pool2d(scene, 5, 1, 2, count_include_pad=False),
        "blocks": jpeg(scene[0], 10)[None],
        "dark": scene * 0.2,
    }
    moved = {name: measure(photo) - measure(scene) for name, photo in changed.items()}
    directions = torch.stack([F.normalize(vector, dim=0) for vector in moved.values()])
    alike = (directions @ directions.T).fill_diagonal_(0)
    assert min(float(vector.abs().max()) for vector in moved.values()) > 0.5
    assert float(alike.max()) < 0.97


def test_windows_lie_on_the_grid_of_blocks() -> None:
    rows = torch.arange(1000.0)[None, None, :, None].expand(1, 3, 1000, 700)
    windows = native_windows(rows)
    assert windows.shape[-2:] == (WINDOW, WINDOW)
    assert bool((windows[:, 0, 0, 0] % 8 == 0).all())
    assert len(windows) == 9


def test_what_is_no_photo_is_a_contract_error() -> None:
    with pytest.raises(ContractError):
        measure(torch.zeros(3, 8, 8))
