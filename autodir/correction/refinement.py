"""Experts behind the NAFNet: dense residual convolutions, each for one degradation.

Apart from the NAFNet, which is one network for everything: noise and block edges are learnt in
minutes by plain 3 × 3 convolutions at half the resolution (EDSR, arXiv:1707.02921; FFDNet,
arXiv:1710.04026) that nothing else disturbs, and hardly in hours by one that also knows haze.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.correction.experts import Experts

STEP = 2
"""Space-to-depth factor: four pixels of the photo in one of the features."""
EXPERTS = ("noise", "compression", "low_resolution", "underexposure", "rain")
"""The degradations that have one by default: those that it learns within minutes."""
_DEEP = (1, 1, 2, 2, 1, 4, 4, 1)
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "noise": {"dilations": [*_DEEP, 2, 1, 2, 1]},
    "low_resolution": {"dilations": [*_DEEP]},
    "rain": {"dilations": [*_DEEP, 4, 1, 4, 1]},
}
"""Experts that are deeper than the others: bands of rain are wide, what was enlarged has pixels as
large as the factor, and what noise hides is told by what lies farther off."""

_CENTER, _SPREAD = 0.45, 4.0
_RESIDUAL = 0.3
"""Of the second convolutions at the start: what blocks add grows slowly."""
_OUTPUT = 0.25


class ExpertBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut.

    Args:
        width: channels.
        dilation: of the first convolution.
    """

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():
            self.conv2.weight.mul_(_RESIDUAL)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) → the same shape."""
        result: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return result


class Expert(nn.Module):
    """A residual on what the NAFNet made of one degradation.

    With C = I_sd + R of the NAFNet it is g · (I - C) + s · (I_sd - C) + d, where maps g, s (1
    channel each) and d (3 channels) come from the convolutions: for noise the photo is a better
    beginning than what was made of it. A fresh one adds nothing. No statistics are taken over the
    photo, so that a tile is computed as the whole, its border of `reach` pixels apart.

    Args:
        width: channels.
        dilations: one block for each.
    """

    def __init__(self, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.intro = nn.Conv2d(9 * STEP**2, width, 3, padding=1)
        self.body = nn.Sequential(*(ExpertBlock(width, dilation) for dilation in dilations))
        self.ending = nn.Conv2d(width, 5 * STEP**2, 3, padding=1)
        for parameter in self.ending.parameters():
            nn.init.zeros_(parameter)
        self.reach = STEP * (2 + sum(1 + dilation for dilation in dilations)) + STEP
        """Pixels of the photo that one pixel of the result looks away."""

    def forward(self, degraded: Tensor, restored: Tensor, corrected: Tensor) -> Tensor:
        """I, I_sd and C, (B, 3, H, W) in [0, 1] each → the residual on C, float32; any H, W ≥ 1."""
        height, width = degraded.shape[-2:]
        seen = torch.cat([degraded, restored, corrected], dim=1)
        seen = (seen.to(self.intro.weight.dtype) - _CENTER) * _SPREAD
        seen = F.pad(seen, (0, -width % STEP, 0, -height % STEP), mode="replicate")
        first = self.intro(F.pixel_unshuffle(seen, STEP))
        raw = self.ending(first + self.body(first)).float()
        raw = _OUTPUT * F.pixel_shuffle(raw, STEP)[..., :height, :width]
        offset, of_photo, of_sample = raw.split((3, 1, 1), dim=1)
        residual: Tensor = (
            offset + of_photo * (degraded - corrected) + of_sample * (restored - corrected)
        )
        return residual


class Refinement(Experts):
    """The experts of pixels, and the gate that says how much of each is asked for.

    Args:
        embed_dim: width of the instruction vector.
        experts: the degradations that have one.
        width: channels of each expert.
        dilations: blocks of each expert.
        shapes: width or dilations of those that have others.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        experts: Sequence[str] = EXPERTS,
        width: int = 48,
        dilations: Sequence[int] = (1, 1, 2, 2, 1),
        shapes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        shape: dict[str, Any] = {"width": width, "dilations": list(dilations)}
        if shapes:
            shape["shapes"] = {key: dict(own) for key, own in shapes.items()}
        super().__init__(embed_dim, experts, shape)

    def fresh(self, key: str) -> Expert:
        """An expert of fresh weights for a degradation, which adds nothing."""
        common = {name: self.config[name] for name in ("width", "dilations")}
        return Expert(**{**common, **self.config.get("shapes", {}).get(key, {})})

    @property
    def reach(self) -> int:
        """Pixels of the photo that one pixel of the result looks away."""
        experts = self.experts.values()
        return max((one.reach for one in experts if isinstance(one, Expert)), default=0)

    def forward(
        self, degraded: Tensor, restored: Tensor, corrected: Tensor, instruction: Tensor
    ) -> Tensor:
        """The residual (B, 3, H, W), float32, to be added to ``corrected``; any H, W ≥ 1.

        Args:
            degraded: I, (B, 3, H, W) in [0, 1].
            restored: I_sd, what the diffusion made of it, the same shape.
            corrected: I_sd + R of the NAFNet, the same shape, near [0, 1].
            instruction: pooled text embedding (B, embed_dim).

        Raises:
            ContractError: the instruction is of another width.
        """
        total = torch.zeros_like(corrected, dtype=torch.float32)
        for expert, share in self.asked(instruction):
            total = total + share[:, None, None, None] * expert(degraded, restored, corrected)
        return total
