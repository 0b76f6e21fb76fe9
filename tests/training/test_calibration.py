"""The figures of the diagnosis are chosen on held-out photos, and say how."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autodir.checkpoint import Model
from autodir.diagnosis.calibration import Calibration
from autodir.training import calibration as stage
from autodir.training.calibration import calibrate
from autodir.training.data import PhotoPool


@pytest.fixture(scope="module")
def figures(tiny_model: Model, photo_folder: Path) -> dict[str, object]:
    return calibrate(tiny_model.quality_model().eval(), PhotoPool(photo_folder), 0.0)


def test_figures_are_those_of_the_diagnosis(figures: dict[str, object], tiny_model: Model) -> None:
    read = Calibration.from_dict(json.loads(json.dumps(figures)))
    keys = {degradation.key for degradation in tiny_model.taxonomy}
    assert 0.1 <= read.temperature <= 10
    assert set(read.presence_scale or {}) == set(read.presence_shift or {}) == keys
    assert set(read.thresholds or {}) == keys
    assert all(stage.LEAST <= value <= stage.MOST for value in (read.thresholds or {}).values())
    assert min((read.presence_scale or {}).values()) > 0


def test_at_least_two_photos_for_each_degradation_are_measured(
    figures: dict[str, dict[str, int]],
) -> None:
    chosen = figures["chosen_on"]
    assert chosen["clean_photos"] + chosen["degraded_photos"] == 16
    assert chosen["clean_touched"] <= chosen["clean_photos"]


def test_seed_decides_the_figures(tiny_model: Model, photo_folder: Path) -> None:
    model, photos = tiny_model.quality_model().eval(), PhotoPool(photo_folder)
    first, again = calibrate(model, photos, 0.0, seed=4), calibrate(model, photos, 0.0, seed=4)
    assert first == again


class Oracle:
    """Knows a degraded photo by its looks: everything but the pool's own photo."""

    def __init__(self, model: Model) -> None:
        self.taxonomy = model.taxonomy
        self.prompts = torch.zeros(1)

    def closely(self, image: Tensor) -> tuple[Tensor, Tensor]:
        degraded = float(image.std()) > 1e-3
        logits = torch.zeros(1, len(self.taxonomy.keys))
        logits[0, self.taxonomy.index("noise" if degraded else "no")] = 5.0
        return logits, torch.full((1, len(self.taxonomy)), 4.0 if degraded else -4.0)


def test_threshold_parts_clean_from_degraded(
    tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image as PillowImage

    PillowImage.new("RGB", (64, 64), (120, 120, 120)).save(tmp_path / "a.png")
    monkeypatch.setattr(stage, "OPERATORS", dict.fromkeys(stage.OPERATORS, _noise))
    figures = calibrate(Oracle(tiny_model), PhotoPool(tmp_path), 0.0)  # type: ignore[arg-type]
    chosen = figures["chosen_on"]
    assert chosen["clean_touched"] == 0
    assert chosen["degraded_found"] == chosen["degraded_photos"] > 0


def _noise(
    clean: Tensor, severity: Tensor, generator: torch.Generator
) -> tuple[Tensor, list[object]]:
    noise = torch.randn(clean.shape, generator=generator) * 0.1
    return (clean + noise).clamp(0, 1), []


def test_every_degradation_has_its_own_tail_of_clean_photos() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(2000, 3, generator=generator) * torch.tensor([0.9, 0.5, 0.05])
    thresholds = stage._thresholds(clean)
    touched = clean >= thresholds
    assert 0.6 * stage.TOUCHED <= float(touched.any(1).float().mean()) <= stage.TOUCHED
    assert abs(int(touched[:, 0].sum()) - int(touched[:, 1].sum())) <= 1
    assert float(thresholds[0]) > float(thresholds[1]) > float(thresholds[2])
    assert float(thresholds[2]) == pytest.approx(stage.LEAST, abs=1e-5)


def test_thresholds_without_clean_photos_are_a_half() -> None:
    assert stage._thresholds(torch.empty(0, 3)).tolist() == [0.5, 0.5, 0.5]


def test_platt_scaling_finds_scale_and_shift() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, generator=generator) * 2
    present = (torch.rand(4000, generator=generator) < torch.sigmoid(2 * logits - 1)).float()
    scale, shift = stage._platt(logits, present)
    assert scale == pytest.approx(2, rel=0.1)
    assert shift == pytest.approx(-1, rel=0.2)


def test_platt_scaling_of_separated_classes_stays_finite() -> None:
    scale, shift = stage._platt(torch.tensor([-1.0, -2.0, 1.0, 2.0]), torch.tensor([0.0, 0, 1, 1]))
    assert 1 < scale < 1000
    assert abs(shift) < 10


def test_temperature_finds_the_factor_of_overconfidence() -> None:
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(4000, 5, generator=generator)
    labels = torch.multinomial(honest.softmax(1), 1, generator=generator)[:, 0]
    assert stage._temperature(3 * honest, labels) == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize(
    ("successes", "count", "expected"),
    [
        (0, 0, (0.0, 1.0)),
        (0, 10, (0.0, 0.2775)),
        (5, 10, (0.2366, 0.7634)),
        (10, 10, (0.7225, 1.0)),
    ],
)
def test_wilson_interval_by_hand(successes: int, count: int, expected: tuple[float, float]) -> None:
    assert stage._wilson(successes, count) == pytest.approx(expected, abs=1e-3)


def test_first_variant_is_the_photo_itself() -> None:
    photo = torch.randint(0, 256, (3, 80, 90), dtype=torch.uint8)
    image = stage._variant(photo, 0, torch.Generator().manual_seed(0))
    assert torch.equal(image[0], photo.float() / 255)


def test_later_variants_are_smaller_and_still_photos() -> None:
    photo = torch.randint(0, 256, (3, 160, 200), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    images = [stage._variant(photo, 1, generator) for _ in range(8)]
    assert all(min(image.shape[-2:]) >= 64 for image in images)
    assert all(0 <= float(image.min()) <= float(image.max()) <= 1 for image in images)
    assert len({tuple(image.shape) for image in images}) > 1
