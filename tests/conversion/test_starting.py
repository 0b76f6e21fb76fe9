"""A model to train from: Stable Diffusion and CLIP in their own layouts, on a miniature of each."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor

from autodir.checkpoint import info, load_model, verify
from autodir.conversion.starting import start
from autodir.errors import CheckpointError

UNET = {
    "in_channels": 4, "out_channels": 4, "block_out_channels": (8, 8, 16, 16),
    "layers_per_block": 2, "cross_attention_dim": 32, "attention_head_dim": 2,
    "norm_num_groups": 4,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}  # fmt: skip
VAE = {
    "block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "latent_channels": 4,
    "norm_num_groups": 4, "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
VISION = {"layers": 2, "width": 128, "patch_size": 14, "image_size": 224}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}


def write_diffusers(folder: Path, *, old_names: bool = True) -> tuple[Any, Any]:
    """U-Net and autoencoder as Stable Diffusion 1.5 is published, attention named as of old."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        unet, vae = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE)
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    if old_names:
        path = folder / "vae" / "diffusion_pytorch_model.safetensors"
        names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        state = load_file(path)
        for new, old in names.items():
            state = {key.replace(f".{new}.", f".{old}."): value for key, value in state.items()}
        save_file(state, path)
        config = json.loads((folder / "vae" / "config.json").read_text())
        del config["scaling_factor"]  # which the published file does not state
        (folder / "vae" / "config.json").write_text(json.dumps(config))
    return unet, vae


def towers() -> CLIP:
    with torch.random.fork_rng():
        torch.manual_seed(6)
        return CLIP(embed_dim=48, vision_cfg=dict(VISION), text_cfg=dict(TEXT), quick_gelu=True)


def write_open_clip(folder: Path) -> CLIP:
    folder.mkdir(parents=True)
    clip = towers()
    shapes = {"embed_dim": 48, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": shapes}))
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    return clip


def write_transformers(folder: Path) -> CLIP:
    """The same towers under the names that transformers gives them, written down independently."""
    folder.mkdir(parents=True)
    clip = towers()
    ours = clip.state_dict()
    state: dict[str, Tensor] = {
        "logit_scale": ours["logit_scale"],
        "text_projection.weight": ours["text_projection"].T.contiguous(),
        "visual_projection.weight": ours["visual.proj"].T.contiguous(),
        "text_model.embeddings.token_embedding.weight": ours["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": ours["positional_embedding"],
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.class_embedding": ours["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": ours["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": ours["visual.positional_embedding"],
    }
    for tail in ("weight", "bias"):
        state[f"text_model.final_layer_norm.{tail}"] = ours[f"ln_final.{tail}"]
        state[f"vision_model.pre_layrnorm.{tail}"] = ours[f"visual.ln_pre.{tail}"]
        state[f"vision_model.post_layernorm.{tail}"] = ours[f"visual.ln_post.{tail}"]
        for side, prefix in (("text", "transformer"), ("vision", "visual.transformer")):
            for layer in range(2):
                there = f"{side}_model.encoder.layers.{layer}"
                here = f"{prefix}.resblocks.{layer}"
                stacked = ours[f"{here}.attn.in_proj_{tail}"].chunk(3)
                for name, value in zip("qkv", stacked, strict=True):
                    state[f"{there}.self_attn.{name}_proj.{tail}"] = value.clone()
                for new, old in (
                    ("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"),
                    ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
                ):  # fmt: skip
                    state[f"{there}.{new}.{tail}"] = ours[f"{here}.{old}.{tail}"]
    save_file(state, folder / "model.safetensors")
    text = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 49408,
        "max_position_embeddings": 77, "hidden_act": "quick_gelu",
    }  # fmt: skip
    vision = {
        "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14,
        "image_size": 224, "intermediate_size": 512,
    }  # fmt: skip
    config = {"projection_dim": 48, "text_config": text, "vision_config": vision}
    (folder / "config.json").write_text(json.dumps(config))
    return clip


WRITERS = {"transformers": write_transformers, "open_clip": write_open_clip}


@pytest.fixture(scope="module", params=list(WRITERS))
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model folder, and the networks that it was made of."""
    root = tmp_path_factory.mktemp("start")
    unet, vae = write_diffusers(root / "sd")
    clip = WRITERS[request.param](root / "clip")
    start(str(root / "sd"), str(root / "clip"), root / "model")
    return root / "model", unet, vae, clip


def test_the_folder_is_a_model_of_the_published_kind(begun: Any) -> None:
    folder, *_ = begun
    verify(folder)
    about = info(folder)
    assert (about.scale, about.training) == ("sd15", {})
    model = load_model(folder)
    assert model.diffusion.scaled_condition is False
    assert model.head.config == {"kind": "contrastive"}
    assert model.autoencoder.latent_std[0] == pytest.approx(1 / 0.18215, rel=1e-3)


@torch.no_grad()
def test_the_widened_unet_does_what_it_did_whatever_the_photo(begun: Any) -> None:
    folder, unet, _, _ = begun
    wide = load_model(folder).unet
    draw = torch.Generator().manual_seed(0)
    x, photo = (torch.randn(2, 4, 16, 16, generator=draw) for _ in range(2))
    tokens = torch.randn(2, 77, 32, generator=draw)
    told = (torch.tensor([5, 700]), tokens)
    before = unet.half().float()(x, told[0], encoder_hidden_states=tokens).sample
    after = wide(torch.cat([x, photo], 1), told[0], encoder_hidden_states=tokens).sample
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    assert float(wide.conv_in.weight[:, 4:].abs().max()) == 0


@torch.no_grad()
def test_the_autoencoder_is_the_same(begun: Any) -> None:
    folder, _, vae, _ = begun
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ours = load_model(folder).autoencoder
    mean = vae.half().float().encode(image * 2 - 1).latent_dist.mean
    torch.testing.assert_close(ours.encode(image), mean, rtol=1e-4, atol=1e-4)
    decoded = vae.decode(mean).sample / 2 + 0.5
    torch.testing.assert_close(ours.decode(mean, clamp=False), decoded, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_towers_are_the_same(begun: Any) -> None:
    folder, _, _, clip = begun
    ours, clip = load_model(folder).clip, clip.half().float()
    crops = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected = clip.visual((crops - ours.mean) / ours.std)
    torch.testing.assert_close(ours.encode_image(crops), expected, rtol=1e-3, atol=1e-3)
    ids = ours.tokenizer.encode(["a photo of rain"], 77).ids
    expected = clip.encode_text(ids, normalize=True)
    torch.testing.assert_close(
        ours.encode_text(["a photo of rain"]).pooled, expected, rtol=1e-3, atol=1e-3
    )


def test_pickled_and_missing_sources_are_refused(tmp_path: Path) -> None:
    write_diffusers(tmp_path / "sd")
    write_open_clip(tmp_path / "clip")
    with pytest.raises(CheckpointError, match="nowhere"):
        start(str(tmp_path / "nowhere"), str(tmp_path / "clip"), tmp_path / "model")
    weights = tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match="no diffusion_pytorch_model"):
        start(str(tmp_path / "sd"), str(tmp_path / "clip"), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_unet_that_is_wide_already_is_refused(tmp_path: Path) -> None:
    write_diffusers(tmp_path / "sd")
    write_open_clip(tmp_path / "clip")
    path = tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state["conv_in.weight"] = torch.zeros(8, 9, 3, 3)
    save_file(state, path)
    with pytest.raises(CheckpointError, match="9 channels"):
        start(str(tmp_path / "sd"), str(tmp_path / "clip"), tmp_path / "model")


@pytest.mark.slow
def test_two_processes_train_the_published_shapes_from_stable_diffusion(tmp_path: Path) -> None:
    write_diffusers(tmp_path / "sd")
    write_open_clip(tmp_path / "clip")
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in "abc":
        noise = np.random.default_rng(ord(name)).integers(0, 255, (9, 12, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).resize((96, 72)).save(photos / f"{name}.png")
    folder = tmp_path / "out"

    def train(part: str, *more: str) -> None:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        options = ["--data", str(photos), "--out", str(folder), "--budget", "3s", "--batch", "2"]
        options += ["--crop", "64", "--checkpointing", "--precision", "fp32"]
        subprocess.run(
            [sys.executable, *launcher, "-m", "autodir", "train", part, *options, *more],
            env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
            check=True, timeout=580,
        )  # fmt: skip

    train("diffusion", "--stable-diffusion", str(tmp_path / "sd"), "--clip", str(tmp_path / "clip"))
    verify(folder)
    assert list(info(folder).training) == ["diffusion"]
    first = load_model(folder)
    assert float(first.unet.conv_in.weight[:, 4:].abs().max()) > 0  # the photo is being heard
    train("diffusion", "--resume")  # its budget is spent: the state is read and kept
    assert len(info(folder).training["diffusion"]) == 2
    assert (folder / ".training" / "diffusion" / "samples.png").is_file()
    after = load_model(folder)
    assert torch.equal(after.unet.conv_in.weight, first.unet.conv_in.weight)
