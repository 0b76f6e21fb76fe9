"""NAFNet (arXiv:2204.04676): a U-shaped restoration network without activation functions.

Apart from the SCM because the benchmarks also time the published network as a yardstick. Parameter
names are those of the published checkpoints, so that weights can be converted by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from autodir.errors import ContractError


class LayerNorm2d(nn.LayerNorm):
    """Layer normalization over the channels of (B, C, H, W), biased variance, eps 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each pixel's channel vector."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SimpleGate(nn.Module):
    """Multiply the two halves of the channels: (B, 2C, H, W) → (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Gate one half by the other."""
        left, right = x.chunk(2, dim=1)
        return left * right


def pool_statistics(x: Tensor, window: int) -> tuple[Tensor, int]:
    """Channel means of (B, C, H, W): global, or of neighborhoods on maps larger than ``window``.

    A network trained on small crops has only met statistics of small crops; on a whole photo it
    should meet the same (TLC, arXiv:2112.04491). Means of quarter-window cells are averaged 4 × 4,
    which costs one pass over the map whatever the window.

    Args:
        window: side in pixels of this map; 0 means always global.

    Returns:
        Means (B, C, 1, 1) and 0; or (B, C, m, n) and the side of a cell, for `spread`.
    """
    height, width = x.shape[-2:]
    if window <= 0 or (height <= window and width <= window):
        return x.mean((2, 3), keepdim=True), 0
    cell = cell_side(window)
    cells = F.avg_pool2d(x, cell, cell, ceil_mode=True, count_include_pad=False)
    side = (min(4, cells.shape[-2]), min(4, cells.shape[-1]))
    return F.avg_pool2d(cells, side, 1), cell


def cell_side(window: int) -> int:
    """Side of the cells that the statistics of a window are made of."""
    return max(1, window // 4)


def spread(values: Tensor, cell: int, size: tuple[int, int]) -> Tensor:
    """Values of neighborhoods to each pixel (B, C, H, W), interpolated between their middles.

    A pixel gets what its own neighborhood says wherever the map begins: a window of a photo that
    starts at a multiple of ``cell`` gives the same as the whole photo, half a neighborhood away
    from its borders.
    """
    height, width = (-(-side // cell) for side in size)
    down, across = height + 1 - values.shape[-2], width + 1 - values.shape[-1]
    borders = (across // 2, across - across // 2, down // 2, down - down // 2)
    at_corners = F.pad(values, borders, mode="replicate")
    whole = (height * cell + 1, width * cell + 1)
    result = F.interpolate(at_corners, whole, mode="bilinear", align_corners=True)
    return result[..., : size[0], : size[1]]


class ChannelAttention(nn.Sequential):
    """Simplified channel attention: the input times a 1×1 convolution of its pooled statistics."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Identity(), nn.Conv2d(channels, channels, 1))
        self.window = 0

    def forward(self, x: Tensor) -> Tensor:
        """Weigh each channel by its statistics."""
        means, cell = pool_statistics(x, self.window)
        weights: Tensor = self[1](means)  # before it is spread: the order makes no difference
        return x * (spread(weights, cell, (x.shape[-2], x.shape[-1])) if cell else weights)


class NAFBlock(nn.Module):
    """One block of two residual halves; an instruction may modulate it (FiLM, arXiv:1709.07871).

    Args:
        channels: C.
        embed_dim: width of the instruction vector; 0 builds the published block.
    """

    def __init__(self, channels: int, embed_dim: int = 0) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm2d(channels), LayerNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.sca = ChannelAttention(channels)
        self.gate = SimpleGate()
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.film = nn.Linear(embed_dim, 4 * channels) if embed_dim else None
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, instruction: Tensor | None = None) -> Tensor:
        """(B, C, H, W) → the same shape; ``instruction`` is (B, embed_dim)."""
        first, second = self.norm1(x), None
        if self.film is not None and instruction is not None:
            scale1, shift1, scale2, shift2 = self.film(instruction)[..., None, None].chunk(4, dim=1)
            first, second = _modulated(first, scale1, shift1), (scale2, shift2)
        y = self.sca(self.gate(self.conv2(self.conv1(first))))
        x = x + _scaled(self.conv3, y, self.beta)
        inner = self.norm2(x)
        if second is not None:
            inner = _modulated(inner, *second)
        return x + _scaled(self.conv5, self.gate(self.conv4(inner)), self.gamma)


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """One pass over the map: x · (1 + scale) + shift."""
    return torch.addcmul(shift.to(x), x, 1 + scale.to(x))


def _scaled(convolution: nn.Conv2d, x: Tensor, scale: Tensor) -> Tensor:
    """A 1×1 convolution times ``scale`` (1, C, 1, 1): the weights are scaled, not the map."""
    assert convolution.bias is not None
    column = scale.view(-1, 1, 1, 1)
    return F.conv2d(x, convolution.weight * column, convolution.bias * column.flatten())


class NAFNet(nn.Module):
    """The U-shaped network, on pixels or on a pixel-unshuffled copy.

    Args:
        img_channel: channels in.
        out_channel: channels out; the published network has as many as it is given, or 3.
        width: channels of the first level; each level doubles them.
        middle_blk_num, enc_blk_nums, dec_blk_nums: blocks of each part, as published.
        unshuffle: space-to-depth factor before the first convolution; 1 is the published network.
        embed_dim: width of the instruction vector that modulates each block; 0 for none.
        train_size: side in pixels above which statistics are local: that of the training crops, or
            more where it serves better. 0: always global.
    """

    def __init__(  # noqa: PLR0913 - the published names
        self,
        *,
        img_channel: int = 3,
        out_channel: int = 3,
        width: int = 32,
        middle_blk_num: int = 1,
        enc_blk_nums: Sequence[int] = (1, 1, 1, 1),
        dec_blk_nums: Sequence[int] = (1, 1, 1, 1),
        unshuffle: int = 1,
        embed_dim: int = 0,
        train_size: int = 0,
    ) -> None:
        super().__init__()
        if len(enc_blk_nums) != len(dec_blk_nums):
            raise ContractError("NAFNet needs as many decoder levels as encoder levels")
        self.unshuffle, self.embed_dim = unshuffle, embed_dim
        self.multiple = unshuffle * 2 ** len(enc_blk_nums)
        inner = 64 if embed_dim else 0
        self.instruct = nn.Sequential(nn.Linear(embed_dim, inner), nn.SiLU()) if embed_dim else None
        self.intro = nn.Conv2d(img_channel * unshuffle**2, width, 3, padding=1)
        self.ending = nn.Conv2d(width, out_channel * unshuffle**2, 3, padding=1)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        self.decoders, self.ups = nn.ModuleList(), nn.ModuleList()
        channels = width
        for count in enc_blk_nums:
            self.encoders.append(nn.ModuleList(NAFBlock(channels, inner) for _ in range(count)))
            self.downs.append(nn.Conv2d(channels, 2 * channels, 2, 2))
            channels *= 2
        self.middle_blks = nn.ModuleList(NAFBlock(channels, inner) for _ in range(middle_blk_num))
        for count in dec_blk_nums:
            up = nn.Conv2d(channels, 2 * channels, 1, bias=False)
            self.ups.append(nn.Sequential(up, nn.PixelShuffle(2)))
            channels //= 2
            self.decoders.append(nn.ModuleList(NAFBlock(channels, inner) for _ in range(count)))
        self.train_size, self.checkpointing = train_size, False
        self._set_windows(train_size)

    def grid(self, window: int) -> int:
        """Pixels at whose multiples windows of a photo must start to meet the photo's own cells."""
        sides = [self.multiple]
        for level in range(len(self.encoders) + 1):
            sides.append(self.unshuffle * 2**level * cell_side(window // self.unshuffle >> level))
        return math.lcm(*sides)

    @contextmanager
    def local_statistics(self, window: int) -> Iterator[None]:
        """Let the statistics be those of ``window`` pixels, whatever the training crops were."""
        self._set_windows(window)
        try:
            yield
        finally:
            self._set_windows(self.train_size)

    def _set_windows(self, window: int) -> None:
        size = window // self.unshuffle
        depth = len(self.encoders)
        levels = [*range(depth), depth, *reversed(range(depth))]
        stages = [*self.encoders, self.middle_blks, *self.decoders]
        for blocks, level in zip(stages, levels, strict=True):
            for module in blocks.modules():
                if isinstance(module, ChannelAttention):
                    module.window = size >> level

    def forward(self, image: Tensor, instruction: Tensor | None = None) -> Tensor:
        """(B, img_channel, H, W) → (B, out_channel, H, W) for any H, W ≥ 1.

        ``instruction`` is (B, embed_dim).

        Raises:
            ContractError: the network is instructed and ``instruction`` is missing or of another
                width.
        """
        if self.embed_dim and (instruction is None or instruction.shape[-1] != self.embed_dim):
            raise ContractError(f"this NAFNet needs an instruction (B, {self.embed_dim})")
        height, width = image.shape[-2:]
        x = F.pad(image, (0, -width % self.multiple, 0, -height % self.multiple))
        hint = self.instruct(instruction) if self.instruct is not None else None
        x = self.intro(F.pixel_unshuffle(x, self.unshuffle) if self.unshuffle > 1 else x)
        skips = []
        for blocks, down in zip(self.encoders, self.downs, strict=True):
            x = self._through(blocks, x, hint)
            skips.append(x)
            x = down(x)
        x = self._through(self.middle_blks, x, hint)
        for blocks, up in zip(self.decoders, self.ups, strict=True):
            x = self._through(blocks, up(x) + skips.pop(), hint)
        x = self.ending(x)
        x = F.pixel_shuffle(x, self.unshuffle) if self.unshuffle > 1 else x
        return x[..., :height, :width]

    def _through(self, blocks: nn.Module, x: Tensor, hint: Tensor | None) -> Tensor:
        """Apply the blocks of one stage, one after the other; recompute them where asked to."""
        for block in blocks.children():
            if self.checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, hint, use_reentrant=False)
            else:
                x = block(x, hint)
        return x
