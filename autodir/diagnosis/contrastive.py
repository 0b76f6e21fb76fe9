"""The published head of the diagnosis: CLIP's own cosines, and nothing learnt beside them.

Apart from the trained head, which fuses its views and scores presence on its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.diagnosis.biqa import native_crops, thumbnail


def center_crop(image: Tensor, size: int) -> Tensor:
    """The native center of (B, 3, H, W); a side below ``size`` is centered on black, as published.

    The first row is ⌊(H − size) / 2⌋ where H is larger; where it is smaller, the odd row of black
    lies above.
    """
    top, left = (-((side - size) // 2) for side in image.shape[-2:])
    bottom, right = size - image.shape[-2] - top, size - image.shape[-1] - left
    return F.pad(image, (left, right, top, bottom))


class ContrastiveHead(nn.Module):
    """softmax(exp(logit_scale) · cos(image, prompt)), averaged over the views (AutoDIR §2).

    With one view these are the published scores. With several, logits are log mean p̂, so that a
    softmax over fewer prompts is still what the mean says of them. A degradation is present where
    it is more probable than "no": the presence of one half is the published rule to stop.
    """

    CONFIG: ClassVar[Mapping[str, Any]] = {"kind": "contrastive"}
    measured = False

    def __init__(self) -> None:
        super().__init__()
        self.config = dict(self.CONFIG)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def views(self, image: Tensor, size: int, per_side: int) -> Tensor:
        """(B, 3, H, W) → (B, N, 3, size, size): the center alone, or a grid and the thumbnail."""
        if per_side == 1:
            return center_crop(image, size)[:, None]
        crops = native_crops(image, size, per_side)
        return torch.cat([crops, thumbnail(image, size)[:, None]], dim=1)

    def measures(self, images: Tensor) -> Tensor:
        """None: (B, 3, H, W) → (B, 0)."""
        return images.new_zeros(len(images), 0)

    def judge(
        self, features: Tensor, prompts: Tensor, clean: int, measures: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features of the views → logits over the prompts and presence logits.

        Args:
            features: (B, N, E), not normalized.
            prompts: (P, E), normalized.
            clean: index of "no" among the prompts.
            measures: not used; the published head knows none.

        Returns:
            (B, P) log probabilities; (B, P − 1) log odds against "no".
        """
        cosines = F.normalize(features.float(), dim=-1) @ prompts.T
        each = (self.logit_scale.exp() * cosines).log_softmax(-1)
        logits = each.logsumexp(1) - math.log(each.shape[1])
        others = torch.cat([logits[:, :clean], logits[:, clean + 1 :]], dim=1)
        return logits, others - logits[:, clean : clean + 1]
