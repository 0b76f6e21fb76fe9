"""Which tensors of the published checkpoint make each of ours: the key tables, and nothing else.

Apart from the conversion, so that a name is looked up in one place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Form = Literal["as it is", "stacked", "transposed", "squeezed"]

PREFIXES = {
    "clip": "model_assessment.clipmodel.",
    "biqa": "model_assessment.clipmodel.",
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "scm": "NAFNet.",
}
"""Where each part's tensors stand in the checkpoint."""

IGNORED = {
    "noise schedule": re.compile(
        r"betas|(sqrt_|log_)?(one_minus_)?alphas_cumprod(_prev)?|sqrt_recip(m1)?_alphas_cumprod|"
        r"posterior_(variance|log_variance_clipped|mean_coef[12])|logvar|lvlb_weights|scale_factor"
    ),
    "positions": re.compile(r".*\.position_ids"),
    "averaged copy": re.compile(r"model_ema\..*"),
    "unused text encoder": re.compile(r"cond_stage_model\..*"),
    "loss of the autoencoder": re.compile(r"first_stage_model\.loss\..*"),
    "training": re.compile(r"global_step|epoch"),
}
"""What a checkpoint may hold besides the weights, by reason."""

LAYERS = 2
"""Residual blocks of each level, as published; the numbers of the U-Net's blocks follow from it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tensor comes from.

    Attributes:
        names: in the checkpoint; three for a stacked one, in this order, else one.
        form: what is done with them. A squeezed one loses its two last sides, which are 1.
    """

    names: tuple[str, ...]
    form: Form = "as it is"

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that each named tensor must have for ours."""
        if self.form == "stacked":
            return (ours[0] // len(self.names), *ours[1:])
        if self.form == "transposed":
            return ours[::-1]
        return (*ours, 1, 1) if self.form == "squeezed" else ours


def origin(part: str, name: str) -> Origin | None:
    """Where the tensor ``name`` of a part comes from; None for what no checkpoint holds.

    Args:
        part: clip, biqa, vae, unet or scm.
        name: in the state dict of the part's module.
    """
    prefix = PREFIXES[part]
    if part == "clip":
        return _clip(prefix, name)
    if part == "vae":
        inner = name.removeprefix("net.")
        if inner == name:  # the latents' mean and deviation, which the configuration states
            return None
        return autoencoder_origin(prefix, inner)
    if part == "unet":
        return Origin((prefix + unet_name(name),))
    return Origin((prefix + name.removeprefix("network."),))


_CLIP = {
    "positional_embedding": Origin(("text_model.embeddings.position_embedding.weight",)),
    "token_embedding.weight": Origin(("text_model.embeddings.token_embedding.weight",)),
    "ln_final.": Origin(("text_model.final_layer_norm.",)),
    "text_projection": Origin(("text_projection.weight",), "transposed"),
    "logit_scale": Origin(("logit_scale",)),
    "visual.class_embedding": Origin(("vision_model.embeddings.class_embedding",)),
    "visual.conv1.": Origin(("vision_model.embeddings.patch_embedding.",)),
    "visual.positional_embedding": Origin(("vision_model.embeddings.position_embedding.weight",)),
    "visual.ln_pre.": Origin(("vision_model.pre_layrnorm.",)),  # spelt so in the checkpoint
    "visual.ln_post.": Origin(("vision_model.post_layernorm.",)),
    "visual.proj": Origin(("visual_projection.weight",), "transposed"),
}
_CLIP_LAYER = {
    "ln_1.": Origin(("layer_norm1.",)),
    "ln_2.": Origin(("layer_norm2.",)),
    "attn.in_proj_": Origin(
        tuple(f"self_attn.{which}_proj." for which in ("q", "k", "v")), "stacked"
    ),
    "attn.out_proj.": Origin(("self_attn.out_proj.",)),
    "mlp.c_fc.": Origin(("mlp.fc1.",)),
    "mlp.c_proj.": Origin(("mlp.fc2.",)),
}
RESIDUAL = {
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "time_emb_proj.": "emb_layers.1.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}
_UNET_ENDS = {
    "conv_in.": "input_blocks.0.0.",
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
}
_ATTENTION = {
    "group_norm.": "norm.",
    "to_q.": "q.",
    "to_k.": "k.",
    "to_v.": "v.",
    "to_out.0.": "proj_out.",
}
_UNET_BLOCK = re.compile(
    r"(down|mid|up)_blocks?\.(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)
_CLIP_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_CODER_BLOCK = re.compile(
    r"(encoder|decoder)\.(?:down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.+)"
)
_CODER_MIDDLE = re.compile(r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
_CODER_LEVELS = 4


def _clip(prefix: str, name: str) -> Origin:
    inner = name.removeprefix("towers.")
    block = _CLIP_BLOCK.fullmatch(inner)
    table = _CLIP_LAYER if block else _CLIP
    rest = block[3] if block else inner
    within = prefix
    if block:
        within += f"{'vision' if block[1] else 'text'}_model.encoder.layers.{block[2]}."
    for ours, theirs in table.items():
        # A name that ends in "." or "_" is a module's, and what stands behind it is kept.
        if rest == ours or (ours[-1] in "._" and rest.startswith(ours)):
            tail = rest[len(ours) :]
            return Origin(tuple(within + one + tail for one in theirs.names), theirs.form)
    return Origin((within + rest,))


def unet_name(name: str) -> str:
    """A tensor's name in Stable Diffusion's U-Net, as published, from diffusers' name."""
    match = _UNET_BLOCK.fullmatch(name)
    if match is None:
        return renamed(name, _UNET_ENDS)
    side, level, kind, layer, rest = match.groups()
    if kind == "resnets":
        rest = renamed(rest, RESIDUAL)
    if side == "mid":
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(layer)}.{rest}"
    # All blocks of one side are numbered through; a level ends with its change of resolution.
    number = int(level) * (LAYERS + 1) + (LAYERS if kind.endswith("samplers") else int(layer))
    slot = 1 if kind == "attentions" else 0
    if side == "down":
        if kind == "downsamplers":
            rest = renamed(rest, {"conv.": "op."})
        return f"input_blocks.{number + 1}.{slot}.{rest}"
    if kind == "upsamplers":  # behind the attention, which the first level does not have
        slot = 2 if int(level) else 1
    return f"output_blocks.{number}.{slot}.{rest}"


def autoencoder_origin(prefix: str, name: str) -> Origin:
    """Where a tensor of diffusers' autoencoder stands in Stable Diffusion's, behind a prefix."""
    if match := _CODER_MIDDLE.fullmatch(name):
        coder, kind, number, rest = match.groups()
        if kind == "resnets":
            return Origin((f"{prefix}{coder}.mid.block_{int(number) + 1}.{rest}",))
        theirs = f"{prefix}{coder}.mid.attn_1.{renamed(rest, _ATTENTION)}"
        matrix = rest.endswith(".weight") and not rest.startswith("group_norm")
        return Origin((theirs,), "squeezed" if matrix else "as it is")
    if match := _CODER_BLOCK.fullmatch(name):
        coder, level, kind, layer, rest = match.groups()
        if coder == "encoder":
            place = f"encoder.down.{level}"
        else:  # the decoder's levels are counted from the top of the pyramid
            place = f"decoder.up.{_CODER_LEVELS - 1 - int(level)}"
        if kind == "resnets":
            rest = f"block.{layer}.{renamed(rest, {'conv_shortcut.': 'nin_shortcut.'})}"
        else:
            rest = f"{kind.removesuffix('rs')}.{rest}"
        return Origin((f"{prefix}{place}.{rest}",))
    return Origin((prefix + name.replace("conv_norm_out.", "norm_out."),))


def renamed(name: str, table: dict[str, str]) -> str:
    """The name with its beginning replaced as the table says."""
    for ours, theirs in table.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def reason_to_ignore(name: str) -> str | None:
    """Why a tolerant reader passes over a key of the checkpoint; None for one of the parts' own."""
    for reason, pattern in IGNORED.items():
        if pattern.fullmatch(name):
            return reason
    return None if name.startswith(tuple(PREFIXES.values())) else "unknown"
