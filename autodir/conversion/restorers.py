"""Which tensors of StableSR's and DiffBIR's checkpoints make each of ours: their key tables.

Apart from AutoDIR's, with which they share the names of Stable Diffusion's U-Net and autoencoder.
"""

from __future__ import annotations

import re

from autodir.conversion.keys import (
    IGNORED,
    LAYERS,
    RESIDUAL,
    Origin,
    autoencoder_origin,
    renamed,
    unet_name,
)

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT = "cond_stage_model.model."
STRUCTURE = "structcond_stage_model."
CONTROL = "control_model."
CFW = "cfw."
"""Given to all names of StableSR's second file, which repeats those of an autoencoder."""
STAGE1 = "preprocess_model."
PREFIXES = (UNET, VAE, TEXT, STRUCTURE, CONTROL, CFW)

PASSED_OVER = {
    **{reason: pattern for reason, pattern in IGNORED.items() if reason != "unused text encoder"},
    "last layer of the text tower, not read": re.compile(
        r"cond_stage_model\.model\.(transformer\.resblocks\.23\..*|text_projection|logit_scale|"
        r"attn_mask)"
    ),
    "autoencoder beside the fusions": re.compile(r"cfw\.(?!decoder\.fusion_layer_).*"),
    "stage 1": re.compile(r"preprocess_model\..*"),
    "second copy of the encoder": re.compile(r"cond_encoder\..*"),
}
"""What a checkpoint may hold besides the weights, by reason."""

_SPADE = {
    "norm.": "param_free_norm.",
    "shared.": "mlp_shared.0.",
    "gamma.": "mlp_gamma.",
    "beta.": "mlp_beta.",
}
_ENCODER_ENDS = {
    "conv_in.": "input_blocks.0.0.",
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
}
_ENCODER_BLOCK = re.compile(r"(blocks|attentions)\.(\d+)\.(\d+)\.(.+)")
_ENCODER_DOWN = re.compile(r"downs\.(\d+)\.conv\.(.+)")
_ENCODER_TAP = re.compile(r"taps\.(\d+)\.(.+)")
_ENCODER_MIDDLE = re.compile(r"middle\.(\d+)\.(.+)")
_LEVELS = 4


def restorer_origin(part: str, name: str) -> Origin | None:
    """Where the tensor ``name`` of a part comes from; None for what no checkpoint holds.

    Args:
        part: a folder of a model; the parts of the diagnosis and the correction are not published.
        name: in the state dict of the part's module.
    """
    if part == "unet":
        return Origin((UNET + unet_name(name),))
    if part == "vae":
        inner = name.removeprefix("net.")
        return None if inner == name else autoencoder_origin(VAE, inner)
    if part == "text":
        return Origin((TEXT + name.removeprefix("network."),))
    if part == "cfw":
        level, rest = name.removeprefix("fusions.level").split(".", 1)
        return Origin((f"{CFW}decoder.fusion_layer_{level}.{rest}",))
    if part != "adapter":
        return None
    if name.startswith("transforms."):
        _, number, rest = name.split(".", 2)
        return Origin((f"{UNET}{_residual_block(int(number))}.spade.{renamed(rest, _SPADE)}",))
    if name.startswith("encoder."):
        return Origin((STRUCTURE + _encoder(name.removeprefix("encoder.")),))
    return Origin((CONTROL + _control(name),))


def reason_to_pass(name: str) -> str | None:
    """Why a tolerant reader passes over a key of the checkpoint; None for one of the parts' own."""
    for reason, pattern in PASSED_OVER.items():
        if pattern.fullmatch(name):
            return reason
    return None if name.startswith(PREFIXES) else "unknown"


def _residual_block(number: int) -> str:
    """The published name of the U-Net's residual blocks, counted in the order of the data."""
    down, middle = _LEVELS * LAYERS, 2
    if number < down:
        level, layer = divmod(number, LAYERS)
        return f"input_blocks.{level * (LAYERS + 1) + layer + 1}.0"
    if number < down + middle:
        return f"middle_block.{2 * (number - down)}"
    return f"output_blocks.{number - down - middle}.0"


def _encoder(name: str) -> str:
    if match := _ENCODER_BLOCK.fullmatch(name):
        kind, level, layer, rest = match.groups()
        place = f"input_blocks.{int(level) * (LAYERS + 1) + int(layer) + 1}"
        return f"{place}.1.{rest}" if kind == "attentions" else f"{place}.0.{_residual(rest)}"
    if match := _ENCODER_DOWN.fullmatch(name):
        return f"input_blocks.{(int(match[1]) + 1) * (LAYERS + 1)}.0.op.{match[2]}"
    if match := _ENCODER_TAP.fullmatch(name):
        return f"fea_tran.{match[1]}.{_residual(match[2])}"
    if match := _ENCODER_MIDDLE.fullmatch(name):
        rest = match[2] if match[1] == "1" else _residual(match[2])
        return f"middle_block.{match[1]}.{rest}"
    return renamed(name, _ENCODER_ENDS)


def _residual(rest: str) -> str:
    return renamed(rest, RESIDUAL)


def _control(name: str) -> str:
    if name.startswith("zero_convs."):
        _, number, rest = name.split(".", 2)
        return f"zero_convs.{number}.0.{rest}"
    return (
        renamed(name, {"middle_block_out.": "middle_block_out.0."})
        if name.startswith("middle_block_out.")
        else unet_name(name)
    )
