"""The whole of diffusion: any size, any sampler, one seed one result, errors in words."""

import copy
from typing import Any

import pytest
import torch

import autodir.diffusion.model as model
import autodir.diffusion.schedule as schedule
import autodir.diffusion.tiled as tiles
from autodir.diffusion.conditioning import TextEncoder
from autodir.diffusion.model import LatentDiffusion, fit
from autodir.diffusion.samplers import SAMPLERS, SamplingStep
from autodir.diffusion.schedule import Schedule
from autodir.diffusion.settings import SD15, DiffusionConfig
from autodir.diffusion.sft import SftAdapter
from autodir.diffusion.unet import build_unet
from autodir.errors import ConfigError, ContractError, DeviceError
from autodir.records import Mixture, NoiseSource
from autodir.techniques import TechniqueOptions

MIXTURE = Mixture(phrases=("rain", "haze"), weights=(0.75, 0.25))


def photo(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height))


def restore(
    diffusion: LatentDiffusion, pixels: torch.Tensor, seed: int = 0, **options: Any
) -> torch.Tensor:
    return diffusion.sample(diffusion.condition(pixels, MIXTURE), NoiseSource(seed), **options)


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 300), (300, 1), (7, 5), (16, 16), (17, 47), (64, 64), (65, 64), (200, 150)]
)
def test_every_size_comes_back_as_it_was(diffusion: LatentDiffusion, size: tuple[int, int]) -> None:
    result = restore(diffusion, photo(*size))
    assert result.shape == (1, 3, *size)
    assert result.dtype is torch.float32
    assert 0 <= float(result.min()) <= float(result.max()) <= 1


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_one_seed_gives_one_photo_with_every_sampler(
    diffusion: LatentDiffusion, sampler: str
) -> None:
    first, second = (restore(diffusion, photo(20, 30), seed=4, sampler=sampler) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, restore(diffusion, photo(20, 30), seed=5, sampler=sampler))


def test_a_large_photo_is_worked_on_in_reduced_size(diffusion: LatentDiffusion) -> None:
    conditioning = diffusion.condition(photo(200, 300), MIXTURE)
    height, width = conditioning.working_size
    assert height * width <= 64 * 64
    assert height / width == pytest.approx(2 / 3, rel=0.05)
    assert conditioning.size == (200, 300)
    whole = diffusion.condition(photo(200, 300), MIXTURE, max_pixels=200 * 304)
    assert whole.working_size == (200, 300)
    assert whole.image_latents.shape == (1, 4, 26, 38)


@pytest.mark.parametrize(
    "size", [(1, 24_000_000), (2, 12_000_000), (24_000_000, 1), (6000, 4000), (40, 600_000), (1, 1)]
)
def test_the_padded_working_copy_never_grows_out_of_hand(size: tuple[int, int]) -> None:
    height, width = fit(size, 512 * 512, 32)
    assert height >= 1
    assert width >= 1
    assert -(-height // 32) * 32 * -(-width // 32) * 32 <= 512 * 512 * 1.1
    assert height <= size[0]
    assert width <= size[1]


def test_photos_that_fit_are_not_touched() -> None:
    assert fit((512, 512), 512 * 512, 32) == (512, 512)
    assert fit((3, 700), 512 * 512, 32) == (3, 700)


def test_a_batch_is_restored_like_its_rows(diffusion: LatentDiffusion) -> None:
    pixels = photo(32, 32, batch=2)
    text = diffusion.phrases.encode(["rain", "haze"])
    both = diffusion.condition_on(pixels, text)
    assert both.image_latents.shape == (2, 4, 4, 4)
    result = diffusion.sample(both, NoiseSource(1))
    first = diffusion.condition_on(pixels[:1], diffusion.phrases.encode(["rain"]))
    one = diffusion.sample(first, NoiseSource(1))
    torch.testing.assert_close(result[:1], one, rtol=0, atol=1e-4)


def test_the_text_reaches_the_photo(diffusion: LatentDiffusion) -> None:
    other = Mixture(phrases=("noise",), weights=(1.0,))
    first = restore(diffusion, photo(32, 32))
    second = diffusion.sample(diffusion.condition(photo(32, 32), other), NoiseSource(0))
    assert not torch.equal(first, second)


def test_phrases_are_encoded_once_for_many_photos(diffusion: LatentDiffusion, encoder: Any) -> None:
    for size in (8, 9, 10):
        diffusion.condition(photo(size, size), MIXTURE)
    assert sorted(encoder.asked) == ["", "haze", "rain"]


def test_image_latents_are_scaled_only_where_the_model_says_so(
    diffusion: LatentDiffusion, encoder: TextEncoder
) -> None:
    autoencoder = copy.deepcopy(diffusion.autoencoder)
    autoencoder.latent_std.fill_(2.0)
    parts = (encoder, autoencoder, diffusion.unet, diffusion.schedule)
    scaled, raw = (
        LatentDiffusion(*parts, DiffusionConfig(scaled_condition=is_scaled))
        .condition(photo(16, 16), MIXTURE)
        .image_latents
        for is_scaled in (True, False)
    )
    torch.testing.assert_close(scaled * 2, raw)


def test_tiles_larger_than_the_photo_change_nothing(diffusion: LatentDiffusion) -> None:
    whole = restore(diffusion, photo(40, 40))
    assert torch.equal(restore(diffusion, photo(40, 40), tile=6), whole)
    assert not torch.equal(restore(diffusion, photo(40, 40), tile=2), whole)


def test_tiles_are_latents_and_share_what_is_asked(
    diffusion: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    plain = model.aggregated

    def spy(denoise: Any, tile: int, overlap: int) -> Any:
        asked.append((tile, overlap))
        return plain(denoise, tile, overlap)

    monkeypatch.setattr(model, "aggregated", spy)
    conditioning = diffusion.condition(photo(48, 64), MIXTURE, max_pixels=10**6)
    for tile, overlap in ((5, None), (4, 1), (4, 9)):
        result = diffusion.sample(conditioning, NoiseSource(0), tile=tile, tile_overlap=overlap)
        assert result.shape == (1, 3, 48, 64)
    assert asked == [(4, 2), (4, 1), (4, 3)]


def test_guidance_changes_the_photo(diffusion: LatentDiffusion) -> None:
    plain = restore(diffusion, photo(16, 16))
    guided = restore(diffusion, photo(16, 16), guidance_text=4.0, guidance_image=1.5)
    assert not torch.equal(plain, guided)


def test_the_callback_counts_steps_and_can_stop(diffusion: LatentDiffusion) -> None:
    seen: list[SamplingStep] = []
    restore(diffusion, photo(16, 16), steps=3, callback=seen.append)
    assert len(seen) == 3
    seen.clear()

    def stop(step: SamplingStep) -> bool:
        seen.append(step)
        return False

    assert restore(diffusion, photo(16, 16), steps=3, callback=stop).shape == (1, 3, 16, 16)
    assert len(seen) == 1


def test_large_sides_pass_the_autoencoder_in_tiles(
    diffusion: LatentDiffusion, encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DiffusionConfig(working_pixels=64 * 64, steps=2, autoencoder_tile=16)
    parts = (encoder, diffusion.autoencoder, diffusion.unet, diffusion.schedule)
    tiled = LatentDiffusion(*parts, config)
    cut: list[int] = []
    plain = tiles.cores
    monkeypatch.setattr(tiles, "cores", lambda *given: cut.append(given[1]) or plain(*given))
    result = restore(tiled, photo(48, 32))
    assert cut == [16, 2]  # pixels on the way in, latents on the way out
    torch.testing.assert_close(result, restore(diffusion, photo(48, 32)), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [{"sampler": "heun"}, {"steps": 0}, {"steps": 5000}, {"tile": 1}, {"guidance_text": -1.0}],
)
def test_impossible_options_are_refused(
    diffusion: LatentDiffusion, options: dict[str, object]
) -> None:
    with pytest.raises(ContractError):
        restore(diffusion, photo(16, 16), **options)


def test_parts_that_do_not_fit_are_refused(diffusion: LatentDiffusion, encoder: Any) -> None:
    unet = build_unet({**diffusion.unet.config, "in_channels": 4})
    with pytest.raises(ContractError, match="latent channels"):
        LatentDiffusion(encoder, diffusion.autoencoder, unet, Schedule())
    adapted = LatentDiffusion(
        encoder, diffusion.autoencoder, unet, Schedule(), adapter=SftAdapter(unet)
    )
    assert adapted.network.config["in_channels"] == 4


def test_a_tower_of_its_own_tells_the_denoiser_and_no_other(
    diffusion: LatentDiffusion, encoder: Any
) -> None:
    own = type(encoder)()
    parts = (encoder, diffusion.autoencoder, diffusion.unet, diffusion.schedule)
    config = DiffusionConfig(steps=1, prompt="sharp")
    told = LatentDiffusion(*parts, config, text=own)
    told.condition(photo(16, 16), MIXTURE)
    assert (own.asked, encoder.asked) == (["sharp", ""], [])
    told.condition(photo(16, 16), Mixture(phrases=("fog",), weights=(1.0,), free=True))
    assert own.asked == ["sharp", "", "fog"]
    assert told.instruction(MIXTURE).tokens.shape == (1, 5, 16)
    assert encoder.asked == ["rain", "haze"]


@pytest.mark.parametrize("key", ["working_pixels", "steps", "autoencoder_tile"])
def test_impossible_configurations_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        DiffusionConfig.from_mapping({key: 0})


def test_configuration_survives_json() -> None:
    assert DiffusionConfig.from_mapping(SD15.to_dict()) == SD15


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), DeviceError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), DeviceError),
        (RuntimeError("shapes differ"), RuntimeError),
    ],
)
def test_lack_of_memory_is_explained_and_other_errors_pass(
    diffusion: LatentDiffusion, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type
) -> None:
    def fail(*arguments: object) -> torch.Tensor:
        raise error

    monkeypatch.setitem(model.SAMPLERS, "euler", fail)
    with pytest.raises(expected) as caught:
        restore(diffusion, photo(16, 16))
    if expected is DeviceError:
        assert "--tile" in caught.value.hint


def started(diffusion: LatentDiffusion, way: str | None, side: int = 16) -> torch.Tensor:
    """The latents with which sampling begins."""
    seen: list[torch.Tensor] = []
    euler = model.SAMPLERS["euler"]

    def spy(denoise: Any, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(x)
        return euler(denoise, x, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(model.SAMPLERS, "euler", spy)
        restore(diffusion, photo(side, side), techniques=TechniqueOptions(start=way))
    return seen[0]


def test_sampling_may_start_from_the_photo_under_noise(
    diffusion: LatentDiffusion, encoder: TextEncoder
) -> None:
    parts = (encoder, diffusion.autoencoder, diffusion.unet, Schedule(schedule.SD15))
    plain = LatentDiffusion(*parts, DiffusionConfig(steps=2))
    noise, mixed = started(plain, "noise"), started(plain, "photo")
    assert torch.equal(started(plain, None), noise)
    latents = plain.condition(photo(16, 16), MIXTURE).image_latents
    torch.testing.assert_close(mixed - noise, latents, rtol=0, atol=1e-5)
    told = LatentDiffusion(*parts, DiffusionConfig(steps=2, start="photo"))
    assert torch.equal(started(told, None), mixed)
    assert torch.equal(started(told, "noise"), noise)
    raw = LatentDiffusion(*parts, DiffusionConfig(steps=2, start="photo", scaled_condition=False))
    assert torch.equal(started(raw, None), mixed)  # scaled all the same


def test_the_start_has_unit_variance_where_the_photo_has() -> None:
    levels, noise = Schedule(schedule.SD15), NoiseSource(0)
    sigma = levels.sigma_max
    x = noise.normal((1, 4, 256, 256)) + sigma * noise.normal((1, 4, 256, 256))
    seen_by_the_network = x / (sigma**2 + 1) ** 0.5
    assert float(seen_by_the_network.var()) == pytest.approx(1, abs=0.01)


def test_what_is_computed_at_once_does_not_grow_with_the_photo(
    diffusion: LatentDiffusion, encoder: TextEncoder
) -> None:
    """In tiles only the canvas grows: four times the area, and about the same in every layer."""
    config = DiffusionConfig(steps=1, autoencoder_tile=32)
    parts = (encoder, diffusion.autoencoder, diffusion.unet, diffusion.schedule)
    tiled, largest = LatentDiffusion(*parts, config), [0]

    def note(module: Any, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            largest[-1] = max(largest[-1], output.numel())

    layers = [*diffusion.unet.modules(), *diffusion.autoencoder.modules()]
    handles = [layer.register_forward_hook(note) for layer in layers]
    for side in (160, 320):
        largest.append(0)
        conditioning = tiled.condition(photo(side, side), MIXTURE, max_pixels=side**2)
        tiled.sample(conditioning, NoiseSource(0), tile=8)
    for handle in handles:
        handle.remove()
    assert 0 < largest[2] <= 1.5 * largest[1]  # windows in the middle look to both sides
