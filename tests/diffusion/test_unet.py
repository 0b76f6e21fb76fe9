"""The U-Nets: published shape, budget, and refusal of what is unknown."""

from typing import Any

import pytest
import torch

from autodir.diffusion.unet import SD15, SMALL, build_unet, latent_multiple
from autodir.errors import ConfigError


def test_small_keeps_its_budget() -> None:
    with torch.device("meta"):
        unet = build_unet(SMALL)
    assert sum(parameter.numel() for parameter in unet.parameters()) <= 9_000_000
    assert latent_multiple(unet) == 4


def test_sd15_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        unet = build_unet(SD15)
    assert sum(parameter.numel() for parameter in unet.parameters()) == 859_532_484
    assert unet.conv_in.weight.shape == (320, 8, 3, 3)
    assert latent_multiple(unet) == 8


def test_small_attends_at_its_lowest_resolution_only() -> None:
    with torch.device("meta"):
        unet = build_unet(SMALL)
    assert [hasattr(block, "attentions") for block in unet.down_blocks] == [False, False, True]
    heads = unet.down_blocks[-1].attentions[0].transformer_blocks[0].attn2.heads
    assert SMALL["block_out_channels"][-1] // heads == 32


def test_the_answer_depends_on_text_time_and_photo(unet: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 8, 8, 8, generator=generator)
    tokens = torch.randn(1, 5, 16, generator=generator)
    other = torch.cat([x[:, :4], x[:, 4:] + 1], dim=1)

    @torch.no_grad()
    def answer(x: torch.Tensor, t: float, tokens: torch.Tensor) -> torch.Tensor:
        return unet(x, torch.tensor([t]), encoder_hidden_states=tokens).sample

    first = answer(x, 10.5, tokens)
    assert first.shape == (1, 4, 8, 8)
    for changed in (
        answer(x, 10.5, tokens + 1),
        answer(x, 900.0, tokens),
        answer(other, 10.5, tokens),
    ):
        assert float((changed - first).abs().max()) > 1e-5


def test_a_configuration_survives_the_one_diffusers_writes(unet: Any) -> None:
    again = build_unet(dict(unet.config))
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in unet.state_dict().items()
    }


def test_unknown_keys_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        build_unet({**SMALL, "in_channel": 32})
    assert "in_channels" in caught.value.hint


def test_values_that_make_no_network_are_refused() -> None:
    with pytest.raises(ConfigError):
        build_unet({**SMALL, "down_block_types": ("DownBlock2D",)})
