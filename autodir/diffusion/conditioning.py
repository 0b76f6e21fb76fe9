"""What the denoiser is told: phrases mixed by probability, and the null of every condition.

Apart from the networks, so that inference and training mix, cache and drop in the very same way.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from autodir.errors import ContractError
from autodir.records import Conditioning, Mixture, TextEmbedding

NULL_PHRASE = ""


class TextEncoder(Protocol):
    """The one thing that conditioning needs of CLIP."""

    def encode_text(self, phrases: Sequence[str], masked: bool = True) -> TextEmbedding:
        """One row of tokens (P, L, D) and pooled (P, E) for each phrase.

        Padded positions see each other unless ``masked``.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PhotoConditioning(Conditioning):
    """A conditioning that also knows how its photo was brought to the networks' size.

    Attributes:
        size: (height, width) of the photo.
        working_size: (height, width) of the copy the latents were made from, before padding.
        pixels: that copy after padding, (B, 3, H, W) in [0, 1].
    """

    size: tuple[int, int]
    working_size: tuple[int, int]
    pixels: Tensor


class PhraseEncoder:
    """Embeddings of phrases, the latest ones remembered: prompts come back for every photo.

    Args:
        encoder: what encodes a phrase.
        capacity: number of phrases kept; the one unused for longest goes first.
    """

    def __init__(self, encoder: TextEncoder, capacity: int = 256) -> None:
        if capacity < 1:
            raise ContractError(f"capacity must be at least 1, got {capacity}")
        self._encoder = encoder
        self._capacity = capacity
        self._rows: OrderedDict[tuple[str, bool], TextEmbedding] = OrderedDict()

    def encode(self, phrases: Sequence[str], masked: bool = True) -> TextEmbedding:
        """Embeddings of ``phrases``, tokens (P, L, D), in their order and without gradient.

        Those not remembered are encoded in one call, with or without the mask over the padding.

        Raises:
            ContractError: there is no phrase.
        """
        if not phrases:
            raise ContractError("there is no phrase to encode")
        keys = [(phrase, masked) for phrase in phrases]
        missing = [key for key in dict.fromkeys(keys) if key not in self._rows]
        if missing:
            with torch.no_grad():
                encoded = self._encoder.encode_text([phrase for phrase, _ in missing], masked)
            for index, key in enumerate(missing):
                self._rows[key] = row(encoded, index)
        for key in keys:
            self._rows.move_to_end(key)
        result = stack([self._rows[key] for key in keys])
        while len(self._rows) > self._capacity:
            self._rows.popitem(last=False)
        return result

    def mixture(self, mixture: Mixture, masked: bool = True) -> TextEmbedding:
        """The one-row embedding of a mixture; phrases of weight zero are not even encoded."""
        pairs = [(p, w) for p, w in zip(mixture.phrases, mixture.weights, strict=True) if w > 0]
        return mix(
            self.encode([phrase for phrase, _ in pairs], masked),
            torch.tensor([weight for _, weight in pairs]),
        )

    def clear(self) -> None:
        """Forget everything: the encoder's weights or device have changed."""
        self._rows.clear()


def mix(embeddings: TextEmbedding, weights: Tensor) -> TextEmbedding:
    """Weighted sums of phrases, e = Σ p_i·E_T(T_i) (arXiv:2310.10123), tokens and pooled alike.

    Args:
        embeddings: P phrases, tokens (P, L, D), pooled (P, E).
        weights: (P,), or (B, P) for B mixtures of the same phrases; used as given, not normalized.

    Returns:
        One row, or B rows.

    Raises:
        ContractError: the weights do not fit the phrases.
    """
    count = embeddings.tokens.shape[0]
    if weights.ndim not in (1, 2) or weights.shape[-1] != count:
        raise ContractError(
            f"weights must be ({count},) or (B, {count}), got {tuple(weights.shape)}"
        )
    rows = weights.reshape(-1, count).to(embeddings.tokens)
    return TextEmbedding(
        tokens=torch.einsum("bp,pld->bld", rows, embeddings.tokens),
        pooled=torch.einsum("bp,pe->be", rows.to(embeddings.pooled), embeddings.pooled),
    )


def drop(cond: Conditioning, text: Tensor, image: Tensor) -> Conditioning:
    """A training batch with some conditions replaced by their null, so that guidance works later.

    Args:
        cond: B rows; ``null_text`` may have one row.
        text: bool (B,), True where the null prompt takes the instruction's place.
        image: bool (B,), True where the image latents become zero.
    """
    tokens, pooled = cond.text.tokens, cond.text.pooled
    kept = torch.where(
        image.to(cond.image_latents.device).view(-1, 1, 1, 1), 0.0, cond.image_latents
    )
    return Conditioning(
        text=TextEmbedding(
            tokens=torch.where(
                text.to(tokens.device).view(-1, 1, 1), cond.null_text.tokens.to(tokens), tokens
            ),
            pooled=torch.where(
                text.to(pooled.device).view(-1, 1), cond.null_text.pooled.to(pooled), pooled
            ),
        ),
        null_text=cond.null_text,
        image_latents=kept.to(cond.image_latents.dtype),
    )


def concatenate(conditions: Sequence[Conditioning], batch: int) -> Conditioning:
    """Several conditionings as one batch; those of one row are repeated ``batch`` times first."""
    return Conditioning(
        text=stack([repeat(cond.text, batch) for cond in conditions]),
        null_text=stack([repeat(cond.null_text, batch) for cond in conditions]),
        image_latents=torch.cat(
            [cond.image_latents.expand(batch, -1, -1, -1) for cond in conditions]
        ),
    )


def row(embedding: TextEmbedding, index: int) -> TextEmbedding:
    """One phrase of several, still with a batch axis."""
    return TextEmbedding(
        tokens=embedding.tokens[index : index + 1], pooled=embedding.pooled[index : index + 1]
    )


def stack(embeddings: Sequence[TextEmbedding]) -> TextEmbedding:
    """The rows of all embeddings, one after the other."""
    return TextEmbedding(
        tokens=torch.cat([embedding.tokens for embedding in embeddings]),
        pooled=torch.cat([embedding.pooled for embedding in embeddings]),
    )


def repeat(embedding: TextEmbedding, batch: int) -> TextEmbedding:
    """One row for a whole batch; an embedding of ``batch`` rows stays as it is."""
    return TextEmbedding(
        tokens=embedding.tokens.expand(batch, -1, -1), pooled=embedding.pooled.expand(batch, -1)
    )
