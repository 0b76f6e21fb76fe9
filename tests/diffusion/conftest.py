"""Tiny networks with random, seeded weights: every path, in milliseconds."""

from collections.abc import Sequence

import pytest
import torch
from diffusers import UNet2DConditionModel

from autodir.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from autodir.diffusion.model import LatentDiffusion
from autodir.diffusion.schedule import SMALL, Schedule
from autodir.diffusion.settings import DiffusionConfig
from autodir.diffusion.unet import build_unet
from autodir.records import TextEmbedding

TINY_AUTOENCODER = AutoencoderConfig(
    patch=4, latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4
)
TINY_UNET = {
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}


class ToyEncoder:
    """Phrases to fixed random rows; counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.masked: list[bool] = []

    def encode_text(self, phrases: Sequence[str], masked: bool = True) -> TextEmbedding:
        self.asked += phrases
        self.masked.append(masked)
        draws = [torch.Generator().manual_seed(sum(phrase.encode())) for phrase in phrases]
        return TextEmbedding(
            tokens=torch.stack([torch.randn(5, 16, generator=draw) for draw in draws]),
            pooled=torch.stack([torch.randn(6, generator=draw) for draw in draws]),
        )


@pytest.fixture
def encoder() -> ToyEncoder:
    return ToyEncoder()


@pytest.fixture(scope="session")
def autoencoder() -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Autoencoder(TINY_AUTOENCODER).eval()


@pytest.fixture(scope="session")
def unet() -> UNet2DConditionModel:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return build_unet(TINY_UNET).eval()


@pytest.fixture
def diffusion(
    encoder: ToyEncoder, autoencoder: Autoencoder, unet: UNet2DConditionModel
) -> LatentDiffusion:
    config = DiffusionConfig(working_pixels=64 * 64, steps=2)
    return LatentDiffusion(encoder, autoencoder, unet, Schedule(SMALL), config)
