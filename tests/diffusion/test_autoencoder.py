"""Pixels to latents and back: shapes, ranges, statistics, budgets, and refusals."""

import copy

import pytest
import torch

from autodir.diffusion.autoencoder import SD15, SMALL, Autoencoder, AutoencoderConfig
from autodir.errors import ConfigError, ContractError

PLAIN = AutoencoderConfig(
    kind="plain", linear=True, latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4
)


def photo(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def plain() -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Autoencoder(PLAIN).eval()


@pytest.fixture(params=["kl", "plain"])
def either(
    request: pytest.FixtureRequest, autoencoder: Autoencoder, plain: Autoencoder
) -> Autoencoder:
    return autoencoder if request.param == "kl" else plain


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (16, 40), (72, 24)])
def test_round_trip_keeps_the_size(either: Autoencoder, size: tuple[int, int]) -> None:
    latents = either.encode(photo(*size, batch=2))
    assert latents.shape == (2, 4, size[0] // 8, size[1] // 8)
    image = either.decode(latents)
    assert image.shape == (2, 3, *size)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1


@torch.no_grad()
def test_clamping_is_all_that_clamp_does(either: Autoencoder) -> None:
    latents = 30 * torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    free = either.decode(latents, clamp=False)
    assert float(free.min()) < 0 or float(free.max()) > 1
    assert torch.equal(free.clamp(0, 1), either.decode(latents))


@torch.no_grad()
def test_the_rows_of_a_batch_do_not_mix(either: Autoencoder) -> None:
    both = either.encode(photo(16, 16, batch=2))
    one = either.encode(photo(16, 16, batch=2)[1:])
    torch.testing.assert_close(both[1:], one, rtol=0, atol=1e-5)


def test_calibrated_latents_have_unit_deviation_by_channel(autoencoder: Autoencoder) -> None:
    network = copy.deepcopy(autoencoder)
    spread = torch.tensor([0.5, 1.0, 4.0, 9.0]).view(1, 4, 1, 1)
    latents = torch.randn(8, 4, 5, 5, generator=torch.Generator().manual_seed(0)) * spread + spread
    network.calibrate(latents)
    scaled = network.scale(latents).transpose(0, 1).flatten(1)
    torch.testing.assert_close(scaled.mean(1), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(scaled.std(1), torch.ones(4))
    torch.testing.assert_close(network.unscale(network.scale(latents)), latents)


def test_latent_statistics_are_saved_with_the_weights(autoencoder: Autoencoder) -> None:
    state = autoencoder.state_dict()
    assert state["latent_mean"].shape == state["latent_std"].shape == (4,)


def test_without_calibration_the_scaling_factor_counts() -> None:
    config = AutoencoderConfig(
        latent_channels=4, block_out_channels=(8,), norm_num_groups=4, scaling_factor=0.25
    )
    network = Autoencoder(config)
    assert torch.equal(network.scale(torch.full((1, 4, 2, 2), 8.0)), torch.full((1, 4, 2, 2), 2.0))


def test_linear_start_reconstructs_what_its_channels_can_hold(plain: Autoencoder) -> None:
    draw = torch.Generator().manual_seed(0)
    # Photos made of 8×8 squares that differ in four directions only fit into four latent channels.
    mixing = torch.rand(4, 3 * 64, generator=draw)
    weights = torch.rand(3, 5, 6, 4, generator=draw)
    weights = weights / weights.sum(-1, keepdim=True)
    images = torch.nn.functional.pixel_shuffle((weights @ mixing).permute(0, 3, 1, 2), 8)
    plain.fit_linear(images)
    with torch.no_grad():
        torch.testing.assert_close(plain.decode(plain.encode(images)), images, rtol=0, atol=1e-3)


def test_linear_start_needs_a_linear_map(autoencoder: Autoencoder) -> None:
    with pytest.raises(ContractError, match="linear"):
        autoencoder.fit_linear(photo(16, 16))


def test_weights_in_bfloat16_still_speak_float32(autoencoder: Autoencoder) -> None:
    network = copy.deepcopy(autoencoder)
    network.net.to(torch.bfloat16)
    with torch.no_grad():
        latents = network.encode(photo(16, 16))
        image = network.decode(latents)
    assert latents.dtype is image.dtype is torch.float32
    with torch.no_grad():
        expected = autoencoder.encode(photo(16, 16))
    torch.testing.assert_close(latents, expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("size", [(7, 8), (8, 12), (1, 1)])
def test_sides_that_are_no_multiples_are_refused(
    autoencoder: Autoencoder, size: tuple[int, int]
) -> None:
    with pytest.raises(ContractError, match="multiples of 8"):
        autoencoder.encode(photo(*size))


@pytest.mark.parametrize("shape", [(4, 2, 2), (1, 3, 2, 2)])
def test_latents_of_another_shape_are_refused(
    autoencoder: Autoencoder, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ContractError):
        autoencoder.decode(torch.zeros(shape))
    with pytest.raises(ContractError):
        autoencoder.calibrate(torch.zeros(shape))


def test_small_keeps_its_budget() -> None:
    network = Autoencoder(SMALL)
    assert network.factor == 8
    assert network.channels == 16
    assert sum(parameter.numel() for parameter in network.parameters()) <= 4_000_000


def test_sd15_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        network = Autoencoder(SD15)
    assert network.factor == 8
    assert sum(parameter.numel() for parameter in network.parameters()) == 83_653_863


@pytest.mark.parametrize(
    "values",
    [
        {"patch": 0},
        {"block_out_channels": (60, 128)},
        {"scaling_factor": 0.0},
        {"latent_channel": 16},
    ],
)
def test_impossible_configurations_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        AutoencoderConfig.from_mapping(values)


def test_configuration_survives_json() -> None:
    values = SD15.to_dict()
    assert AutoencoderConfig.from_mapping(values) == SD15
    assert values["block_out_channels"] == [128, 256, 512, 512]
