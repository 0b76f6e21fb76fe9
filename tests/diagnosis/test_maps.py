"""Maps: of the photo's size, smooth, exact about what is clean, and in the right place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from autodir.checkpoint import Model, calibration_of
from autodir.diagnosis.biqa import BiqaDiagnoser
from autodir.diagnosis.calibration import Calibration
from autodir.diagnosis.maps import PresenceMap, limit, presence_maps
from autodir.prompts import load_taxonomy

SIDE = 16


class Brightness:
    """A quality model that takes bright windows for noisy ones, and all for a little hazy."""

    clip = SimpleNamespace(image_size=SIDE)
    taxonomy = load_taxonomy()

    def __call__(self, windows: Tensor, per_side: int, *, whole: bool) -> tuple[Tensor, Tensor]:
        assert per_side == 1 and not whole
        scores = torch.zeros(len(windows), len(self.taxonomy))
        scores[:, 0] = windows.mean((1, 2, 3)) * 12 - 6
        return torch.zeros(len(windows), len(self.taxonomy) + 1), scores


@pytest.fixture
def diagnoser() -> BiqaDiagnoser:
    return BiqaDiagnoser(cast("Any", Brightness()), Calibration(presence_shift={"haze": -1.0}))


def half(height: int = 64, width: int = 96) -> Tensor:
    photo = torch.zeros(1, 3, height, width)
    photo[..., : width // 2] = 1
    return photo


def test_there_is_a_map_of_the_photos_size_for_each_degradation(diagnoser: BiqaDiagnoser) -> None:
    maps = presence_maps(diagnoser, half())
    assert list(maps) == [degradation.key for degradation in load_taxonomy()]
    noise = maps["noise"].presence()
    assert noise.shape == (64, 96)
    assert float(noise[:, :24].min()) > 0.95
    assert float(noise[:, -24:].max()) < 0.05
    assert maps["noise"].presence((8, 12)).shape == (8, 12)


def test_scores_are_calibrated(diagnoser: BiqaDiagnoser) -> None:
    haze = presence_maps(diagnoser, half())["haze"].presence()
    assert torch.allclose(haze, torch.sigmoid(torch.tensor(-1.0)).expand(64, 96))


def test_a_map_is_smooth(diagnoser: BiqaDiagnoser) -> None:
    noise = presence_maps(diagnoser, half())["noise"].presence()
    assert float(noise.diff(dim=1).abs().max()) < 0.3


def test_the_degraded_half_is_found(diagnoser: BiqaDiagnoser) -> None:
    mask = presence_maps(diagnoser, half())["noise"].where() > 0.5
    truth = torch.zeros(64, 96, dtype=torch.bool)
    truth[:, :48] = True
    assert float((mask & truth).sum() / (mask | truth).sum()) > 0.9


def test_what_is_the_same_everywhere_is_needed_everywhere(diagnoser: BiqaDiagnoser) -> None:
    assert bool((presence_maps(diagnoser, half())["haze"].where() == 1).all())


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (16, 16), (200, 17)])
def test_every_size_has_its_map(diagnoser: BiqaDiagnoser, size: tuple[int, int]) -> None:
    found = presence_maps(diagnoser, torch.rand(1, 3, *size))["noise"]
    assert found.presence().shape == found.where().shape == size


def test_clean_parts_keep_their_bits_and_degraded_ones_are_repaired(
    diagnoser: BiqaDiagnoser,
) -> None:
    photo = half() * 0.8 + 0.1 * torch.rand(1, 3, 64, 96)
    limited = limit(diagnoser, photo, 1 - photo, "noise")
    assert torch.equal(limited[..., 64:], photo[..., 64:])
    assert torch.allclose(limited[..., :24], 1 - photo[..., :24])


def test_a_large_photo_is_looked_at_in_bounded_time() -> None:
    seen: list[int] = []

    class Counting(Brightness):
        def __call__(self, windows: Tensor, per_side: int, *, whole: bool) -> tuple[Tensor, Tensor]:
            seen.append(len(windows))
            return super().__call__(windows, per_side, whole=whole)

    presence_maps(
        BiqaDiagnoser(cast("Any", Counting()), Calibration()), torch.zeros(1, 3, 900, 900)
    )
    assert 300 < sum(seen) < 500


def test_the_border_lies_between_the_cleanest_and_the_worst_tenth() -> None:
    found = PresenceMap(
        logits=torch.tensor([[-8.0, -8.0, -4.0, -4.0]]),
        rows=torch.tensor([4.0]),
        columns=torch.tensor([4.0, 12.0, 20.0, 28.0]),
        size=(8, 32),
    )
    share = found.where()
    assert bool((share[:, :12] == 0).all())
    assert bool((share[:, 20:] == 1).all())
    assert bool((found.presence() < 0.02).all())


def test_what_is_certain_everywhere_is_needed_everywhere() -> None:
    logits = torch.tensor([[4.0, 5.0, 6.0, 9.0]])
    centers = torch.tensor([4.0, 12.0, 20.0, 28.0])
    found = PresenceMap(logits=logits, rows=torch.tensor([4.0]), columns=centers, size=(8, 32))
    assert bool((found.where() == 1).all())


def test_one_window_that_is_mistaken_moves_the_border_little() -> None:
    class Mistaken(Brightness):
        def __call__(self, windows: Tensor, per_side: int, *, whole: bool) -> tuple[Tensor, Tensor]:
            nothing, scores = super().__call__(windows, per_side, whole=whole)
            scores[windows[:, 0, -1, -1] == 0.25] = 6.0  # the corner of one window alone
            return nothing, scores

    photo = half(64, 96)
    photo[..., 47, 79] = 0.25
    found = presence_maps(BiqaDiagnoser(cast("Any", Mistaken()), Calibration()), photo)["noise"]
    assert bool((found.where()[:, 60:] < 0.5).all())


def test_a_real_model_scores_windows(tiny_model: Model) -> None:
    diagnoser = BiqaDiagnoser(tiny_model.quality_model().eval(), calibration_of(tiny_model))
    maps = presence_maps(diagnoser, torch.rand(1, 3, 50, 70))
    assert all(bool(torch.isfinite(found.logits).all()) for found in maps.values())
    assert maps["rain"].logits.numel() > 4
