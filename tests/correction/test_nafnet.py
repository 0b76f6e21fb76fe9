"""NAFNet has the published names and sizes, local statistics, and takes any image."""

import pytest
import torch
from torch import Tensor, nn

from autodir.correction.nafnet import (
    ChannelAttention,
    LayerNorm2d,
    NAFNet,
    SimpleGate,
    pool_statistics,
    spread,
)
from autodir.errors import ContractError


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def noisy(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def awake(network: NAFNet, scale: float = 0.2) -> NAFNet:
    """Random values for what starts at zero, so that every path carries something."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if name.endswith(("beta", "gamma")) or ".film." in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    return network


def tiny(train_size: int = 0, embed_dim: int = 0, unshuffle: int = 1) -> NAFNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NAFNet(
            width=8,
            middle_blk_num=1,
            enc_blk_nums=(1, 1),
            dec_blk_nums=(1, 1),
            train_size=train_size,
            embed_dim=embed_dim,
            unshuffle=unshuffle,
        )
    return awake(network)


def test_structural_correction_of_the_paper_has_its_size() -> None:
    with torch.device("meta"):
        network = NAFNet(
            img_channel=6,
            out_channel=3,
            width=64,
            enc_blk_nums=(2, 2, 4, 8),
            middle_blk_num=12,
            dec_blk_nums=(2, 2, 2, 2),
        )
    assert parameters(network) == 115_984_643


def test_deblurring_network_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        network = NAFNet(
            width=32, enc_blk_nums=(1, 1, 1, 28), middle_blk_num=1, dec_blk_nums=(1, 1, 1, 1)
        )
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    published = {
        "intro.weight": (32, 3, 3, 3),
        "ending.bias": (3,),
        "encoders.0.0.norm1.weight": (32,),
        "encoders.0.0.conv1.weight": (64, 32, 1, 1),
        "encoders.0.0.conv2.weight": (64, 1, 3, 3),
        "encoders.3.27.sca.1.weight": (256, 256, 1, 1),
        "encoders.3.27.conv3.bias": (256,),
        "downs.0.weight": (64, 32, 2, 2),
        "middle_blks.0.beta": (1, 512, 1, 1),
        "middle_blks.0.conv4.weight": (1024, 512, 1, 1),
        "ups.0.0.weight": (1024, 512, 1, 1),
        "decoders.3.0.conv5.weight": (32, 32, 1, 1),
        "decoders.3.0.gamma": (1, 32, 1, 1),
        "decoders.3.0.norm2.bias": (32,),
    }
    assert {name: shapes.get(name) for name in published} == published
    assert not any("film" in name or "instruct" in name for name in shapes)
    assert round(parameters(network) / 1e6, 1) == 17.1
    blocks = 31 + 1 + 4
    outside = 2 + 2 + 4 * 2 + 4  # intro, ending, downs with bias, ups without
    assert len(shapes) == 18 * blocks + outside


def test_layer_norm_is_over_the_channels_of_a_pixel() -> None:
    x = noisy((2, 5, 3, 4))
    expected = (x - x.mean(1, keepdim=True)) / (
        x.var(1, unbiased=False, keepdim=True) + 1e-6
    ).sqrt()
    torch.testing.assert_close(LayerNorm2d(5)(x), expected)


def test_simple_gate_multiplies_the_halves() -> None:
    x = noisy((1, 6, 2, 2))
    assert torch.equal(SimpleGate()(x), x[:, :3] * x[:, 3:])


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (16, 16), (3, 16)])
def test_statistics_are_global_up_to_the_window(size: tuple[int, int]) -> None:
    x = noisy((2, 3, *size))
    assert torch.equal(pool_statistics(x, 16)[0], x.mean((2, 3), keepdim=True))


def test_statistics_without_a_window_are_always_global() -> None:
    x = noisy((1, 3, 50, 70))
    assert pool_statistics(x, 0)[0].shape == (1, 3, 1, 1)


def local(x: Tensor, window: int) -> Tensor:
    means, cell = pool_statistics(x, window)
    assert cell == window // 4
    return spread(means, cell, (x.shape[-2], x.shape[-1]))


@pytest.mark.parametrize("size", [(17, 16), (5, 200), (64, 64), (33, 47)])
def test_statistics_above_the_window_are_local(size: tuple[int, int]) -> None:
    even = torch.full((1, 2, *size), 0.5)
    torch.testing.assert_close(local(even, 16), even)


def test_local_statistics_tell_two_sides_of_a_photo_apart() -> None:
    x = torch.zeros(1, 1, 32, 128)
    x[..., 64:] = 1
    means = local(x, 32)
    assert float(means[..., :30].max()) == 0
    assert float(means[..., -30:].min()) == 1
    assert float(means[..., 62:66].mean()) == pytest.approx(0.5, abs=0.1)


def test_a_window_of_a_photo_has_the_statistics_of_the_photo() -> None:
    x = noisy((1, 2, 160, 96))
    part = local(x[..., 40:136, 8:88], 32)  # starts at a multiple of the cells of 8
    torch.testing.assert_close(part[..., 16:-16, 16:-16], local(x, 32)[..., 56:120, 24:72])


def test_windows_that_start_on_the_grid_meet_the_cells_of_every_level() -> None:
    assert tiny(train_size=64, unshuffle=2).grid(64) == 16
    deep = NAFNet(width=4, unshuffle=2, enc_blk_nums=[1] * 3, dec_blk_nums=[1] * 3)
    assert (deep.grid(128), deep.grid(0)) == (32, 16)


def test_local_statistics_are_for_a_while() -> None:
    network, x = tiny(train_size=0), noisy((1, 3, 64, 64))
    before = network(x)
    with network.local_statistics(16):
        assert network.encoders[0][0].sca.window == 16
    assert network.encoders[0][0].sca.window == 0
    assert torch.equal(network(x), before)


def test_attention_weighs_channels_by_their_statistics() -> None:
    attention = ChannelAttention(3)
    x = noisy((1, 3, 4, 4))
    expected = x * attention[1](x.mean((2, 3), keepdim=True))
    torch.testing.assert_close(attention(x), expected)


def test_windows_shrink_with_the_levels() -> None:
    network = tiny(train_size=64, unshuffle=2)
    windows = [network.encoders[0][0].sca.window, network.encoders[1][0].sca.window]
    assert windows == [32, 16]
    assert network.middle_blks[0].sca.window == 8
    assert [blocks[0].sca.window for blocks in network.decoders] == [16, 32]


def test_photo_as_large_as_the_training_crops_meets_global_statistics() -> None:
    local, whole = tiny(train_size=32), tiny(train_size=0)
    x = noisy((1, 3, 32, 32))
    torch.testing.assert_close(local(x), whole(x))
    large = noisy((1, 3, 64, 96))
    assert not torch.allclose(local(large), whole(large), atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 57), (1, 40)])
@pytest.mark.parametrize("unshuffle", [1, 2])
def test_any_size_comes_back(size: tuple[int, int], unshuffle: int) -> None:
    result = tiny(train_size=16, unshuffle=unshuffle)(noisy((2, 3, *size)))
    assert result.shape == (2, 3, *size)
    assert bool(torch.isfinite(result).all())


def test_gradient_reaches_every_parameter() -> None:
    network = tiny(embed_dim=6, unshuffle=2)
    network(noisy((2, 3, 16, 16)), noisy((2, 6))).square().mean().backward()
    idle = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.abs().sum() > 0)
    ]
    assert idle == []


def test_instruction_changes_the_result() -> None:
    network, x = tiny(embed_dim=6), noisy((1, 3, 16, 16))
    results = [network(x, noisy((1, 6), seed)) for seed in (1, 2)]
    assert not torch.allclose(*results, atol=1e-5)


def test_untrained_instruction_changes_nothing() -> None:
    network, x = NAFNet(width=8, embed_dim=6), noisy((1, 3, 16, 16))
    results = [network(x, noisy((1, 6), seed)) for seed in (1, 2)]
    assert torch.equal(*results)


@pytest.mark.parametrize("wrong", [None, torch.zeros(1, 5)])
def test_instruction_of_the_right_width_is_required(wrong: Tensor | None) -> None:
    with pytest.raises(ContractError, match="6"):
        tiny(embed_dim=6)(noisy((1, 3, 8, 8)), wrong)


def test_levels_of_both_sides_must_agree() -> None:
    with pytest.raises(ContractError, match="levels"):
        NAFNet(enc_blk_nums=(1, 1), dec_blk_nums=(1,))


def test_activations_that_are_computed_twice_give_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        network = tiny(train_size=32)
        network.checkpointing = checkpointing
        network(noisy((1, 3, 32, 32))).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))  # type: ignore[union-attr]
    assert torch.equal(*gradients)
