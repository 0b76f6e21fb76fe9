"""A model of the published shapes to train from: Stable Diffusion's networks and CLIP's towers.

Apart from the conversion of a trained AutoDIR: here the U-Net is widened, and the structural
correction is new.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autodir import hub
from autodir.builders import PARTS_SD15, Model, build
from autodir.checkpoint import save_model
from autodir.clip import SD15 as CLIP_SD15
from autodir.conversion.keys import PREFIXES, origin
from autodir.errors import CheckpointError, ConfigError
from autodir.prompts import load_taxonomy
from autodir.weights import assign, read

DIFFUSERS = "diffusion_pytorch_model"
"""Stem of the weight files of diffusers' folders."""
OPEN_CLIP = "open_clip"
_ATTENTION = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}
"""Names in older folders of the autoencoder → today's."""


def start(stable_diffusion: str, clip: str, folder: Path) -> None:
    """Write a model folder of scale ``sd15`` that training can start from.

    The U-Net is Stable Diffusion's with twice the input channels: the new ones, for the latents of
    the degraded photo, start at zero, so that at first it does what it did. Autoencoder and CLIP
    are taken as they are, the structural correction starts anew. All shapes are those that the
    sources state.

    Args:
        stable_diffusion: a folder of diffusers' layout with ``unet`` and ``vae``, or its name on
            the hub.
        clip: a folder of the layout of transformers or open_clip, or its name on the hub.
        folder: the model folder to write.

    Raises:
        CheckpointError: a source is missing, not in safetensors, or of another layout.
    """
    patterns = [
        f"{part}/{name}"
        for part in ("unet", "vae")
        for name in ("config.json", f"{DIFFUSERS}*.safetensors*")
    ]
    diffusion = _folder(stable_diffusion, patterns)
    towers = _folder(
        clip,
        ["*config.json", "model*.safetensors*", "open_clip_model*.safetensors*"],
    )
    unet, vae = (_config(diffusion / part / "config.json") for part in ("unet", "vae"))
    of_transformers = not (towers / "open_clip_config.json").is_file()
    clip_config = (
        _clip_of_transformers(_config(towers / "config.json"))
        if of_transformers
        else _clip_of_open_clip(_config(towers / "open_clip_config.json"))
    )
    try:
        model = build(
            {
                **PARTS_SD15,
                "clip": clip_config,
                "unet": {**unet, "in_channels": 2 * unet["out_channels"]},
                "vae": _autoencoder(vae),
            },
            load_taxonomy(),
            scale="sd15",
        )
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{stable_diffusion} and {clip} do not describe networks known here: {error}",
            "start from Stable Diffusion 1.5 and CLIP ViT-L/14",
        ) from error
    weights = _weights(towers, "model" if of_transformers else f"{OPEN_CLIP}_model")
    _fill_clip(model, weights, towers, of_transformers)
    _fill(model.unet, _widened(_weights(diffusion / "unet", DIFFUSERS), model.unet), diffusion)
    vae_weights = {f"net.{_today(k)}": v for k, v in _weights(diffusion / "vae", DIFFUSERS).items()}
    own = model.autoencoder.state_dict()
    statistics = {name: own[name] for name in ("latent_mean", "latent_std")}
    _fill(model.autoencoder, {**vae_weights, **statistics}, diffusion)
    save_model(model.eval(), folder)


def _folder(source: str, patterns: list[str]) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if hub.is_hub_name(source):
        return hub.fetch(source, patterns)
    raise CheckpointError(f"there is no folder {source}", "give a path, or org/name of the hub")


def _config(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no table")
    return values


def _weights(folder: Path, stem: str) -> dict[str, Tensor]:
    """All tensors of a folder, by name."""
    if not any(folder.glob(f"{stem}*.safetensors")):
        raise CheckpointError(
            f"{folder} has no {stem}.safetensors",
            "pickles can run code and are not read; choose a repository with safetensors",
        )
    return dict(read(folder, stem))


def _clip_of_transformers(config: Mapping[str, Any]) -> dict[str, Any]:
    text, vision = config.get("text_config") or {}, config.get("vision_config") or {}
    width, heads = vision.get("hidden_size", 1024), vision.get("num_attention_heads", 16)
    return {
        **CLIP_SD15,
        "embed_dim": config.get("projection_dim", 768),
        "quick_gelu": text.get("hidden_act", "quick_gelu") == "quick_gelu",
        "vision": {
            "layers": vision.get("num_hidden_layers", 24), "width": width,
            "patch_size": vision.get("patch_size", 14), "image_size": vision.get("image_size", 224),
            "head_width": width // heads,
            "mlp_ratio": vision.get("intermediate_size", 4 * width) / width,
        },
        "text": {
            "context_length": text.get("max_position_embeddings", 77),
            "vocab_size": text.get("vocab_size", 49408), "width": text.get("hidden_size", 768),
            "heads": text.get("num_attention_heads", 12),
            "layers": text.get("num_hidden_layers", 12),
        },
    }  # fmt: skip


def _clip_of_open_clip(config: Mapping[str, Any]) -> dict[str, Any]:
    shapes = config.get("model_cfg", config)
    if "vision_cfg" not in shapes or "text_cfg" not in shapes:
        raise CheckpointError("open_clip_config.json names no vision_cfg and text_cfg")
    return {
        **CLIP_SD15,
        "embed_dim": shapes["embed_dim"],
        "quick_gelu": bool(shapes.get("quick_gelu", False)),
        "vision": dict(shapes["vision_cfg"]),
        "text": dict(shapes["text_cfg"]),
    }


def _autoencoder(config: Mapping[str, Any]) -> dict[str, Any]:
    same = ("latent_channels", "block_out_channels", "layers_per_block", "norm_num_groups")
    return {
        **PARTS_SD15["vae"],
        **{name: config[name] for name in same},
        "mid_attention": config.get("mid_block_add_attention", True),
        "scaling_factor": config.get("scaling_factor", PARTS_SD15["vae"]["scaling_factor"]),
    }


def _fill_clip(
    model: Model, weights: Mapping[str, Tensor], source: Path, of_transformers: bool
) -> None:
    names = model.clip.state_dict()
    if of_transformers:
        state = {name: _made(name, weights, source) for name in names}
    else:
        state = {f"towers.{name}": value for name, value in weights.items()}
    _fill(model.clip, state, source)
    scale = state["towers.logit_scale"]
    _fill(model.head, {"logit_scale": scale.reshape(model.head.logit_scale.shape)}, source)


def _made(name: str, weights: Mapping[str, Tensor], source: Path) -> Tensor:
    """One of our tensors of the towers from transformers' tensors."""
    found = origin("clip", name)
    assert found is not None
    try:
        values = [weights[theirs.removeprefix(PREFIXES["clip"])] for theirs in found.names]
    except KeyError as error:
        raise CheckpointError(
            f"{source} has no tensor {error}", "start from CLIP ViT-L/14"
        ) from error
    value = torch.cat(values) if found.form == "stacked" else values[0]
    return value.T if found.form == "transposed" else value


def _widened(weights: Mapping[str, Tensor], unet: nn.Module) -> dict[str, Tensor]:
    """The first convolution with zeros behind what it has, for the photo's latents."""
    name = "conv_in.weight"
    if name not in weights:
        raise CheckpointError(f"the U-Net has no tensor {name}", "it is none of diffusers' layout")
    narrow, wide = weights[name], torch.zeros(unet.state_dict()[name].shape)
    if narrow.shape[1] * 2 != wide.shape[1]:
        raise CheckpointError(
            f"the U-Net takes {narrow.shape[1]} channels, not {wide.shape[1] // 2}",
            "start from a text-to-image U-Net, not from one for inpainting or editing",
        )
    wide[:, : narrow.shape[1]] = narrow
    return {**weights, name: wide}


def _today(name: str) -> str:
    for old, new in _ATTENTION.items():
        name = name.replace(old, new)
    return name


def _fill(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Give a module tensors in float32, in its own shapes where only sides of 1 differ."""
    own = module.state_dict()
    values = {
        name: value.float().reshape(own[name].shape)
        if name in own
        and value.numel() == own[name].numel()
        and value.squeeze().shape == own[name].squeeze().shape
        else value
        for name, value in state.items()
    }
    assign(module, {name: value.contiguous() for name, value in values.items()}, source)
