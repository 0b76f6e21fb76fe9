"""Training batches: synthetic degradations of the photo pool, with real pairs mixed in.

Apart from the pools, because here stands what share each kind of sample has.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autodir.imaging.color import luma
from autodir.prompts import Taxonomy
from autodir.synthesis.codec import jpeg
from autodir.synthesis.recipe import SECOND_ORDER_KEY, draw_batch
from autodir.synthesis.second_order import degrade_second_order
from autodir.training.data import SCALE, PairPool, PhotoPool

logger = logging.getLogger(__name__)

REAL_SHARE: Mapping[str, float] = {
    "noise": 0.3,
    "blur": 0.3,
    "rain": 0.15,
    "underexposure": 0.6,
    "haze": 0.3,
    "low_resolution": 0.2,
}
"""Of the samples whose degradation has real pairs, the share that is replaced by one."""
BLIND = ("realesrgan", "stablesr", "resshift")
"""Chains of degradation (`autodir.synthesis.second_order`) that take turns with plain shrinking for
photos of low resolution; half of the batches know them, unless one is asked for."""

AS_FILES = 0.35
"""Share of the photos, clean or not, that went through a file as cameras and web sites write it."""
FILE_QUALITY = (84, 98)
"""JPEG quality of those, too good to count as compression."""
GRAY = 0.1
"""Share of the photos, clean or not, without color."""


def least_severity(limits: tuple[float, float, float], progress: float) -> float:
    """The smallest severity at some share of the budget: plain cases come first.

    Args:
        limits: the figure at the start, the share of the budget in which it sinks, the last figure.
        progress: share of the budget that is spent.
    """
    first, sinking, last = limits
    return max(last, first * (1 - progress / sinking))


def as_found(photos: Tensor, generator: torch.Generator) -> Tensor:
    """Photos (B, 3, H, W) in [0, 1] as people have them: some gray, some from a good JPEG file."""
    dice = torch.rand(2, len(photos), generator=generator)
    encoded = (dice[1] < AS_FILES).nonzero().flatten().tolist()
    qualities = torch.randint(*FILE_QUALITY, (len(encoded),), generator=generator).tolist()
    seen = torch.where((dice[0] < GRAY).view(-1, 1, 1, 1).to(photos.device), luma(photos), photos)
    for index, quality in zip(encoded, qualities, strict=True):
        seen[index] = jpeg(seen[index], quality)
    return seen


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One batch.

    Attributes:
        degraded, target: (B, 3, H, W) in [0, 1]; the target lacks ONE degradation of the input, the
            main one.
        label: (B,) softmax index of the main degradation, or of "no".
        presence: (B, K) 0/1 over the degradations, "no" excluded.
    """

    degraded: Tensor
    target: Tensor
    label: Tensor
    presence: Tensor

    def to(self, device: torch.device) -> Drawn:
        """The same batch on another device."""
        return Drawn(
            degraded=self.degraded.to(device), target=self.target.to(device),
            label=self.label.to(device), presence=self.presence.to(device),
        )  # fmt: skip


class Batches:
    """Draws batches for every stage.

    Args:
        photos: clean photos.
        pairs: real pairs, possibly none.
        taxonomy: the labels, in softmax order.
        device: where the degradations are computed and the batches lie.
        share: shares of one degradation, of several, of clean photos.
        emphasis: factor on how often a degradation comes alone.
        chain: a key of `autodir.synthesis.second_order.RECIPES`, which degrades the samples of low
            resolution alone in place of the usual operator.
        turned: turn photos on their sides and heads too, before they are degraded.
    """

    def __init__(
        self,
        photos: PhotoPool,
        pairs: PairPool,
        taxonomy: Taxonomy,
        *,
        device: torch.device | None = None,
        share: tuple[float, float, float] = (0.6, 0.3, 0.1),
        emphasis: Mapping[str, float] | None = None,
        chain: str | None = None,
        turned: bool = True,
    ) -> None:
        self.photos, self.pairs, self.taxonomy = photos, pairs, taxonomy
        self.device, self.share = device or torch.device("cpu"), share
        self.emphasis, self.chain, self.turned = emphasis, chain, turned
        self.keys = tuple(degradation.key for degradation in taxonomy)

    def with_share(
        self, share: tuple[float, float, float], emphasis: Mapping[str, float] | None = None
    ) -> Batches:
        """The same photos and pairs in other shares."""
        other = copy.copy(self)
        other.share, other.emphasis = share, emphasis
        return other

    def alone(self, key: str) -> Batches:
        """The same photos and pairs with one degradation and nothing else."""
        return self.with_share((1.0, 0.0, 0.0), {one: float(one == key) for one in self.keys})

    def with_chain(self, chain: str | None) -> Batches:
        """The same photos, pairs and shares, low resolution degraded by another chain."""
        other = copy.copy(self)
        other.chain = chain
        return other

    def upright(self) -> Batches:
        """The same photos, pairs and shares, no photo turned on its side."""
        other = copy.copy(self)
        other.turned = False
        return other

    def with_blind(self) -> list[Batches]:
        """Sources to choose from for each batch: half of them as they are, half with blind chains.

        Where a chain was chosen already, it is the only one.
        """
        if self.chain is not None:
            return [self]
        return [self] * len(BLIND) + [self.with_chain(chain) for chain in BLIND]

    def draw(
        self,
        count: int,
        size: int,
        generator: torch.Generator,
        *,
        scale: tuple[float, float] = SCALE,
        least: float = 0.0,
    ) -> Drawn:
        """A mixed batch of ``count`` crops of ``size`` pixels, of severity ``least`` or more."""
        clean = self.photos.crops(count, size, generator, scale=scale, upright=not self.turned)
        clean = clean.to(self.device)
        batch = draw_batch(
            clean, generator, keys=self.keys, share=self.share, least=least, emphasis=self.emphasis
        )
        softmax_index = torch.tensor(
            [self.taxonomy.index(key) for key in (*self.keys, self.taxonomy.clean)]
        )
        drawn = Drawn(
            degraded=batch.degraded, target=batch.target,
            label=softmax_index.to(self.device)[batch.label], presence=batch.presence.float(),
        )  # fmt: skip
        if self.chain is not None:
            self._chained(drawn, clean, self.chain, generator)
        return self._with_real(drawn, size, generator)

    def _chained(self, drawn: Drawn, clean: Tensor, chain: str, generator: torch.Generator) -> None:
        """Degrade the samples of low resolution alone by a published chain, in place."""
        of_kind = drawn.label == self.taxonomy.index(SECOND_ORDER_KEY)
        rows = (of_kind & (drawn.presence.sum(1) == 1)).nonzero().flatten()
        if len(rows):
            drawn.degraded[rows], _ = degrade_second_order(clean[rows], generator, chain)
            drawn.target[rows] = clean[rows]

    def _with_real(self, drawn: Drawn, size: int, generator: torch.Generator) -> Drawn:
        """Replace some samples of a single degradation by real pairs of the same one."""
        chosen: list[tuple[int, str]] = []
        dice = torch.rand(len(drawn.label), generator=generator).tolist()
        for index, label in enumerate(drawn.label.tolist()):
            key = self.taxonomy.keys[label]
            single = int(drawn.presence[index].sum()) == 1
            if single and key in self.pairs.keys and dice[index] < REAL_SHARE.get(key, 0.2):
                chosen.append((index, key))
        if chosen:
            degraded, target = self.pairs.crops(
                [key for _, key in chosen], size, generator, upright=not self.turned
            )
            rows = torch.tensor([index for index, _ in chosen])
            drawn.degraded[rows] = degraded.to(self.device)
            drawn.target[rows] = target.to(self.device)
        return drawn
