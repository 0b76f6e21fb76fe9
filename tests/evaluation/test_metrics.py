import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autodir.errors import ConfigError, ContractError, MissingExtraError
from autodir.evaluation import metrics
from autodir.evaluation.metrics import PSNR_CEILING, PerceptualMetric, Protocol, measure


def images(*, seed=0, size=(40, 48), noise=0.05):
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(1, 3, *size, generator=generator)
    target = torch.nn.functional.avg_pool2d(target, 5, 1, 2)
    result = (target + noise * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    return result, target


def test_psnr_equals_skimage_on_rounded_images():
    from skimage.metrics import peak_signal_noise_ratio

    result, target = images()
    expected = peak_signal_noise_ratio(
        metrics.quantize(target).numpy(), metrics.quantize(result).numpy(), data_range=1
    )
    assert measure(result, target, Protocol()).psnr == pytest.approx(expected, abs=1e-3)


def test_ssim_equals_skimage_with_gaussian_weights():
    from skimage.metrics import structural_similarity

    result, target = images()
    expected = structural_similarity(
        metrics.quantize(target)[0].numpy(),
        metrics.quantize(result)[0].numpy(),
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
    )
    assert measure(result, target, Protocol()).ssim == pytest.approx(expected, abs=2e-3)


def test_luma_spans_the_studio_range():
    black_white = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    y = metrics.to_protocol_color(black_white, "y") * 255
    assert y[0].unique().tolist() == pytest.approx([16])
    assert y[1].unique().tolist() == pytest.approx([235])


def test_luma_equals_skimage():
    from skimage.color import rgb2ycbcr

    result, _ = images()
    expected = rgb2ycbcr(result[0].permute(1, 2, 0).numpy())[..., 0]
    y = metrics.to_protocol_color(result, "y")[0, 0].numpy() * 255
    np.testing.assert_allclose(y, expected, atol=1e-3)


def test_border_is_left_out():
    result, target = images()
    spoiled = result.clone()
    spoiled[..., :4, :] = 0
    cropped = Protocol(crop=4)
    assert measure(spoiled, target, cropped) == measure(result, target, cropped)
    assert measure(spoiled, target, Protocol()).psnr < measure(result, target, Protocol()).psnr


def test_exact_match_scores_the_ceiling():
    _, target = images()
    assert measure(target, target, Protocol()).psnr == PSNR_CEILING


@settings(max_examples=12, deadline=None)
@given(st.integers(-8, 8), st.integers(-8, 8))
def test_any_whole_shift_up_to_the_reach_is_undone(down, right):
    _, target = images()
    moved = torch.roll(target, (down, right), dims=(2, 3))
    scores = measure(moved, target, Protocol(color="gray", shift=8))
    assert scores.psnr == PSNR_CEILING
    assert scores.ssim == pytest.approx(1)


def test_shift_beyond_the_reach_is_not_undone():
    _, target = images()
    moved = torch.roll(target, (0, 9), dims=(2, 3))
    assert measure(moved, target, Protocol(shift=8)).psnr < 60


def test_result_is_rounded_as_a_file_would():
    _, target = images()
    target = metrics.quantize(target)
    assert measure(target + 0.4 / 255, target, Protocol()).psnr == PSNR_CEILING


def test_tiny_picture_has_no_ssim():
    result, target = images(size=(10, 40))
    assert measure(result, target, Protocol()).ssim is None


def test_other_size_breaks_the_contract():
    with pytest.raises(ContractError, match="differ"):
        measure(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 9), Protocol())


def test_nothing_inside_the_border_breaks_the_contract():
    with pytest.raises(ContractError, match="nothing inside"):
        measure(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), Protocol(crop=4))


@pytest.mark.parametrize("wrong", [{"color": "lab"}, {"crop": -1}, {"shift": -1}])
def test_protocol_refuses(wrong):
    with pytest.raises(ConfigError):
        Protocol(**wrong)


def test_missing_pyiqa_names_extra_and_licence(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match="Noncommercial") as raised:
        PerceptualMetric("lpips")
    assert "autodir[iqa]" in raised.value.hint


class FakePyiqa:
    """Stands for pyiqa: one metric with a target, one without."""

    @staticmethod
    def create_metric(name, device):
        class Metric:
            metric_mode = "NR" if name == "niqe" else "FR"
            lower_better = True

            def __call__(self, *pictures):
                return torch.tensor(float(len(pictures)))

        if name == "none":
            raise KeyError(name)
        return Metric()


def test_pyiqa_metric_gets_the_target_where_it_needs_one(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: FakePyiqa)
    result, target = images()
    assert PerceptualMetric("lpips")(result, target) == 2
    assert PerceptualMetric("lpips")(result, None) is None
    assert PerceptualMetric("niqe")(result, None) == 1


def test_unknown_pyiqa_metric_is_a_config_error(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: FakePyiqa)
    with pytest.raises(ConfigError, match="none"):
        PerceptualMetric("none")
