"""Rain: streak direction, identity without streaks, blends, the veil."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from autodir.synthesis.filters import gaussian
from autodir.synthesis.rain import rain, streak_kernels


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def orientation(image: Tensor) -> float:
    """Degrees from vertical of the lines in (H, W), by the structure tensor.

    Smoothed first, since differences of thin lines lean toward the diagonal.
    """
    image = gaussian(image[None, None], torch.tensor([2.0]))[0, 0]
    dy = image[2:, 1:-1] - image[:-2, 1:-1]
    dx = image[1:-1, 2:] - image[1:-1, :-2]
    xx, yy, xy = float((dx * dx).sum()), float((dy * dy).sum()), float((dx * dy).sum())
    return 0.5 * math.degrees(math.atan2(2 * xy, xx - yy))


@pytest.mark.parametrize("angle", [-30.0, 0.0, 20.0])
def test_streaks_lean_by_the_angle_asked_for(angle: float) -> None:
    clean = torch.full((1, 3, 160, 160), 0.2)
    fixed = {"angle": angle, "layers": 1.0, "length": 40.0, "width": 2.0, "veil": 0.0}
    wet, _ = rain(clean, torch.tensor([0.5]), seeded(1), fixed)
    assert abs(orientation(wet[0].mean(0)) - angle) < 3


@pytest.mark.parametrize("name", ["intensity", "coverage"])
def test_no_streaks_and_no_veil_leave_the_photo(name: str, photos: Tensor) -> None:
    severity = torch.full((len(photos),), 0.8)
    wet, _ = rain(photos, severity, seeded(), {name: 0.0, "veil": 0.0})
    assert torch.allclose(wet, photos, atol=1e-6)


def test_screened_rain_never_exceeds_added_rain(photos: Tensor) -> None:
    severity = torch.full((len(photos),), 0.8)
    screened, _ = rain(photos, severity, seeded(2), {"kind": "screen"})
    added, _ = rain(photos, severity, seeded(2), {"kind": "add"})
    assert bool((screened <= added + 1e-6).all())
    assert float((added - screened).max()) > 0.05


def test_rain_only_brightens_without_a_veil(photos: Tensor) -> None:
    wet, _ = rain(photos, torch.full((len(photos),), 1.0), seeded(3), {"veil": 0.0})
    assert bool((wet >= photos - 1e-6).all())


def test_a_full_veil_hides_the_scene(photos: Tensor) -> None:
    wet, _ = rain(photos, torch.full((len(photos),), 0.5), seeded(), {"veil": 1.0})
    assert float(wet.flatten(1).std(1).max()) < 1e-5


def test_severe_rain_has_more_layers_than_mild_rain() -> None:
    clean = torch.rand(40, 3, 8, 8, generator=seeded())
    fixed = {"style": "parallel"}
    mild = rain(clean, torch.zeros(40), seeded(), fixed)[1]
    severe = rain(clean, torch.ones(40), seeded(), fixed)[1]
    assert {record["layers"] for record in mild} == {1.0}
    assert {record["layers"] for record in severe} == {3.0, 4.0}


@pytest.mark.parametrize("veil", [0.0, 0.3])
def test_fine_rain_is_thin_and_many_and_its_veil_uneven(veil: float) -> None:
    clean = torch.full((12, 3, 96, 96), 0.2)
    severity = torch.full((12,), 0.7)
    wet, fine = rain(clean, severity, seeded(4), {"style": "fine", "veil": veil})
    _, bold = rain(clean, severity, seeded(4), {"style": "parallel", "veil": veil})

    def mean(records: list[dict[str, object]], name: str) -> float:
        return sum(float(str(record[name])) for record in records) / len(records)

    assert mean(fine, "width") < 0.8 * mean(bold, "width")
    assert mean(fine, "length") < 0.7 * mean(bold, "length")
    assert mean(fine, "coverage") > 1.2 * mean(bold, "coverage")
    no_streaks = {"style": "fine", "veil": veil, "intensity": 0.0}
    spread = rain(clean, severity, seeded(4), no_streaks)[0].flatten(1).std(1)
    assert bool((spread > 0.005).all()) == (veil > 0)
    assert float((wet - clean).min()) >= -1e-6


def test_distant_rain_falls_behind_what_is_near() -> None:
    sides = torch.cat([torch.full((1, 3, 96, 48), 0.1), torch.full((1, 3, 96, 48), 0.5)], dim=3)
    clean = sides.expand(12, -1, -1, -1)
    severity = torch.full((12,), 0.8)

    def untouched(style: str) -> torch.Tensor:
        wet = rain(clean, severity, seeded(4), {"style": style, "veil": 0.3})[0]
        return ((wet - clean).abs() < 0.02).float()

    behind = untouched("distant")
    assert float(untouched("fine").mean()) < 0.02
    assert float(behind.mean()) > 0.1


def test_dense_rain_hides_much_behind_bands_of_even_opacity() -> None:
    clean = torch.full((12, 3, 96, 96), 0.2)
    severity = torch.full((12,), 0.9)

    def covered(style: str) -> float:
        wet = rain(clean, severity, seeded(4), {"style": style, "veil": 0.0})[0]
        return float((wet - clean > 0.2).float().mean())

    assert covered("dense") > 0.4
    assert covered("dense") > 1.5 * max(covered("parallel"), covered("fine"))


def test_lines_run_over_each_other_until_nothing_lies_between_them() -> None:
    clean = torch.full((12, 3, 128, 128), 0.2)
    severity = torch.full((12,), 1.0)

    def added(style: str) -> Tensor:
        return rain(clean, severity, seeded(4), {"style": style, "veil": 0.0})[0] - clean

    lines, single = added("lines"), added("parallel")
    assert float((lines < 0.02).float().mean()) < 0.5 * float((single < 0.02).float().mean())
    assert abs(orientation(lines.mean((0, 1)))) < 30
    fixed = {"style": "lines", "layers": 2.0, "kind": "add", "tint": 0.0, "veil": 0.0}
    once, _ = rain(clean, severity, seeded(4), {**fixed, "layers": 1.0})
    twice, _ = rain(clean, severity, seeded(4), fixed)
    assert bool((twice >= once - 1e-6).all())


def test_most_showers_add_alike_to_all_channels() -> None:
    clean = torch.rand(40, 3, 48, 48, generator=seeded(1)) * 0.4
    fixed = {"kind": "add", "veil": 0.0, "intensity": 0.2, "layers": 1.0}
    wet, drawn = rain(clean, torch.full((40,), 0.6), seeded(4), fixed)
    added = wet - clean
    apart = (added.amax(1) - added.amin(1)).amax((1, 2))
    gray = torch.tensor([record["tint"] == 0 for record in drawn])
    assert 0.4 < float(gray.float().mean()) < 0.8
    assert float(apart[gray].max()) < 1e-6 < 0.002 < float(apart[~gray].median())


def test_about_half_of_the_showers_have_mist() -> None:
    _, drawn = rain(torch.zeros(60, 3, 16, 16), torch.full((60,), 0.9), seeded(4))
    misty = sum(record["veil"] > 0 for record in drawn)  # type: ignore[operator]
    assert 15 < misty < 45


def test_blunt_streaks_are_as_wide_and_have_edges() -> None:
    figures = torch.tensor([30.0]), torch.tensor([9.0]), torch.tensor([0.0])
    soft, blunt = (streak_kernels(*figures, torch.tensor([edges]))[0] for edges in (False, True))
    middle = soft.shape[-1] // 2
    across = blunt[middle, middle:]  # half of the width is 4.5 pixels
    torch.testing.assert_close(soft, streak_kernels(*figures)[0])
    assert float(across[3]) > 0.95
    assert float(across[4]) > 0.5 > float(across[5])
    assert float(across[6]) < 0.05 < float(soft[middle, middle + 6])
    assert float(blunt[middle - 12, middle]) == 1 > float(soft[middle - 12, middle])


def test_streak_kernels_peak_at_one_in_their_middle() -> None:
    kernels = streak_kernels(
        torch.tensor([11.0, 40.0]), torch.tensor([1.0, 2.5]), torch.tensor([0.0, 30.0])
    )
    middle = kernels.shape[-1] // 2
    assert torch.allclose(kernels[:, middle, middle], torch.ones(2))
    assert float(kernels.max()) <= 1
