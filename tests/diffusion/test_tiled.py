"""A tiled autoencoder computes what the whole one does, statistics and attention included."""

import pytest
import torch
from torch import Tensor, nn

from autodir.diffusion import tiled
from autodir.diffusion.autoencoder import SD15, SMALL, Autoencoder, AutoencoderConfig
from autodir.diffusion.tiled import decode_tiled, encode_tiled, reach
from autodir.imaging.tiles import cores, map_cores

KL = AutoencoderConfig(
    patch=1, latent_channels=4, block_out_channels=(8, 8, 16, 16), layers_per_block=2,
    norm_num_groups=4, mid_attention=True,
)  # fmt: skip
CONFIGS = {
    "kl": KL,
    "kl with linear map": AutoencoderConfig(
        patch=2, linear=True, latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4
    ),
    "plain": AutoencoderConfig(
        kind="plain", linear=True, latent_channels=4, block_out_channels=(8, 8), layers_per_block=2
    ),
}


@pytest.fixture(scope="module", params=list(CONFIGS))
def network(request: pytest.FixtureRequest) -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        built = Autoencoder(CONFIGS[request.param]).eval().requires_grad_(False)
        for module in built.modules():
            if isinstance(module, nn.GroupNorm):
                nn.init.normal_(module.weight, 1, 0.2)
                nn.init.normal_(module.bias, 0, 0.2)
        return built


def photo(height: int, width: int) -> Tensor:
    """Dark and smooth on the left, bright and noisy on the right: no tile is like the whole."""
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    return noise * torch.linspace(0.1, 1, width)


def latents_of(network: Autoencoder, height: int, width: int) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(2, network.channels, height, width, generator=draw)
    return noise * torch.linspace(0.2, 2, width) + torch.linspace(-1, 1, height)[:, None]


@torch.no_grad()
def test_tiled_encoding_equals_whole_encoding(network: Autoencoder) -> None:
    image = photo(96, 136)
    whole = network.encode(image)
    error = (encode_tiled(network, image, 64) - whole).abs().max() / whole.std()
    assert float(error) < 1e-3


@torch.no_grad()
def test_tiled_decoding_equals_whole_decoding(network: Autoencoder) -> None:
    latents = latents_of(network, 12, 20)
    whole = network.decode(latents, clamp=False)
    difference = (decode_tiled(network, latents, 9, clamp=False) - whole).abs().max()
    assert float(difference / whole.std()) < 2e-3
    limited = decode_tiled(network, latents, 9)
    assert float((limited - whole.clamp(0, 1)).abs().max()) < 0.1 / 255
    assert limited.dtype is torch.float32


@torch.no_grad()
def test_one_tile_is_the_whole_bit_for_bit(network: Autoencoder) -> None:
    image, latents = photo(64, 48), latents_of(network, 8, 6)
    assert torch.equal(encode_tiled(network, image, 64), network.encode(image))
    assert torch.equal(decode_tiled(network, latents, 8), network.decode(latents))


@torch.no_grad()
def test_tiles_by_themselves_would_show() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = Autoencoder(KL).eval()
    latents = latents_of(network, 12, 20)
    alone = map_cores(latents, network.decode, cores((12, 20), 9, 2))
    assert float((alone - network.decode(latents)).abs().max()) > 4 / 255


@torch.no_grad()
def test_statistics_are_pooled_over_cores_spread_of_the_means_included() -> None:
    norm = nn.GroupNorm(2, 4)
    nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
    x = torch.randn(2, 4, 12, 20, generator=torch.Generator().manual_seed(0))
    x[..., 10:] += 5
    parts = cores((12, 20), 8, 3)
    pooled = tiled._statistics(norm, [part.outer.crop(x) for part in parts], parts)
    torch.testing.assert_close(tiled._normalized(norm, x, pooled), norm(x), rtol=0, atol=1e-5)
    assert float(pooled[1].min()) > 2  # the spread of the two halves


@torch.no_grad()
def test_one_part_at_a_time_walks_and_none_walks_twice() -> None:
    """Between two normalizations each part is computed once, in order."""
    seen: list[tuple[int, str]] = []
    norms = [nn.GroupNorm(1, 2), nn.GroupNorm(1, 2)]
    parts = cores((4, 8), 4, 0)

    def steps(index: int, x: Tensor) -> tiled._Steps:
        for number, norm in enumerate(norms):
            seen.append((index, f"before {number}"))
            (x,) = yield norm, (x,)
        seen.append((index, "end"))
        return x

    x = torch.randn(1, 2, 4, 8, generator=torch.Generator().manual_seed(0))
    walks = [steps(index, part.outer.crop(x)) for index, part in enumerate(parts)]
    result = torch.cat(tiled._together(walks, parts), dim=-1)
    torch.testing.assert_close(result, norms[1](norms[0](x)), rtol=0, atol=1e-5)
    assert seen == [(i, name) for name in ("before 0", "before 1", "end") for i in (0, 1)]


@torch.no_grad()
def test_half_precision_is_tiled_too() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = Autoencoder(CONFIGS["kl with linear map"]).eval().to(torch.bfloat16)
    latents = latents_of(network, 10, 14)
    whole, parts = network.decode(latents), decode_tiled(network, latents, 9)
    assert float((whole - parts).abs().mean()) < 1 / 255


@pytest.mark.parametrize("config", [KL, SD15, SMALL, *CONFIGS.values()])
def test_nothing_looks_farther_than_the_reach(config: AutoencoderConfig) -> None:
    pixels, latents = reach(config)
    assert pixels > 0
    if config is SD15:
        assert (pixels, latents) == (68, 13)


@pytest.mark.parametrize("kind", ["kl", "plain"])
def test_a_change_beyond_the_reach_is_not_seen(kind: str) -> None:
    """Without normalization and attention, whose reach is the whole, gradients end there."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = Autoencoder(CONFIGS[kind]).eval()
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.forward = lambda x: x  # type: ignore[method-assign]
    _, latents = reach(network.config)
    side = 2 * latents + 5
    z = torch.zeros(1, network.channels, side, side, requires_grad=True)
    if kind == "kl":
        decoder = network.net.decoder
        coarse = torch.zeros(1, 16, side, side, requires_grad=True)
        up = nn.Sequential(*decoder.up_blocks, decoder.conv_out)
        middle = up(coarse)[..., side * 4, side * 4].sum()
        seen = torch.autograd.grad(middle, coarse)[0]
    else:
        middle = network.decode(z, clamp=False)[..., side * 4, side * 4].sum()
        seen = torch.autograd.grad(middle, z)[0]
    rows = seen.abs().sum((0, 1, 3)).nonzero().flatten()
    center = side // 2
    assert int(rows.min()) >= center - latents
    assert int(rows.max()) <= center + latents
    assert int(rows.max() - rows.min()) > latents  # the bound is no wild guess
