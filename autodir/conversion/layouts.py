"""The published layouts that can be converted, and the files of each as one table of tensors.

Apart from the conversion, which is the same for all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autodir.builders import PARTS_SD15, PARTS_SD21, TAXONOMY_SD15, Model, build, build_sd21
from autodir.checkpoint import load_model
from autodir.conversion.card import model_card, restorer_card
from autodir.conversion.keys import Origin, origin, reason_to_ignore
from autodir.conversion.reader import Checkpoint, open_checkpoint
from autodir.conversion.restorers import CFW, CONTROL, STRUCTURE, reason_to_pass, restorer_origin
from autodir.diffusion.schedule import SD21_V, ScheduleConfig
from autodir.errors import CheckpointError, ConfigError
from autodir.weights import without_values

CALIBRATION: Mapping[str, Any] = {
    "temperature": 1.0,
    "clean_threshold": 0.5,
    "chosen_on": "nothing: the published rule, a degradation is there where it beats 'no'",
}
BACKBONE = "model.diffusion_model.out.2.weight"
"""A tensor of the U-Net that every complete checkpoint has."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published layout.

    Attributes:
        title: what errors call it.
        parts: configurations by name, see `autodir.builders`.
        origin: part and name of one of our tensors → where it comes from.
        reason: name in the checkpoint → why it is not needed; None for the parts' own.
        card: facts and model → the text of ``README.md``.
        has_backbone: Stable Diffusion's weights may lie in a file of their own.
    """

    title: str
    parts: Mapping[str, Any]
    origin: Callable[[str, str], Origin | None]
    reason: Callable[[str], str | None]
    card: Callable[[Mapping[str, Any], Model], str]
    has_backbone: bool


def _restorer(title: str, **changes: Mapping[str, Any]) -> Published:
    return Published(
        title=title, parts={**PARTS_SD21, **changes}, origin=restorer_origin,
        reason=reason_to_pass, card=restorer_card, has_backbone=True,
    )  # fmt: skip


_FROM_PHOTO = {**PARTS_SD21["diffusion"], "start": "photo"}
_CONTROL: Mapping[str, Any] = {"kind": "control"}
_ZERO_SNR = ScheduleConfig(zero_terminal_snr=True, prediction="v_prediction", spacing="linspace")
LAYOUTS: dict[str, Published] = {
    "autodir": Published(
        title="the published AutoDIR", parts=PARTS_SD15, origin=origin, reason=reason_to_ignore,
        card=model_card, has_backbone=False,
    ),
    "stablesr": _restorer("the published StableSR", diffusion=_FROM_PHOTO),
    "stablesr-768v": _restorer(
        "the published StableSR of 768 pixels", schedule=SD21_V.to_dict(),
        diffusion=_FROM_PHOTO | {"working_pixels": 768 * 768},
    ),
    "diffbir": _restorer("the published DiffBIR", adapter=_CONTROL),
    "diffbir-v2.1": _restorer(
        "the published DiffBIR 2.1", adapter=_CONTROL, schedule=_ZERO_SNR.to_dict()
    ),
}  # fmt: skip
"""Names of layouts; what a network predicts cannot be seen in a file, hence two of each."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The files of a conversion as one checkpoint.

    Attributes:
        layout: name in `LAYOUTS`.
        checkpoint: all tensors; those of the first file win.
        facts: name and sha256 of each file beside the first, by use.
    """

    layout: str
    checkpoint: Checkpoint
    facts: Mapping[str, Mapping[str, str]]


def gather(source: Path, besides: Mapping[str, Path], layout: str | None = None) -> Sources:
    """Open the files of a conversion and recognize their layout.

    Args:
        source: the published checkpoint, or the adapter alone.
        besides: "base": Stable Diffusion 2.1's checkpoint; "cfw": StableSR's decoder.
        layout: a name in `LAYOUTS`; None looks at the names of the tensors.

    Raises:
        CheckpointError: a file is unreadable, or calls code.
        ConfigError: the layout is unknown, or a file is missing or not for it.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(f"--layout cannot be {layout!r}", f"use one of {', '.join(LAYOUTS)}")
    checkpoint = open_checkpoint(source)
    tensors = dict(checkpoint.tensors)
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = _prefixed(tensors, "module.", "")
    if any(name.startswith("zero_convs.") for name in tensors):  # IRControlNet alone
        tensors = _prefixed(tensors, "", CONTROL)
    if any(name.startswith("decoder.fusion_layer_") for name in tensors):
        raise ConfigError(
            f"{source} is StableSR's decoder alone",
            f"convert its main checkpoint and add --cfw {source}",
        )
    found = layout or detect(tensors)
    published = LAYOUTS[found]
    if besides and not published.has_backbone:
        raise ConfigError(f"{published.title} is one file", "leave out --base and --cfw")
    facts = {}
    for use, path in besides.items():
        more = open_checkpoint(path).tensors
        more = _prefixed(more, "", CFW) if use == "cfw" else more
        tensors = {**more, **tensors}
        facts[use] = {"source": path.name, "sha256": sha256(path)}
    if published.has_backbone and BACKBONE not in tensors:
        raise ConfigError(
            f"{source} holds no Stable Diffusion",
            "name the checkpoint it was trained on: --base v2-1_512-ema-pruned.ckpt",
        )
    return Sources(layout=found, checkpoint=replace(checkpoint, tensors=tensors), facts=facts)


def detect(names: Iterable[str]) -> str:
    """The layout of a checkpoint by the names of its tensors; AutoDIR's where none is known."""
    for name in names:
        if name.startswith(STRUCTURE):
            return "stablesr"
        if name.startswith(CONTROL):
            return "diffbir"
    return "autodir"


def model_of(layout: str, parts: Mapping[str, Any], diagnosis: str, with_wrapping: bool) -> Model:
    """A model of a layout whose published parts have no values yet.

    Args:
        layout: name in `LAYOUTS`.
        parts: configurations by name.
        diagnosis: the model, by name or folder, whose diagnosis and correction a restorer without
            them gets.
        with_wrapping: StableSR's decoder is there.
    """
    if layout == "autodir":
        with without_values():
            model = build(parts, TAXONOMY_SD15, scale="sd15")
        model.calibration = dict(CALIBRATION)
        return model
    leading = load_model(diagnosis)
    if leading.text is not None:
        raise CheckpointError(
            f"{diagnosis} has borrowed its diagnosis itself", "name the model that it is from"
        )
    with without_values():
        return build_sd21(parts, leading, with_wrapping=with_wrapping)


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _prefixed(tensors: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new + name.removeprefix(old): value for name, value in tensors.items()}
