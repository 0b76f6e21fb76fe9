"""A whole model with random weights, small enough that every test may use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from autodir.checkpoint import Model, build, save_model
from autodir.prompts import load_taxonomy

TINY: dict[str, Any] = {
    "clip": {
        "embed_dim": 16,
        "quick_gelu": False,
        "vision": {"layers": [1, 1, 1, 1], "width": 4, "image_size": 32, "head_width": 16},
        "text": {"context_length": 16, "vocab_size": 300, "width": 16, "heads": 2, "layers": 1},
        "tokenizer": "bpe",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "prompt_scale": 10.0,
        "prompt_bias": -5.0,
    },
    "biqa": {"hidden": 16},
    "vae": {
        "kind": "plain", "linear": True, "latent_channels": 4, "block_out_channels": [8, 8],
        "layers_per_block": 1,
    },
    "unet": {
        "in_channels": 8,
        "out_channels": 4,
        "block_out_channels": [8, 16],
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    },
    "scm": {
        "network": {
            "width": 8, "enc_blk_nums": [1, 1], "middle_blk_num": 1, "dec_blk_nums": [1, 1],
            "unshuffle": 2, "embed_dim": 16, "train_size": 32,
        },
        "head": "affine",
    },
    "schedule": {},
    "diffusion": {"working_pixels": 64 * 64, "steps": 2},
}  # fmt: skip


def build_tiny(seed: int = 0) -> Model:
    """A tiny model in evaluation mode, with thresholds that find every degradation."""
    model = build(TINY, load_taxonomy(), scale="tiny", seed=seed)
    model.calibration = {"temperature": 1.0, "clean_threshold": 0.0}
    generator = torch.Generator().manual_seed(seed)
    model.autoencoder.fit_linear(torch.rand(8, 3, 32, 32, generator=generator))
    return model.eval()


@pytest.fixture(scope="session")
def tiny_model() -> Model:
    """Random weights; never changed by a test."""
    return build_tiny()


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Model) -> Path:
    """The tiny model on disk."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(tiny_model, folder)
    return folder
