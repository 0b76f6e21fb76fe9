"""Noise: the deviations asked for, the sensor law, spatial correlation."""

from __future__ import annotations

import pytest
import torch

from autodir.imaging.color import linear_to_srgb, rgb_to_ycbcr, srgb_to_linear
from autodir.synthesis.noise import add_sensor_noise, noise, sensor_noise


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", ["gaussian", "gray", "correlated"])
def test_sigma_is_the_deviation_in_8bit_units(kind: str) -> None:
    clean = torch.full((1, 3, 128, 128), 0.5)
    fixed = {"kind": kind, "sigma": 20.0}
    noisy, _ = noise(clean, torch.tensor([0.5]), seeded(), fixed)
    assert float((noisy - clean).std()) * 255 == pytest.approx(20, rel=0.04)


def test_sigma_alone_means_white_color_noise() -> None:
    clean = torch.full((1, 3, 128, 128), 0.5)
    noisy, parameters = noise(clean, torch.tensor([0.5]), seeded(), {"sigma": 25.0})
    assert parameters == [{"kind": "gaussian", "sigma": 25.0}]
    delta = noisy - clean
    assert abs(float((delta[0, 0] * delta[0, 1]).mean())) < 0.05 * float(delta.var())


def test_gray_noise_is_equal_in_all_channels() -> None:
    clean = torch.full((1, 3, 16, 16), 0.5)
    noisy, _ = noise(clean, torch.tensor([0.5]), seeded(), {"kind": "gray"})
    assert torch.equal(noisy[:, 0], noisy[:, 1])
    assert torch.equal(noisy[:, 0], noisy[:, 2])


def test_camera_noise_is_luma_with_coarse_color() -> None:
    clean = torch.full((1, 3, 256, 256), 0.3)
    fixed = {"kind": "camera", "sigma": 6.0, "spread": 0.5, "chroma": 0.5, "chroma_spread": 1.2}
    noisy, parameters = noise(clean, torch.tensor([0.5]), seeded(), fixed)
    assert parameters[0].keys() == fixed.keys()
    delta = (rgb_to_ycbcr(noisy) - rgb_to_ycbcr(clean))[0]
    deviation = delta.flatten(1).std(1) * 255
    torch.testing.assert_close(deviation, torch.tensor([6.0, 3.0, 3.0]), rtol=0.06, atol=0)
    alike = (delta[..., 1:] * delta[..., :-1]).mean((1, 2)) / delta.square().mean((1, 2))
    # As the PolyU pairs have it: 0.24 to 0.54 in luma, about 0.8 in color.
    assert 0.24 < float(alike[0]) < 0.54
    assert 0.76 < float(alike[1:].min()) <= float(alike[1:].max()) < 0.88


def test_camera_noise_is_strongest_in_the_darker_middle_tones() -> None:
    levels = torch.tensor([0.02, 0.3, 0.98]).view(3, 1, 1, 1)
    clean = levels.expand(3, 3, 128, 128).contiguous()
    fixed = {"sigma": 5.0, "chroma": 0.4}
    delta = noise(clean, torch.full((3,), 0.5), seeded(), fixed)[0] - clean
    black, middle, white = delta.flatten(1).std(1).tolist()
    assert 0.5 < black / middle < 0.85
    assert 0.3 < white / middle < 0.65


def test_kinds_of_noise_leave_each_other_alone() -> None:
    clean, severity = torch.full((24, 3, 16, 16), 0.4), torch.full((24,), 0.5)
    both, parameters = noise(clean, severity, seeded())
    kinds = [str(one["kind"]) for one in parameters]
    assert set(kinds) == {"gaussian", "gray", "sensor", "correlated", "camera"}
    delta = both - clean
    for kind, one in zip(kinds, delta, strict=True):
        assert bool((one[0] == one[1]).all()) == (kind == "gray")


def test_correlated_noise_is_alike_in_neighbors() -> None:
    clean = torch.full((1, 3, 96, 96), 0.5)
    fixed = {"kind": "correlated", "sigma": 20.0, "spread": 1.0}
    delta = noise(clean, torch.tensor([0.5]), seeded(), fixed)[0] - clean
    alike = (delta[..., 1:] * delta[..., :-1]).mean() / delta.square().mean()
    # A Gaussian of deviation 1 correlates neighbors by exp(-1 / 4).
    assert float(alike) == pytest.approx(0.78, abs=0.05)


def test_sensor_variance_is_a_line_over_the_mean_with_slope_k() -> None:
    shot, read = sensor_noise(torch.tensor([3200.0]), torch.zeros(1))
    levels = torch.linspace(0.05, 0.9, 64)
    light = levels.view(1, 64, 1, 1).expand(1, 64, 200, 200)
    standard = torch.randn(light.shape, generator=seeded(1))
    noisy = add_sensor_noise(light, standard, shot, read)[0].flatten(1)
    design = torch.stack([noisy.mean(1), torch.ones(64)], 1)
    # Weighted by 1 / mean², since a variance's own deviation grows with it.
    weight = 1 / (shot * levels + read)[:, None]
    fit = torch.linalg.lstsq(design * weight, noisy.var(1)[:, None] * weight).solution[:, 0]
    assert float(fit[0]) == pytest.approx(float(shot), rel=0.03)
    assert float(fit[1]) == pytest.approx(float(read), abs=0.1 * float(read) + 1e-5)


def test_six_stops_of_iso_multiply_the_gain_by_64() -> None:
    shot, _ = sensor_noise(torch.tensor([100.0, 6400.0]), torch.zeros(2))
    assert float(20 * torch.log10(shot[1] / shot[0])) == pytest.approx(36.12, abs=0.01)


def test_iso_chooses_noise_in_linear_light() -> None:
    clean = linear_to_srgb(torch.full((1, 3, 128, 128), 0.18))
    fixed = {"iso": 1600.0, "spread": 0.0}
    noisy, parameters = noise(clean, torch.tensor([0.5]), seeded(), fixed)
    assert parameters[0]["kind"] == "sensor"
    assert "sigma" not in parameters[0]
    deviation = float((srgb_to_linear(noisy) - 0.18).std())
    assert deviation == pytest.approx((1.6e-3 * 0.18) ** 0.5, rel=0.1)
