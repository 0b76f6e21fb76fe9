"""Blur kernels: sum, sign, centroid, path length, direction; and their use on photos."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from autodir.synthesis.blur import (
    blur,
    disk_kernels,
    gaussian_kernels,
    path_kernels,
    shake_paths,
)

EVEN = {"uneven": 0.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shaken(count: int = 12) -> Tensor:
    noise = torch.rand(count, 160, generator=seeded(1))
    length = torch.linspace(5, 60, count)
    full = torch.full((count,), 1.0)
    return shake_paths(length, 3 * full, 4 * full, 2 * full, noise)


def kernels() -> list[Tensor]:
    sizes = torch.tensor([0.6, 2.0, 4.7])
    paths = shaken()
    return [
        path_kernels(paths, torch.rand(paths.shape[:2], generator=seeded(2)) + 0.1),
        disk_kernels(sizes),
        gaussian_kernels(sizes, torch.tensor([1.0, 0.7, 0.5]), sizes),
    ]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_kernels_are_averages_about_their_center(index: int) -> None:
    kernel = kernels()[index]
    reach = kernel.shape[-1] // 2
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32)
    assert kernel.shape[-1] % 2 == 1
    assert float(kernel.min()) >= 0
    assert torch.allclose(kernel.sum((1, 2)), torch.ones(len(kernel)), atol=1e-5)
    assert float((kernel.sum(2) * axis).sum(1).abs().max()) < 0.05
    assert float((kernel.sum(1) * axis).sum(1).abs().max()) < 0.05


def test_paths_have_the_length_asked_for() -> None:
    steps = shaken().diff(dim=1).norm(dim=-1).sum(1)
    assert torch.allclose(steps, torch.linspace(5, 60, 12), rtol=1e-4)


def test_a_disk_has_the_radius_asked_for() -> None:
    kernel = disk_kernels(torch.tensor([6.0]))[0]
    area = float(kernel.sum() / kernel.max())
    assert math.sqrt(area / math.pi) == pytest.approx(6, abs=0.15)


@pytest.mark.parametrize("angle", [0.0, 35.0, 90.0])
def test_linear_motion_smears_a_dot_along_its_angle(angle: float) -> None:
    dot = torch.zeros(1, 3, 65, 65)
    dot[..., 32, 32] = 1
    fixed = {"kind": "linear", "length": 25.0, "angle": angle, "linear_light": 0.0} | EVEN
    smear = blur(dot, torch.tensor([0.5]), seeded(), fixed)[0][0, 0]
    y, x = torch.meshgrid(torch.arange(65.0) - 32, torch.arange(65.0) - 32, indexing="ij")
    xx, yy, xy = ((smear * v).sum() for v in (x * x, y * y, x * y))
    found = 0.5 * math.degrees(math.atan2(2 * float(xy), float(xx - yy)))
    assert abs((found - angle + 90) % 180 - 90) < 3


@pytest.mark.parametrize("kind", ["shake", "linear", "defocus", "gaussian"])
@pytest.mark.parametrize("linear_light", [0.0, 1.0])
def test_a_flat_photo_stays_flat_to_its_edges(kind: str, linear_light: float) -> None:
    flat = torch.full((2, 3, 20, 31), 0.4)
    fixed = {"kind": kind, "linear_light": linear_light}
    result, _ = blur(flat, torch.tensor([0.1, 1.0]), seeded(), fixed)
    assert torch.allclose(result, flat, atol=1e-4)


def test_highlights_shine_in_linear_light(photos: Tensor) -> None:
    dark = torch.zeros(1, 3, 33, 33)
    dark[..., 14:18, 14:18] = 1
    fixed = {"radius": 5.0, "linear_light": 1.0, "highlight": 1.0} | EVEN
    plain, _ = blur(dark, torch.tensor([0.5]), seeded(), fixed)
    bright, _ = blur(dark, torch.tensor([0.5]), seeded(), {**fixed, "highlight": 3.0})
    assert float(bright.mean()) > 1.2 * float(plain.mean())


def test_one_part_of_an_uneven_photo_stays_sharper() -> None:
    columns = (torch.arange(128) // 2 % 2).float().expand(8, 3, 128, 128)
    shade = torch.where(torch.arange(128) < 64, 0.3, 0.9)
    photo = 0.1 + 0.8 * columns * shade
    fixed: dict[str, float | str] = {"kind": "defocus", "radius": 6.0, "linear_light": 0.0}

    def contrasts(uneven: float) -> Tensor:
        result, _ = blur(photo, torch.full((8,), 0.5), seeded(5), fixed | {"uneven": uneven})
        middle = result.mean(1).unfold(1, 16, 16).unfold(2, 16, 16)[:, 1:-1, 1:-1]
        return middle.std((-1, -2)).flatten(1)

    even, uneven = contrasts(0.0), contrasts(0.85)
    assert float(even.max()) < 0.05
    assert int((uneven.amax(1) > 0.1).sum()) >= 6
    assert int((uneven.amin(1) < 0.05).sum()) >= 6


def test_what_an_uneven_photo_has_in_common_with_an_even_one_is_its_draws(photos: Tensor) -> None:
    severity = torch.full((len(photos),), 0.6)
    even, records = blur(photos, severity, seeded(3), EVEN)
    free, others = blur(photos, severity, seeded(3))
    assert [{**one, "uneven": 0} for one in records] == [{**one, "uneven": 0} for one in others]
    alike = [index for index, one in enumerate(others) if one["uneven"] == 0]
    assert torch.equal(free[alike], even[alike])
