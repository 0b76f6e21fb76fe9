"""Samples that are trained on more than once, since making them costs more than a step.

Apart from the batches, which are always new: here lies what the frozen parts made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

CAPACITY = 1280
"""Samples that are kept; 128 pixels wide they fill 0.4 GB in half precision."""
FIRST = 12
"""Batches that are made before the first step."""


class Replay:
    """A store of samples: a new batch now and then, each step a random draw, turned and flipped.

    Args:
        make: a new batch: tensors of equal length, images (B, 3, S, S) and vectors (B, E).
        every: steps for each new batch; 1 makes one for each step and keeps none.
        batch: samples in a step.
        capacity: samples kept; a new batch then replaces random ones.
    """

    def __init__(
        self,
        make: Callable[[torch.Generator, float], Sequence[Tensor]],
        *,
        every: int,
        batch: int,
        capacity: int = CAPACITY,
    ) -> None:
        self.make, self.every, self.batch = make, every, batch
        self.capacity = max(capacity, batch)
        self._kept: list[Tensor] = []
        self._steps = 0

    def __len__(self) -> int:
        return len(self._kept[0]) if self._kept else 0

    def draw(self, generator: torch.Generator, progress: float) -> list[Tensor]:
        """The samples of one step, in float32."""
        if self.every <= 1:
            return [part.float() for part in self.make(generator, progress)]
        missing = FIRST if not self._kept else int(self._steps % self.every == 0)
        for _ in range(missing):
            self._add(self.make(generator, progress), generator)
        self._steps += 1
        device = self._kept[0].device
        rows = torch.randint(len(self), (self.batch,), generator=generator).to(device)
        turn = int(torch.randint(8, (), generator=generator))
        drawn = [part[rows].float() for part in self._kept]
        return [turned(part, turn) if part.ndim == 4 else part for part in drawn]

    def _add(self, batch: Sequence[Tensor], generator: torch.Generator) -> None:
        new = [part.half() if part.ndim == 4 else part for part in batch]
        if not self._kept:
            self._kept = new
        elif len(self) < self.capacity:
            with torch.autocast(new[0].device.type, enabled=False):  # it knows no float16 on CPU
                self._kept = [torch.cat(both) for both in zip(self._kept, new, strict=True)]
        else:
            rows = torch.randperm(len(self), generator=generator)[: len(new[0])]
            for kept, part in zip(self._kept, new, strict=True):
                kept[rows.to(kept.device)] = part


def turned(images: Tensor, choice: int) -> Tensor:
    """One of the eight flips and turns of square images (..., S, S)."""
    if choice & 1:
        images = images.flip(-1)
    if choice & 2:
        images = images.flip(-2)
    return (images.transpose(-1, -2) if choice & 4 else images).contiguous()
