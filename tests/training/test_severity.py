"""Photos of known severity have the severity they say, and a fit finds it again."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from autodir.diagnosis.severity import SeverityModel
from autodir.errors import ConfigError
from autodir.training import severity
from autodir.training.severity import ABSENT, ORDER, Sample, degrade, fit, kernel_width, make_sample


@pytest.fixture(scope="module")
def photo() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.2 + 0.5 * F.interpolate(torch.rand(1, 3, 16, 16, generator=generator), (96, 96))


def drawn(photo: Tensor, key: str, seed: int) -> tuple[Tensor, float]:
    return degrade(photo, key, torch.Generator().manual_seed(seed))


def test_the_deviation_of_noise_is_what_it_says(photo: Tensor) -> None:
    for seed in range(4):
        noisy, sigma = drawn(photo, "noise", seed)
        measured = float((noisy - photo).std()) * 255
        assert measured == pytest.approx(sigma, rel=0.25)


def test_exposure_is_counted_in_stops(photo: Tensor) -> None:
    for seed in range(4):
        dark, stops = drawn(photo, "underexposure", seed)
        light = [severity.srgb_to_linear(picture).mean() for picture in (dark, photo)]
        assert float((light[0] / light[1]).log2()) == pytest.approx(stops, abs=0.1)


def test_transmission_is_the_share_of_contrast_that_is_left(photo: Tensor) -> None:
    for seed in range(4):
        hazy, transmission = drawn(photo, "haze", seed)
        assert 0 < transmission < 1
        assert float(hazy.std() / photo.std()) == pytest.approx(transmission, abs=0.3)


def test_quality_is_that_of_the_encoder(photo: Tensor) -> None:
    qualities = [drawn(photo, "compression", seed)[1] for seed in range(6)]
    assert all(5 <= quality <= 95 and quality == round(quality) for quality in qualities)
    assert len(set(qualities)) > 3


def test_a_wider_kernel_leaves_less_detail(photo: Tensor) -> None:
    widths, details = [], []
    for seed in range(8):
        blurred, width = drawn(photo, "blur", seed)
        widths.append(width)
        details.append(float(blurred.diff(dim=-1).abs().mean() + blurred.diff(dim=-2).abs().mean()))
    widest, sharpest = widths.index(max(widths)), widths.index(min(widths))
    assert min(widths) > 0.3
    assert details[widest] < details[sharpest]


def test_the_width_of_a_kernel_is_its_deviation() -> None:
    response = torch.zeros(1, 3, 21, 21)
    response[..., 10, 7:14] = 0.1
    assert kernel_width(response) == pytest.approx(2**0.5)
    assert kernel_width(torch.zeros(1, 3, 5, 5)) == 0


def test_a_sample_knows_what_was_done_and_what_was_not(photo: Tensor) -> None:
    sample = make_sample(photo, ["haze", "noise"], torch.Generator().manual_seed(0))
    assert sample.applied == ("haze", "noise")
    assert sample.truth["haze"] < 1
    assert sample.truth["noise"] > 0
    assert {key: sample.truth[key] for key in ("blur", "underexposure", "compression")} == {
        key: ABSENT[key] for key in ("blur", "underexposure", "compression")
    }


def invented(count: int, seed: int) -> list[Sample]:
    """Samples whose measures tell the truth under a little noise."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for _ in range(count):
        u = torch.rand(5, generator=generator)
        truth = {
            "haze": float(u[0]),
            "underexposure": -5 * float(u[1]),
            "blur": 8 * float(u[2]),
            "noise": 50 * float(u[3]),
            "compression": 100 * float(u[4]),
        }
        measures = torch.cat([u, u.square(), 0.02 * torch.randn(2, generator=generator)])
        samples.append(Sample(measures=measures, truth=truth, applied=("haze",)))
    return samples


def test_a_fit_finds_the_truth_again_and_its_bars_hold_two_thirds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(severity, "_STEPS", 300)
    figures = json.loads(json.dumps(fit(invented(300, 0), invented(120, 1))))
    model, unseen = SeverityModel.from_dict(figures), invented(100, 2)
    for key in ORDER:
        pairs = [(model.read(sample.measures)[key], sample.truth[key]) for sample in unseen]
        values = torch.tensor([[found.value, truth] for found, truth in pairs]).T
        assert float(torch.corrcoef(values)[0, 1]) > 0.97
        held = sum(abs(found.value - truth) <= found.error for found, truth in pairs)
        assert 45 <= held <= 90


def test_too_few_photos_are_refused() -> None:
    with pytest.raises(ConfigError):
        fit(invented(10, 0), invented(10, 1))
