"""Dense residual convolutions behind the NAFNet: what is local is repaired pixel by pixel.

Apart from the NAFNet, whose depthwise layers and gates learn tone, veils and what is far apart, but
noise, block edges and thin streaks so slowly that hours are not enough: plain 3 × 3 convolutions at
half the resolution (EDSR, arXiv:1707.02921; FFDNet, arXiv:1710.04026) learn those in minutes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodir.errors import ContractError

STEP = 2
"""Space-to-depth factor: four pixels of the photo in one of the features."""

_CENTER, _SPREAD = 0.45, 4.0
_RESIDUAL = 0.3
"""Of the second convolutions at the start: what blocks add grows slowly."""
_OUTPUT, _SHARE = 0.25, 2.5


class RefinementBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut; an instruction modulates what is between them.

    Args:
        width: channels.
        dilation: of the first convolution.
        hint: width of the instruction as the network hands it on.
    """

    def __init__(self, width: int, dilation: int, hint: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(hint, 2 * width)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        with torch.no_grad():
            self.conv2.weight.mul_(_RESIDUAL)

    def forward(self, x: Tensor, hint: Tensor) -> Tensor:
        """(B, width, h, w) and (B, hint) → (B, width, h, w)."""
        scale, shift = self.film(hint)[..., None, None].chunk(2, dim=1)
        inner = torch.addcmul(shift.to(x), F.relu(self.conv1(x)), 1 + scale.to(x))
        return x + self.conv2(inner)


class Refinement(nn.Module):
    """A residual on what the NAFNet made, from the photo, the diffusion's image and that.

    With C = I_sd + R of the NAFNet it is g · (I - C) + s · (I_sd - C) + d, where maps g, s (1
    channel each) and d (3 channels) come from the convolutions, and the instruction adds a constant
    to g and s: for noise the photo is the better beginning, for haze what was made of it. A fresh
    one adds nothing. No statistics are taken over the photo, so that a tile is computed
    as the whole, its border of `reach` pixels apart.

    Args:
        embed_dim: width of the instruction vector.
        width: channels.
        dilations: one block for each.
        hint: width that the instruction is reduced to.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        width: int = 64,
        dilations: Sequence[int] = (1, 1, 2, 4, 2, 1),
        hint: int = 24,
    ) -> None:
        super().__init__()
        self.config = {
            "embed_dim": embed_dim, "width": width, "dilations": list(dilations), "hint": hint,
        }  # fmt: skip
        self.embed_dim = embed_dim
        self.instruct = nn.Sequential(nn.Linear(embed_dim, hint), nn.SiLU())
        self.intro = nn.Conv2d(9 * STEP**2, width, 3, padding=1)
        self.body = nn.ModuleList(RefinementBlock(width, d, hint) for d in dilations)
        self.ending = nn.Conv2d(width, 5 * STEP**2, 3, padding=1)
        self.shares = nn.Linear(hint, 2)
        for parameter in (*self.ending.parameters(), *self.shares.parameters()):
            nn.init.zeros_(parameter)

    @property
    def reach(self) -> int:
        """Pixels of the photo that one pixel of the result looks away."""
        return STEP * (2 + sum(1 + int(d) for d in self.config["dilations"])) + STEP

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
        if instruction.shape[-1] != self.embed_dim:
            raise ContractError(f"this refinement needs an instruction (B, {self.embed_dim})")
        height, width = degraded.shape[-2:]
        seen = torch.cat([degraded, restored, corrected], dim=1)
        seen = (seen.to(self.intro.weight.dtype) - _CENTER) * _SPREAD
        seen = F.pad(seen, (0, -width % STEP, 0, -height % STEP), mode="replicate")
        # Embeddings have a norm of one: a layer of usual weights would hardly notice them.
        hint = self.instruct(instruction.to(seen.dtype) * self.embed_dim**0.5)
        first = x = self.intro(F.pixel_unshuffle(seen, STEP))
        for block in self.body:
            x = block(x, hint)
        raw = F.pixel_shuffle(self.ending(first + x).float(), STEP)[..., :height, :width]
        offset, shares = (_OUTPUT * raw).split((3, 2), dim=1)
        shares = shares + _SHARE * self.shares(hint).float()[..., None, None]
        of_photo, of_sample = shares.split(1, dim=1)
        residual: Tensor = offset + of_photo * (degraded - corrected)
        return residual + of_sample * (restored - corrected)
