"""Color spaces and color fixes."""

import pytest
import torch

from autodir.errors import ContractError
from autodir.imaging.color import (
    linear_to_srgb,
    low_band,
    luma,
    match_color,
    rgb_to_ycbcr,
    srgb_to_linear,
    studio_luma,
    ycbcr_to_rgb,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def color(r: float, g: float, b: float) -> torch.Tensor:
    return torch.tensor([float(r), float(g), float(b)]).view(3, 1, 1)


def test_linear_and_srgb_are_inverse():
    x = torch.linspace(0, 1, 1001)
    assert torch.allclose(linear_to_srgb(srgb_to_linear(x)), x, atol=1e-5)


def test_srgb_meets_the_values_of_the_standard():
    linear = srgb_to_linear(torch.tensor([0.0, 0.04045, 0.5, 1.0]))
    assert torch.allclose(linear, torch.tensor([0.0, 0.0031308, 0.2140411, 1.0]), atol=1e-6)


def test_the_gradient_of_srgb_is_finite_at_black():
    x = torch.zeros(3, requires_grad=True)
    linear_to_srgb(x).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_ycbcr_and_rgb_are_inverse():
    x = noise(2, 3, 8, 8)
    assert torch.allclose(ycbcr_to_rgb(rgb_to_ycbcr(x)), x, atol=1e-6)


def test_ycbcr_meets_the_jpeg_values_of_pure_colors():
    assert torch.allclose(
        rgb_to_ycbcr(color(1, 0, 0)).flatten(), torch.tensor([0.299, 0.33126, 1]), atol=1e-4
    )
    assert torch.allclose(
        rgb_to_ycbcr(color(0, 0, 1)).flatten(), torch.tensor([0.114, 1, 0.41869]), atol=1e-4
    )
    assert torch.allclose(
        rgb_to_ycbcr(color(0.4, 0.4, 0.4)).flatten(), torch.tensor([0.4, 0.5, 0.5])
    )


def test_studio_luma_spans_16_to_235():
    assert studio_luma(color(0, 0, 0)).item() == pytest.approx(16 / 255)
    assert studio_luma(color(1, 1, 1)).item() == pytest.approx(235 / 255)
    assert studio_luma(color(0, 1, 0)).item() == pytest.approx((128.553 + 16) / 255)


def test_luma_of_gray_is_the_gray():
    x = torch.linspace(0, 1, 256).view(1, 1, 16, 16).expand(-1, 3, -1, -1)
    assert torch.equal((luma(x) * 255).round(), (x[:, :1] * 255).round())


def test_adain_gives_mean_and_deviation_of_the_reference():
    result, reference = noise(2, 3, 16, 16) * 0.3, 0.4 + noise(2, 3, 16, 16, seed=1) * 0.2
    fixed = match_color(result, reference, "adain")
    for statistic in (torch.mean, torch.std):
        assert torch.allclose(
            statistic(fixed, dim=(-2, -1)), statistic(reference, dim=(-2, -1)), atol=1e-4
        )


def test_wavelet_takes_the_low_band_and_leaves_the_details():
    details = (torch.arange(128) % 2 - 0.5).mul(0.2).view(1, 1, 1, 128).expand(1, 3, 8, 128)
    result, reference = 0.3 + details, torch.full((1, 3, 8, 128), 0.6)
    fixed = match_color(result, reference, "wavelet")
    assert torch.allclose(fixed[..., 32:-32], (0.6 + details)[..., 32:-32], atol=1e-3)


@pytest.mark.parametrize("method", ["none", "adain", "wavelet"])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3), (33, 20)])
def test_an_image_matched_to_itself_stays_itself(method, size):
    x = noise(1, 3, *size)
    assert torch.allclose(match_color(x, x, method), x, atol=1e-5)


@pytest.mark.parametrize("method", ["adain", "wavelet"])
def test_a_flat_image_stays_finite_and_in_range(method):
    fixed = match_color(torch.full((1, 3, 9, 9), 0.5), noise(1, 3, 9, 9), method)
    assert torch.isfinite(fixed).all()
    assert fixed.min() >= 0
    assert fixed.max() <= 1


def test_none_returns_the_result_untouched():
    x = noise(1, 3, 4, 4)
    assert match_color(x, noise(1, 3, 4, 4, seed=1), "none") is x


def test_the_low_band_keeps_constants_and_means():
    assert torch.allclose(low_band(torch.full((1, 3, 5, 5), 0.7)), torch.full((1, 3, 5, 5), 0.7))


def test_an_unknown_method_is_refused():
    with pytest.raises(ContractError):
        match_color(noise(1, 3, 4, 4), noise(1, 3, 4, 4), "lab")


def test_different_shapes_are_refused():
    with pytest.raises(ContractError):
        match_color(noise(1, 3, 4, 4), noise(1, 3, 4, 5), "none")


@pytest.mark.parametrize(
    "x", [torch.zeros(1, 4, 2, 2), torch.zeros(3, 2, 2).byte(), torch.zeros(3)]
)
def test_wrong_tensors_are_refused(x):
    with pytest.raises(ContractError):
        luma(x)


def test_the_wavelet_fix_is_exact_to_the_stated_tolerance():
    x = noise(1, 3, 70, 90)
    assert (match_color(x, x, "wavelet") - x).abs().max() <= 3e-7


def test_a_constant_added_to_the_result_is_taken_away_again():
    result, reference = 0.3 + 0.3 * noise(1, 3, 70, 90), 0.3 + 0.3 * noise(1, 3, 70, 90, seed=1)
    fixed = match_color(result, reference, "wavelet")
    assert torch.allclose(match_color(result + 0.1, reference, "wavelet"), fixed, atol=1e-6)
