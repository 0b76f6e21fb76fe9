"""The published chains: their frequencies and ranges, their kernels, and one seed one result."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from autodir.config import CHAINS
from autodir.errors import ConfigError
from autodir.imaging.resize import enlarge
from autodir.synthesis import second_order
from autodir.synthesis.enlargement import ENLARGEMENTS
from autodir.synthesis.second_order import (
    KERNELS,
    RECIPES,
    degrade_second_order,
    kernel,
    poisson_noise,
    sinc_kernel,
)
from autodir.synthesis.specification import degrade, parse_degradation

EVERY = pytest.mark.parametrize("recipe", sorted(RECIPES))
DRAWS = 2000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(count: int = 2, height: int = 40, width: int = 56) -> torch.Tensor:
    coarse = torch.rand(count, 3, 6, 8, generator=seeded(9))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


@EVERY
def test_one_seed_gives_one_degraded_photo_of_the_same_size(recipe: str) -> None:
    first, drawn = degrade_second_order(photos(), seeded(3), recipe)
    second, again = degrade_second_order(photos(), seeded(3), recipe)
    assert first.shape == photos().shape
    assert torch.equal(first, second)
    assert drawn == again
    assert torch.equal((first * 255).round() / 255, first)
    assert float((first - photos()).abs().mean()) > 0.003


@EVERY
@pytest.mark.parametrize("size", [(1, 1), (5, 9)])
def test_tiny_photos_pass_too(recipe: str, size: tuple[int, int]) -> None:
    result, _ = degrade_second_order(photos(1, *size), seeded(1), recipe)
    assert result.shape == (1, 3, *size)


def within(count: int, total: int, share: float) -> bool:
    """Whether a count lies within three deviations of its expectation."""
    return abs(count - total * share) <= 3 * math.sqrt(total * share * (1 - share)) + 1e-9


def test_draws_have_the_published_frequencies_and_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_order, "jpeg", lambda image, quality: image)
    monkeypatch.setattr(second_order, "convolve", lambda image, kernels: image)
    _, drawn = degrade_second_order(torch.full((DRAWS, 3, 8, 8), 0.5), seeded(5), "realesrgan")
    for name in ("first", "second"):
        ranges = getattr(RECIPES["realesrgan"], name)
        resized = Counter(one[f"{name}_resize"] for one in drawn)
        for direction, share in zip(("up", "down", "keep"), ranges.resize, strict=True):
            assert within(resized[direction], DRAWS, share), (name, direction)
        kinds = Counter(one.get(f"{name}_kernel", "none") for one in drawn)
        assert within(DRAWS - kinds["none"], DRAWS, ranges.blur)
        assert within(kinds["sinc"], DRAWS, ranges.blur * ranges.sinc)
        for kind, share in KERNELS.items():
            assert within(kinds[kind], DRAWS, ranges.blur * (1 - ranges.sinc) * share), kind
        qualities = [int(str(one[f"{name}_quality"])) for one in drawn]
        assert (min(qualities), max(qualities)) == (30, 95)
        noisy = [float(str(one[f"{name}_noise"])) for one in drawn if f"{name}_noise" in one]
        assert within(len(noisy), DRAWS, 0.5)
        assert ranges.noise[0] <= min(noisy) <= max(noisy) <= ranges.noise[1]
    assert within(sum("final_sinc" in one for one in drawn), DRAWS, 0.8)
    assert within(sum(bool(one["jpeg_last"]) for one in drawn), DRAWS, 0.5)


def test_the_mild_chain_has_nothing_of_a_second_pass_but_its_file() -> None:
    _, drawn = degrade_second_order(photos(60), seeded(4), "resshift")
    second = {name for one in drawn for name in one if name.startswith("second")}
    assert second == {"second_quality"}
    for name, low, high in (("first", 70, 95), ("second", 80, 100)):
        qualities = [int(str(one[f"{name}_quality"])) for one in drawn]
        assert low <= min(qualities) <= max(qualities) <= high
    assert 0 < sum("final_sinc" in one for one in drawn) < 30


def test_the_mild_chain_writes_half_of_its_files_before_it_shrinks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[tuple[int, ...]] = []
    real = second_order.jpeg

    def noted(photo: torch.Tensor, quality: int) -> torch.Tensor:
        sizes.append(tuple(photo.shape[-2:]))
        return real(photo, quality)

    monkeypatch.setattr(second_order, "jpeg", noted)
    _, drawn = degrade_second_order(photos(40), seeded(4), "resshift")
    lasts = [bool(one["jpeg_last"]) for one in drawn]
    assert 5 < sum(lasts) < 35
    for first, second, last in zip(sizes[::2], sizes[1::2], lasts, strict=True):
        assert min(first) >= 20
        assert second == ((10, 14) if last else first)


def test_small_photos_come_back_as_different_programs_enlarge_them() -> None:
    drawn = degrade_second_order(photos(300), seeded(6), "resshift")[1]
    kinds = Counter(str(one["enlargement"]) for one in drawn)
    for kind, share in ENLARGEMENTS.items():
        assert within(kinds[kind], len(drawn), share), kind


def test_the_most_common_enlargement_is_the_products_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `--scale 4` makes of a small file is what the models of low resolution have seen."""
    small: list[torch.Tensor] = []
    real = second_order._Chain._finish

    def noted(chain: second_order._Chain, image: torch.Tensor) -> torch.Tensor:
        small.append((image * 255).round() / 255)
        return real(chain, image)

    monkeypatch.setattr(second_order._Chain, "_finish", noted)
    found, drawn = degrade_second_order(photos(12), seeded(6), "resshift")
    alike = [
        float((enlarge(one, 4)[0] - result).abs().max()) < 0.003
        for one, result in zip(small, found, strict=True)
    ]
    assert alike == [one["enlargement"] == "bicubic" for one in drawn]
    assert max(ENLARGEMENTS, key=lambda kind: ENLARGEMENTS[kind]) == "bicubic"


def test_a_factor_loses_a_border_of_less_than_a_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ramp of 41 pixels by 0.5 has 20, each the mean of two: the last pixel is left out."""
    chain = second_order._Chain(RECIPES["resshift"], seeded(), (41, 41))
    monkeypatch.setattr(chain, "integer", lambda count: 1)  # bilinear
    ramp = torch.linspace(0, 1, 41).expand(1, 3, 41, 41)
    found = chain._resized(ramp, factor=0.5)
    assert found.shape == (1, 3, 20, 20)
    torch.testing.assert_close(found[0, 0, 0], (ramp[0, 0, 0, 0:40:2] + ramp[0, 0, 0, 1:40:2]) / 2)


def test_the_tables_order_the_recipes_by_strength() -> None:
    mean = {
        name: float(
            (degrade_second_order(photos(12), seeded(2), name)[0] - photos(12)).abs().mean()
        )
        for name in RECIPES
    }
    assert mean["stablesr"] < mean["realesrgan"]


@pytest.mark.parametrize("kind", sorted(KERNELS))
def test_kernels_are_symmetric_positive_and_sum_to_one(kind: str) -> None:
    values = kernel(kind, 21, (2.0, 0.7), 0.6, 1.7)
    assert float(values.sum()) == pytest.approx(1, abs=1e-5)
    assert float(values.min()) >= 0
    torch.testing.assert_close(values, values.flip(0, 1))
    is_round = torch.allclose(values, values.T.flip(0), atol=1e-6)
    assert is_round == (not kind.endswith("aniso"))


def test_the_sinc_kernel_passes_dc_and_rings() -> None:
    values = sinc_kernel(math.pi / 2, 21)
    assert float(values.sum()) == pytest.approx(1, abs=1e-5)
    assert float(values.min()) < 0
    assert int(values.argmax()) == 21 * 21 // 2


@pytest.mark.parametrize(("level", "deviation"), [(0.1, 5.0), (0.5, 11.3), (1.0, 15.9)])
def test_poisson_noise_has_the_published_deviation(level: float, deviation: float) -> None:
    image = torch.full((1, 1, 256, 256), level)
    image[..., 0, :] = torch.linspace(0, 1, 256)  # all 256 levels occur
    noise = poisson_noise(image, seeded())[..., 1:, :]
    assert float(noise.std()) * 255 == pytest.approx(deviation, rel=0.03)


def test_training_offers_these_recipes() -> None:
    assert set(CHAINS) == set(RECIPES)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        degrade_second_order(photos(), seeded(), "stablsr")
    assert "'stablesr'" in caught.value.hint


def test_a_chain_is_asked_for_in_words() -> None:
    image, stages = degrade(photos(), [parse_degradation("low_resolution:recipe=stablesr")], seed=4)
    assert image.shape == photos().shape
    assert stages[0].parameters[0]["recipe"] == "stablesr"
    with pytest.raises(ConfigError, match="itself"):
        degrade(photos(), [parse_degradation("low_resolution:recipe=stablesr,factor=3")])
