"""The parts of a system put together: the embedded default's shapes, and the published ones.

Apart from the folders on disk, so that one file knows what each scale consists of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from autodir.clip import SD15 as CLIP_SD15
from autodir.clip import SD21 as TEXT_SD21
from autodir.clip import SMALL as CLIP_SMALL
from autodir.clip import Clip, TextTower
from autodir.correction.scm import StructureCorrector
from autodir.diagnosis.biqa import QualityHead, QualityModel
from autodir.diagnosis.calibration import Calibration
from autodir.diagnosis.contrastive import ContrastiveHead
from autodir.diffusion.adapters import Adapter, build_adapter
from autodir.diffusion.autoencoder import SD15 as AUTOENCODER_SD15
from autodir.diffusion.autoencoder import SMALL as AUTOENCODER_SMALL
from autodir.diffusion.autoencoder import Autoencoder
from autodir.diffusion.model import LatentDiffusion
from autodir.diffusion.schedule import SD15 as SCHEDULE_SD15
from autodir.diffusion.schedule import SD21 as SCHEDULE_SD21
from autodir.diffusion.schedule import SMALL as SCHEDULE_SMALL
from autodir.diffusion.schedule import Schedule
from autodir.diffusion.settings import SD15 as DIFFUSION_SD15
from autodir.diffusion.settings import SD21 as DIFFUSION_SD21
from autodir.diffusion.settings import SMALL as DIFFUSION_SMALL
from autodir.diffusion.settings import DiffusionConfig
from autodir.diffusion.unet import SD15 as UNET_SD15
from autodir.diffusion.unet import SD21 as UNET_SD21
from autodir.diffusion.unet import SMALL as UNET_SMALL
from autodir.diffusion.unet import build_unet
from autodir.diffusion.wrapping import FeatureWrapping
from autodir.prompts import Degradation, Taxonomy, load_taxonomy

SCM_SMALL: Mapping[str, Any] = {
    "network": {
        "width": 32, "enc_blk_nums": [1, 1, 4], "middle_blk_num": 2, "dec_blk_nums": [1, 1, 1],
        "unshuffle": 2, "embed_dim": 256, "train_size": 512,
    },
    "head": "affine",
    "tile": 960,
}  # fmt: skip
SCM_SD15: Mapping[str, Any] = {
    "network": {
        "width": 64, "enc_blk_nums": [2, 2, 4, 8], "middle_blk_num": 12,
        "dec_blk_nums": [2, 2, 2, 2],
    },
    "head": "signed",
}  # fmt: skip
HEAD_SMALL: Mapping[str, Any] = {"hidden": 256}
HEAD_SD15: Mapping[str, Any] = ContrastiveHead.CONFIG

PARTS_SMALL: Mapping[str, Any] = {
    "clip": CLIP_SMALL, "biqa": HEAD_SMALL, "unet": UNET_SMALL, "scm": SCM_SMALL,
    "vae": AUTOENCODER_SMALL.to_dict(), "schedule": SCHEDULE_SMALL.to_dict(),
    "diffusion": DIFFUSION_SMALL.to_dict(),
}  # fmt: skip
PARTS_SD15: Mapping[str, Any] = {
    "clip": CLIP_SD15, "biqa": HEAD_SD15, "unet": UNET_SD15, "scm": SCM_SD15,
    "vae": AUTOENCODER_SD15.to_dict(), "schedule": SCHEDULE_SD15.to_dict(),
    "diffusion": DIFFUSION_SD15.to_dict(),
}  # fmt: skip
ADAPTER_STABLESR: Mapping[str, Any] = {
    "kind": "sft", "form": "published", "widths": (256, 256, 512, 512), "features": 256,
    "hidden": 128,
}  # fmt: skip
PARTS_SD21: Mapping[str, Any] = {
    "text": TEXT_SD21, "unet": UNET_SD21, "vae": AUTOENCODER_SD15.to_dict(),
    "schedule": SCHEDULE_SD21.to_dict(), "diffusion": DIFFUSION_SD21.to_dict(),
    "adapter": ADAPTER_STABLESR,
}  # fmt: skip
"""Stable Diffusion 2.1 behind an adapter; the diagnosis and the correction are another model's."""

TAXONOMY_SD15 = Taxonomy(
    degradations=tuple(
        # Low resolution hands on the sample itself, as published: a structural weight of zero.
        Degradation(
            key=label.replace(" ", "_"),
            label=label,
            structure_weight=0.0 if label == "low resolution" else 1.0,
            synthesis=label.replace(" ", "_"),
        )
        for label in (
            "noise", "blur", "rain", "underexposure", "haze", "low resolution", "raindrop",
        )
    ),
    clean="no",
    clean_index=7,
    template="A photo needs {label} artifact reduction",
)  # fmt: skip
"""The labels of the published model, in its softmax order."""


@dataclass(kw_only=True)
class Model:
    """All parts of one system, ready to be composed.

    Attributes:
        scale: which builder made it.
        taxonomy: the degradations as trained.
        clip, head: the quality model's towers and head.
        autoencoder, unet, schedule, diffusion: the latent diffusion.
        scm: the structural correction.
        adapter, wrapping: optional parts: what conditions the U-Net and the decoder besides.
        text: the U-Net's text tower, where it is not the diagnosis's.
        calibration: thresholds of the diagnosis, and notes on how they were chosen.
        training: notes of the training, by stage.
    """

    scale: str
    taxonomy: Taxonomy
    clip: Clip
    head: QualityHead | ContrastiveHead
    autoencoder: Autoencoder
    unet: UNet2DConditionModel
    schedule: Schedule
    diffusion: DiffusionConfig
    scm: StructureCorrector
    adapter: Adapter | None = None
    wrapping: FeatureWrapping | None = None
    text: TextTower | None = None
    calibration: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The parts that have weights, by folder name."""
        parts: dict[str, nn.Module | None] = {
            "clip": self.clip, "biqa": self.head, "vae": self.autoencoder, "unet": self.unet,
            "scm": self.scm, "adapter": self.adapter, "cfw": self.wrapping, "text": self.text,
        }  # fmt: skip
        return {name: part for name, part in parts.items() if part is not None}

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Model:
        """Move every part; the diagnosis stays float32, which its thresholds were chosen in."""
        for name, module in self.modules.items():
            nn.Module.to(module, device=device, dtype=part_dtype(name, dtype))
        return self

    def eval(self) -> Model:
        """Switch every part to inference."""
        for module in self.modules.values():
            module.eval().requires_grad_(False)
        return self

    def quality_model(self) -> QualityModel:
        """The diagnosis network."""
        device = next(self.head.parameters()).device
        return QualityModel(self.clip, self.head, self.taxonomy).to(device)

    def latent_diffusion(self) -> LatentDiffusion:
        """The diffusion, composed of its parts."""
        return LatentDiffusion(
            self.clip, self.autoencoder, self.unet, self.schedule, self.diffusion, self.adapter,
            self.wrapping, self.text,
        )  # fmt: skip


def part_dtype(part: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a part runs: the diagnosis in float32, all others in ``dtype``.

    The values of Stable Diffusion's autoencoder overflow float16 on some photos, which come out
    black: it runs in float32 then. bfloat16 reaches as far as float32.
    """
    exact = ("clip", "biqa", "vae") if dtype is torch.float16 else ("clip", "biqa")
    return torch.float32 if part in exact else dtype


def calibration_of(model: Model) -> Calibration:
    """The thresholds of a model's diagnosis."""
    return Calibration.from_dict(model.calibration)


def build_small(seed: int = 0) -> Model:
    """The embedded default's shapes with random weights.

    Args:
        seed: of the weights; the global random state is left as it was.
    """
    return build(PARTS_SMALL, load_taxonomy(), scale="small", seed=seed)


def build(parts: Mapping[str, Any], taxonomy: Taxonomy, *, scale: str, seed: int = 0) -> Model:
    """A model with random weights from the configurations of its parts.

    Args:
        parts: configurations by name: clip, biqa, vae, unet, scm, schedule, diffusion.
        taxonomy: the labels, in softmax order.
        scale: name of the shapes.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # forked: the caller's state returns
        clip = Clip.from_config(parts["clip"])
        head = dict(parts["biqa"])
        if "hidden" in head:
            head |= {"feature_dim": clip.embed_dim, "embed_dim": clip.embed_dim}
            head |= {"degradations": len(taxonomy)}
        return Model(
            scale=scale,
            taxonomy=taxonomy,
            clip=clip,
            head=build_head(head),
            autoencoder=Autoencoder(parts["vae"]),
            unet=build_unet(parts["unet"]),
            schedule=Schedule(parts["schedule"]),
            diffusion=DiffusionConfig(**parts["diffusion"]),
            scm=StructureCorrector(**parts["scm"]),
        )


def build_sd21(parts: Mapping[str, Any], diagnosis: Model, *, with_wrapping: bool = False) -> Model:
    """A diffusion of Stable Diffusion 2.1's shapes with random weights, led by another's diagnosis.

    StableSR and DiffBIR have neither a diagnosis nor a structural correction. Those of
    ``diagnosis`` take part, but the correction has no weight unless a user gives it one: what the
    diffusion says is the result, as published.

    Args:
        parts: configurations by name: text, unet, vae, schedule, diffusion, adapter.
        diagnosis: whose towers, head, thresholds, taxonomy and correction are shared.
        with_wrapping: the photo's features in the decoder besides.
    """
    autoencoder, unet = Autoencoder(parts["vae"]), build_unet(parts["unet"])
    uncorrected = (replace(one, structure_weight=0.0) for one in diagnosis.taxonomy)
    return replace(
        diagnosis,
        scale="sd21",
        taxonomy=replace(diagnosis.taxonomy, degradations=tuple(uncorrected)),
        autoencoder=autoencoder,
        unet=unet,
        schedule=Schedule(parts["schedule"]),
        diffusion=DiffusionConfig(**parts["diffusion"]),
        adapter=build_adapter(parts["adapter"], unet),
        wrapping=FeatureWrapping.beside(autoencoder) if with_wrapping else None,
        text=TextTower(parts["text"]),
        training={},
    )


def build_head(config: Mapping[str, Any]) -> QualityHead | ContrastiveHead:
    """The head that a ``biqa/config.json`` describes."""
    return ContrastiveHead() if config == ContrastiveHead.CONFIG else QualityHead(**config)
