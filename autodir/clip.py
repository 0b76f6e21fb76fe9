"""CLIP's two towers: crops → features, phrases → features and token states.

The one door to open_clip's networks; apart because diagnosis and diffusion share the text tower.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize

from autodir.errors import CheckpointError, ContractError
from autodir.phrases import UNKNOWN
from autodir.prompts import load_phrases, load_taxonomy
from autodir.records import TextEmbedding
from autodir.tokens import Tokenizer, Tokens, learn_tokenizer, load_tokenizer
from autodir.weights import fill, without_values, write

CONFIG = "config.json"

SMALL: dict[str, Any] = {
    "embed_dim": 256,
    "quick_gelu": False,
    "vision": {"layers": [1, 1, 2, 1], "width": 20, "image_size": 128, "head_width": 64},
    "text": {"context_length": 32, "vocab_size": 4096, "width": 256, "heads": 4, "layers": 4},
    "tokenizer": "bpe",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "prompt_scale": 10.0,
    "prompt_bias": -5.0,
}
SD15: dict[str, Any] = {
    "embed_dim": 768,
    "quick_gelu": True,
    "vision": {"layers": 24, "width": 1024, "patch_size": 14, "image_size": 224},
    "text": {"context_length": 77, "vocab_size": 49408, "width": 768, "heads": 12, "layers": 12},
    "tokenizer": "clip",
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "prompt_scale": 10.0,
    "prompt_bias": -5.0,
    "any_prompt": True,
}
SD21: dict[str, Any] = {
    "context_length": 77,
    "vocab_size": 49408,
    "width": 1024,
    "heads": 16,
    "layers": 23,
    "tokenizer": "open_clip",
}
"""ViT-H/14's text tower as Stable Diffusion 2 reads it: without the last of its 24 layers."""


class Clip(nn.Module):
    """open_clip's CLIP with the sequence of text states, and pixel mean and deviation inside.

    Attributes:
        config: plain values that rebuild the module with `from_config`. ``prompt_scale`` and
            ``prompt_bias`` calibrate a phrase: P(degradation) = sigmoid(scale · cosine + bias).
            With ``any_prompt`` a sentence that names nothing known is followed all the same.
        tokenizer: phrases → ids.
        towers: open_clip's module.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: Mapping[str, Any], tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config: dict[str, Any] = copy.deepcopy(dict(config))
        self.tokenizer = tokenizer
        text = self.config["text"]
        if tokenizer.vocabulary > text["vocab_size"]:
            raise ContractError(
                f"{tokenizer.vocabulary} tokens do not fit a vocabulary of {text['vocab_size']}"
            )
        self.towers = CLIP(
            embed_dim=self.config["embed_dim"],
            vision_cfg=dict(self.config["vision"]),
            text_cfg=dict(text),
            quick_gelu=self.config["quick_gelu"],
        )
        self.register_buffer(
            "mean", torch.tensor(self.config["mean"]).view(1, 3, 1, 1), persistent=False
        )
        self.register_buffer(
            "std", torch.tensor(self.config["std"]).view(1, 3, 1, 1), persistent=False
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], tokenizer: Tokenizer | None = None) -> Clip:
        """Build with random weights.

        Args:
            config: of the shape of `SMALL` and `SD15`.
            tokenizer: without one, CLIP's own, or one learnt from the shipped phrases.
        """
        if tokenizer is None:
            kind = config["tokenizer"]
            bpe = kind == "bpe"
            tokenizer = (
                phrase_tokenizer(config["text"]["vocab_size"])
                if bpe
                else load_tokenizer(kind, Path())
            )
        return cls(config, tokenizer)

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> Clip:
        """Read a folder that `save` wrote, in evaluation mode and float32.

        Raises:
            CheckpointError: a file is missing or malformed, or tensors have other names or shapes.
        """
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            with without_values():
                clip = cls(config, load_tokenizer(config["tokenizer"], folder))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"cannot load the text and image towers from {folder}: {error}"
            ) from error
        fill(clip, folder, device=device)
        return clip.to(device).eval()

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write ``config.json``, ``tokenizer.json`` and the weights in ``dtype``."""
        self.save_settings(folder)
        write(self.state_dict().items(), folder, dtype)

    def save_settings(self, folder: Path) -> None:
        """Write ``config.json`` and ``tokenizer.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")
        self.tokenizer.save(folder)

    @property
    def image_size(self) -> int:
        """S, the side of the square crops that the image tower takes."""
        return int(self.config["vision"]["image_size"])

    @property
    def embed_dim(self) -> int:
        """E, the size of the space that both towers share."""
        return int(self.config["embed_dim"])

    @property
    def token_width(self) -> int:
        """D, the size of one token state."""
        return int(self.config["text"]["width"])

    @property
    def context_length(self) -> int:
        """L, the number of tokens of each phrase, padding included."""
        return int(self.config["text"]["context_length"])

    @property
    def logit_scale(self) -> Tensor:
        """The factor on cosines between image and text, exp of the learnt parameter; a scalar."""
        scale: Tensor = self.towers.logit_scale
        return scale.exp()

    def text_parameters(self) -> list[nn.Parameter]:
        """The parameters of the text tower; others than ``logit_scale`` are the image tower's."""
        prefixes = ("towers.visual.", "towers.logit_scale")
        return [value for name, value in self.named_parameters() if not name.startswith(prefixes)]

    def encode_text(self, phrases: Sequence[str], masked: bool = True) -> TextEmbedding:
        """Token states and sentence vectors of phrases.

        Every key after EOS is masked, so padding never changes a sentence, and a padded position
        holds a summary of the whole of it.

        Args:
            phrases: at least one.
            masked: False lets the padded positions see each other, as the published code does with
                a user's own words; the sentence itself stays the same.

        Raises:
            ContractError: there is no phrase.
        """
        if not phrases:
            raise ContractError("encode_text needs at least one phrase")
        tokens = self.tokenizer.encode(phrases, self.context_length)
        device = self.towers.positional_embedding.device
        return self.encode_tokens(Tokens(tokens.ids.to(device), tokens.last.to(device)), masked)

    def encode_tokens(self, tokens: Tokens, masked: bool = True) -> TextEmbedding:
        """`encode_text` of phrases that are already encoded to (B, L) ids on the module's device.

        Fewer columns than `context_length` give the same states at the places that are left.
        """
        towers = self.towers
        dtype = towers.transformer.get_cast_dtype()
        places = towers.positional_embedding[: tokens.ids.shape[1]]
        x = towers.token_embedding(tokens.ids).to(dtype) + places.to(dtype)
        x = towers.ln_final(towers.transformer(x, attn_mask=self._mask(tokens, masked)))
        rows = torch.arange(len(x), device=x.device)
        pooled = x[rows, tokens.last] @ towers.text_projection
        return TextEmbedding(tokens=x, pooled=normalize(pooled, dim=-1))

    def encode_image(self, crops: Tensor) -> Tensor:
        """Features (N, E), not normalized, of crops (N, 3, S, S) in [0, 1].

        Raises:
            ContractError: the crops have another shape.
        """
        size = self.image_size
        if crops.ndim != 4 or tuple(crops.shape[1:]) != (3, size, size):
            raise ContractError(f"crops must be (N, 3, {size}, {size}), got {tuple(crops.shape)}")
        features: Tensor = self.towers.visual((crops - self.mean.to(crops)) / self.std.to(crops))
        return features

    def _mask(self, tokens: Tokens, masked: bool) -> Tensor:
        """0 where a position may look, -inf at later ones and, where ``masked``, at padding.

        (B · heads, L, L), or (L, L) where all rows are alike.
        """
        length = tokens.ids.shape[1]
        causal: Tensor = self.towers.attn_mask[:length, :length]
        if not masked:
            return causal
        return _without_padding(causal, tokens, int(self.config["text"]["heads"]))


class TextTower(nn.Module):
    """The text tower of a U-Net that does not share the diagnosis's: its states, nothing pooled.

    Attributes:
        config: plain values that rebuild the module, of the shape of `SD21`.
        tokenizer: phrases → ids.
        network: open_clip's module, without projection.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config: dict[str, Any] = copy.deepcopy(dict(config))
        sizes = dict(self.config)
        self.tokenizer = load_tokenizer(sizes.pop("tokenizer"), Path())
        self.network = TextTransformer(**sizes, output_dim=None)

    def encode_text(self, phrases: Sequence[str], masked: bool = True) -> TextEmbedding:
        """Token states (P, L, D) after the last normalization; pooled is the state at EOS.

        Args:
            phrases: at least one.
            masked: hide the padding; the published models let it be seen.

        Raises:
            ContractError: there is no phrase.
        """
        if not phrases:
            raise ContractError("encode_text needs at least one phrase")
        network = self.network
        tokens = self.tokenizer.encode(phrases, int(self.config["context_length"]))
        device = network.positional_embedding.device
        tokens = Tokens(tokens.ids.to(device), tokens.last.to(device))
        mask: Tensor = network.attn_mask
        if masked:
            mask = _without_padding(mask, tokens, int(self.config["heads"]))
        x = network.token_embedding(tokens.ids) + network.positional_embedding
        x = network.ln_final(network.transformer(x, attn_mask=mask.to(x.dtype)))
        pooled = x[torch.arange(len(x), device=device), tokens.last]
        return TextEmbedding(tokens=x, pooled=normalize(pooled, dim=-1))


def _without_padding(causal: Tensor, tokens: Tokens, heads: int) -> Tensor:
    """The causal mask (L, L) with -inf at padding besides, (B · heads, L, L)."""
    places = torch.arange(len(causal), device=causal.device)
    padding = places[None, :] > tokens.last[:, None]
    mask = causal[None].masked_fill(padding[:, None, :], float("-inf"))
    return mask.repeat_interleave(heads, dim=0)


def phrase_tokenizer(vocabulary: int = 4096) -> Tokenizer:
    """A tokenizer learnt from the phrases and the templates that ship with autodir."""
    corpus = load_phrases()
    texts = [phrase for key in (*corpus.keys, UNKNOWN) for phrase in corpus.phrases(key)]
    return learn_tokenizer([*texts, *load_taxonomy().sentences], vocabulary)
