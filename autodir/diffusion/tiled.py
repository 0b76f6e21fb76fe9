"""The autoencoder on photos of any size: tiles, and statistics pooled over all of them.

Apart from the autoencoder, which sees what it is given as a whole. What is coarse, the middle of
the network with its attention, is computed whole here too; what is fine is computed in parts whose
context reaches as far as the convolutions do, so that nothing is blended and nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodir.diffusion.autoencoder import Autoencoder, AutoencoderConfig, PlainNetwork
from autodir.imaging.tiles import Core, assemble, cores, map_cores


def encode_tiled(autoencoder: Autoencoder, image: Tensor, tile: int) -> Tensor:
    """`Autoencoder.encode` in parts of at most ``tile`` pixels: the same latents.

    Args:
        autoencoder: of either kind.
        image: (B, 3, H, W) in [0, 1], sides multiples of the factor.
        tile: largest side of a part in pixels, rounded to the factor; an image within it goes
            through whole.
    """
    factor = autoencoder.factor
    parts = _parts(image, max(tile // factor, 1) * factor, reach(autoencoder.config)[0], factor)
    if len(parts) == 1:
        return autoencoder.encode(image)
    if isinstance(autoencoder.net, PlainNetwork):
        return map_cores(image, autoencoder.encode, parts)
    net: Any = autoencoder.net
    encoder, dtype, patch = net.encoder, autoencoder.dtype, autoencoder.config.patch
    walks = [
        _encoder_steps(
            encoder, functional.pixel_unshuffle(part.outer.crop(image) * 2 - 1, patch).to(dtype)
        )
        for part in parts
    ]
    coarse = encoder.mid_block(assemble(_together(walks, parts), parts, _size(image)))
    moments = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(coarse)))
    if net.quant_conv is not None:
        moments = net.quant_conv(moments)
    latents = moments.float().chunk(2, dim=1)[0]
    if autoencoder.fold is None:
        return latents  # type: ignore[no-any-return]
    squares = functional.pixel_unshuffle(image * 2 - 1, factor).to(autoencoder.dtype)
    return latents + autoencoder.fold(squares).float()  # type: ignore[no-any-return]


def decode_tiled(
    autoencoder: Autoencoder, latents: Tensor, tile: int, clamp: bool = True
) -> Tensor:
    """`Autoencoder.decode` in parts of at most ``tile`` latents: the same pixels.

    Args:
        autoencoder: of either kind.
        latents: unscaled (B, C, h, w).
        tile: largest side of a part in latents.
        clamp: limit the result to [0, 1].
    """
    parts = _parts(latents, max(tile, 1), reach(autoencoder.config)[1], 1)
    if len(parts) == 1:
        return autoencoder.decode(latents, clamp)
    if isinstance(autoencoder.net, PlainNetwork):
        return map_cores(latents, partial(autoencoder.decode, clamp=clamp), parts)
    net: Any = autoencoder.net
    decoder, z = net.decoder, latents.to(autoencoder.dtype)
    coarse = decoder.mid_block(
        decoder.conv_in(z if net.post_quant_conv is None else net.post_quant_conv(z))
    )
    walks = [_decoder_steps(decoder, part.outer.crop(coarse)) for part in parts]
    folded = assemble(_together(walks, parts), parts, _size(latents))
    pixels = functional.pixel_shuffle(folded.float(), autoencoder.config.patch)
    if autoencoder.unfold is not None:
        pixels += functional.pixel_shuffle(autoencoder.unfold(z).float(), autoencoder.factor)
    image = pixels.add_(1).div_(2)
    return image.clamp_(0, 1) if clamp else image


def reach(config: AutoencoderConfig) -> tuple[int, int]:
    """How far the parts that are tiled look: the encoder in pixels, the decoder in latents.

    The sum over all convolutions of their half width, in units of the level each works on.
    """
    levels, layers = len(config.block_out_channels), config.layers_per_block
    last = levels - 1
    if config.kind == "plain":
        # Every level: residual blocks of two convolutions, and one to the next level; the first
        # and the last convolution beside them.
        sides = [2 * layers + (2 if level == last else 1) for level in range(levels)]
        pixels = 1 + sum(count * 2**level for level, count in enumerate(sides))
        latents = 1 + sum(count / 2 ** (last - level) for level, count in enumerate(sides))
        return config.patch * pixels, math.ceil(latents)
    pixels = 1 + sum((2 * layers + (level < last)) * 2**level for level in range(levels))
    up = sum((2 * (layers + 1) + (level < last) / 2) / 2**level for level in range(levels))
    return config.patch * pixels, math.ceil(up + 1 / 2**last)


def _parts(x: Tensor, tile: int, context: int, align: int) -> list[Core]:
    return cores(_size(x), tile, context, align)


def _size(x: Tensor) -> tuple[int, int]:
    return int(x.shape[-2]), int(x.shape[-1])


_Steps = Generator[tuple[nn.GroupNorm, tuple[Tensor, ...]], tuple[Tensor, ...], Tensor]
"""A network on one part: yields each normalization with its input and what else is kept meanwhile;
is sent them back, normalized; returns the result."""


def _encoder_steps(encoder: Any, x: Tensor) -> _Steps:
    x = encoder.conv_in(x)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            x = yield from _resnet_steps(resnet, x)
        for down in block.downsamplers or ():
            x = down(x)
    return x


def _decoder_steps(decoder: Any, x: Tensor) -> _Steps:
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = yield from _resnet_steps(resnet, x)
        for up in block.upsamplers or ():
            x = up(x)
    (x,) = yield decoder.conv_norm_out, (x,)
    pixels: Tensor = decoder.conv_out(decoder.conv_act(x))
    return pixels


def _resnet_steps(resnet: Any, x: Tensor) -> _Steps:
    y, x = yield resnet.norm1, (x, x)
    y = resnet.conv1(resnet.nonlinearity(y))
    y, x = yield resnet.norm2, (y, x)
    y = resnet.conv2(resnet.nonlinearity(y))
    if resnet.conv_shortcut is not None:
        x = resnet.conv_shortcut(x)
    return (x + y) / resnet.output_scale_factor  # type: ignore[no-any-return]


def _together(walks: Sequence[_Steps], parts: Sequence[Core]) -> list[Tensor]:
    """Walk all parts from normalization to normalization, each with the statistics of all.

    Between two of them only one part is on the device; the others wait in the memory of the host.
    """
    results: list[Tensor] = []
    device = torch.device("cpu")
    waiting: list[tuple[nn.GroupNorm, tuple[Tensor, ...]]] = []

    def walk(index: int, tensors: tuple[Tensor, ...] | None) -> None:
        nonlocal device
        try:
            norm, kept = walks[index].send(tensors) if tensors is not None else next(walks[index])
        except StopIteration as stop:
            results.append(stop.value)
            return
        device = kept[0].device
        waiting.append((norm, tuple(tensor.cpu() for tensor in kept)))

    for index in range(len(walks)):
        walk(index, None)
    while waiting:
        paused, waiting = waiting, []
        norm = paused[0][0]
        pooled = _statistics(norm, [kept[0] for _, kept in paused], parts)
        for index, (_, kept) in enumerate(paused):
            first, *others = (tensor.to(device) for tensor in kept)
            paused[index] = (norm, ())  # what has been taken up need not wait any longer
            walk(index, (_normalized(norm, first, pooled), *others))
    return results


def _statistics(
    norm: nn.GroupNorm, values: Sequence[Tensor], parts: Sequence[Core]
) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, G) over all parts.

    Of each part only the core counts, so that every pixel counts once. The variance is
    Σ p (var + mean²) − (Σ p mean)², the spread of the means included.
    """
    seen: list[tuple[Tensor, Tensor, int]] = []
    for value, part in zip(values, parts, strict=True):
        grouped = part.cut(value).double().unflatten(1, (norm.num_groups, -1)).flatten(2, 4)
        variance, mean = torch.var_mean(grouped, dim=2, correction=0)
        seen.append((variance, mean, grouped.shape[2]))
    total = sum(count for _, _, count in seen)
    mean = torch.stack([mean * (count / total) for _, mean, count in seen]).sum(0)
    square = torch.stack([(v + m.square()) * (count / total) for v, m, count in seen]).sum(0)
    variance = square - mean.square()
    return mean.float(), (variance.clamp_min(0) + norm.eps).sqrt().float()


def _normalized(norm: nn.GroupNorm, x: Tensor, pooled: tuple[Tensor, Tensor]) -> Tensor:
    """Group normalization by given statistics."""
    each = norm.num_channels // norm.num_groups
    mean, deviation = (value.to(x.device).repeat_interleave(each, 1) for value in pooled)
    scale = norm.weight.float() / deviation
    shift = norm.bias.float() - mean * scale
    scale, shift = (value[..., None, None].to(x.dtype) for value in (scale, shift))
    return torch.addcmul(shift, x, scale)
