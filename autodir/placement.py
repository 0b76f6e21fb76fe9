"""Where the parts of a model lie while it runs, and in which form.

Apart from the parts, none of which knows that it may be moved.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from autodir.builders import Model
from autodir.diagnosis.biqa import QualityModel
from autodir.diffusion.model import LatentDiffusion

logger = logging.getLogger(__name__)

_HOST = torch.device("cpu")


class Offload:
    """Keeps one part on the device at a time; the others wait in the memory of the host.

    A part comes as soon as one of its layers is called and stays until another part is called, so
    that the U-Net moves once for all sampling steps.

    Args:
        parts: modules by name.
        device: where they are computed.
        methods: of each part, methods that look at its weights before any layer is called.
    """

    def __init__(
        self,
        parts: Mapping[str, nn.Module],
        device: torch.device,
        methods: Mapping[str, Sequence[tuple[nn.Module, str]]] | None = None,
    ) -> None:
        self.parts, self.device = dict(parts), device
        self.present: str | None = None
        for name, part in self.parts.items():
            part.to(_HOST)
            doors = {part, *part.children()}
            for layer in part.modules():
                if layer in doors or next(layer.parameters(recurse=False), None) is not None:
                    layer.register_forward_pre_hook(functools.partial(self._before, name))
        for name, entries in (methods or {}).items():
            for owner, method in entries:
                setattr(owner, method, self._entering(name, getattr(owner, method)))

    def enter(self, name: str) -> None:
        """Bring a part to the device and send away the one that is there."""
        if name == self.present:
            return
        if self.present is not None:
            self._move(self.present, _HOST)
        self._move(name, self.device)
        self.present = name

    def _move(self, name: str, device: torch.device) -> None:
        logger.debug("%s → %s", name, device)
        self.parts[name].to(device)

    def _before(self, name: str, *_: object) -> None:
        self.enter(name)

    def _entering(self, name: str, method: Any) -> Any:
        @functools.wraps(method)
        def entered(*arguments: Any, **named: Any) -> Any:
            self.enter(name)
            return method(*arguments, **named)

        return entered


def keep_one(
    model: Model, quality: QualityModel, diffusion: LatentDiffusion, device: torch.device
) -> Offload:
    """Compute every part of a model on ``device`` and keep there only the one at work.

    Args:
        model: its parts end up on the host.
        quality: the diagnosis, which shares the text tower with the diffusion.
        diffusion: from now on takes photos to ``device``.
        device: where there is too little memory for all parts at once.
    """
    diffusion.place(device)
    return Offload(
        {
            "diagnosis": quality,
            "vae": _together(model.autoencoder, model.wrapping),
            "unet": _together(model.unet, model.adapter),
            "scm": model.scm,
            **({} if model.text is None else {"text": model.text}),
        },
        device,
        {"diagnosis": [(model.clip, "encode_text"), (model.clip, "encode_tokens")],
         **({} if model.text is None else {"text": [(model.text, "encode_text")]})},
    )  # fmt: skip


def _together(part: nn.Module, beside: nn.Module | None) -> nn.Module:
    """What is computed layer by layer with a part comes and goes with it."""
    return part if beside is None else nn.ModuleList([part, beside])


def pixel_major(model: Model) -> None:
    """Let convolutions read and write pixel by pixel (channels last): faster on CPU and GPU."""
    for module in model.modules.values():
        nn.Module.to(module, memory_format=torch.channels_last)


def compile_parts(model: Model, backend: str = "inductor") -> None:
    """Compile the networks that take the time, in place, when they are first called.

    Args:
        model: its U-Net, the two halves of its autoencoder and its correction are compiled.
        backend: of ``torch.compile``.
    """
    halves = (model.autoencoder.net.encoder, model.autoencoder.net.decoder)
    correction = [part for part in (model.scm.network, model.scm.refinement) if part is not None]
    for module in (model.unet, *halves, *correction):
        module.compile(backend=backend)
