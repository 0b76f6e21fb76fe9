"""Compression and low resolution: the codec's settings and the resampling kernel."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from autodir.synthesis.codec import compression, jpeg, low_resolution, shrink


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_quality_is_libjpegs(photos: Tensor) -> None:
    fixed = {"quality": 10.0}
    result, parameters = compression(photos[:1], torch.tensor([0.5]), seeded(), fixed)
    pixels = (photos[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=10, subsampling=2)
    with Image.open(buffer) as decoded:
        expected = np.array(decoded)
    assert np.array_equal((result[0].permute(1, 2, 0).numpy() * 255).round(), expected)
    assert parameters[0]["first_quality"] == 0


def test_quality_falls_from_75_to_7() -> None:
    clean = torch.rand(2, 3, 8, 8, generator=seeded())
    _, parameters = compression(clean, torch.tensor([0.0, 1.0]), seeded())
    assert [record["quality"] for record in parameters] == [75.0, 7.0]


def test_a_first_encoding_on_a_shifted_grid_leaves_traces(photos: Tensor) -> None:
    severity = torch.full((len(photos),), 0.5)
    once, _ = compression(photos, severity, seeded(1), {"quality": 60.0})
    twice, _ = compression(photos, severity, seeded(1), {"quality": 60.0, "first_quality": 10.0})
    assert twice.shape == photos.shape
    assert float((twice - photos).square().mean()) > 1.5 * float((once - photos).square().mean())


def test_full_chroma_sampling_keeps_color_edges() -> None:
    image = torch.zeros(3, 16, 16)
    image[0, :, ::2] = 1
    coarse, fine = jpeg(image, 90, "4:2:0"), jpeg(image, 90, "4:4:4")
    assert float((fine - image).abs().mean()) < 0.5 * float((coarse - image).abs().mean())


def test_bicubic_shrinking_is_matlabs_kernel() -> None:
    signal = torch.rand(1, 1, 1, 40, generator=seeded(), dtype=torch.float64)
    found = shrink(signal.expand(1, 1, 4, 40), (1, 10), "bicubic")[0, 0, 0]
    for out in range(2, 8):
        # Output pixel k sits at 4 k + 1.5 in input pixels; the kernel is stretched by the factor.
        distance = (torch.arange(40, dtype=torch.float64) - (4 * out + 1.5)).abs() / 4
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
        expected = (signal[0, 0, 0] * weights).sum() / weights.sum()
        assert float(found[out]) == pytest.approx(float(expected), abs=1e-6)


def test_a_ramp_survives_shrinking_and_enlarging_inside() -> None:
    ramp = torch.linspace(0.1, 0.9, 64).expand(1, 3, 64, 64).contiguous()
    result, _ = low_resolution(ramp, torch.tensor([0.5]), seeded(), {"factor": 4.0})
    assert torch.allclose(result[..., 16:-16], ramp[..., 16:-16], atol=1e-4)


def test_a_fixed_factor_alone_is_plain_bicubic(photos: Tensor) -> None:
    severity = torch.ones(len(photos))
    _, parameters = low_resolution(photos, severity, seeded(), {"factor": 4.0})
    for record in parameters:
        assert record == {
            "kind": "bicubic",
            "factor": 4.0,
            "sigma": 0,
            "noise": 0,
            "quality": 0,
            "enlargement": "bicubic",
        }


def test_factor_one_changes_nothing(photos: Tensor) -> None:
    severity = torch.full((len(photos),), 0.2)
    result, _ = low_resolution(photos, severity, seeded(), {"factor": 1.0})
    assert torch.allclose(result, photos, atol=1e-5)


def test_severe_samples_are_blurred_noised_and_encoded_in_part() -> None:
    clean = torch.rand(60, 3, 16, 16, generator=seeded())
    _, parameters = low_resolution(clean, torch.ones(60), seeded(2))
    for name in ("sigma", "noise", "quality"):
        share = sum(float(str(record[name])) > 0 for record in parameters) / 60
        assert 0.1 < share < 0.8
