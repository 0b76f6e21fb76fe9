"""``autodir doctor``: versions, devices, threads, models and their hashes, on one screen."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

from autodir.cli.console import Console
from autodir.cli.flags import Json
from autodir.errors import AutodirError

DOCTOR_SCHEMA = "autodir.doctor/1"
_LIBRARIES = (
    "torch",
    "diffusers",
    "open_clip_torch",
    "accelerate",
    "safetensors",
    "tokenizers",
    "torchmetrics",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "pyiqa",
)


def doctor(json: Json = False) -> None:
    """Show versions, devices, threads and models; nothing is changed."""
    console, findings = Console(json=json), examine()
    if json:
        console.emit(findings)
        return
    console.table("", ("", "version"), [*findings["versions"].items()])
    console.say("")
    rows = [
        ("cpu", f"{findings['cpu']['cores']} cores, {findings['cpu']['threads']} threads in use"),
        *((device["name"], device["description"]) for device in findings["devices"]),
    ]
    console.table("", ("device", ""), rows)
    console.say("")
    models = [
        (model["name"], model["sha256"][:16], "whole" if model["error"] is None else _why(model))
        for model in findings["models"]
    ]
    console.table("", ("model", "sha256", "state"), models or [("none", "", "")])


def examine() -> dict[str, Any]:
    """Everything that the command shows, as a JSON-able document."""
    import torch

    import autodir

    versions = {"autodir": autodir.__version__, "python": platform.python_version()}
    versions |= {name: _version(name) for name in _LIBRARIES}
    return {
        "schema": DOCTOR_SCHEMA,
        "system": platform.platform(),
        "versions": versions,
        "cpu": {"cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "devices": _devices(),
        "models": _models(),
        "error": None,
    }


def _devices() -> list[dict[str, str]]:
    import torch

    devices = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        text = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
        devices.append({"name": f"cuda:{index}", "description": text})
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "description": "Metal"})
    return devices


def _models() -> list[dict[str, Any]]:
    from autodir.checkpoint import list_models, verify

    models = []
    for model in list_models():
        state: dict[str, Any] = {"name": model.name, "sha256": model.sha256, "error": None}
        try:
            verify(model.folder)
        except AutodirError as error:  # a damaged model is a finding, not a failure
            state["error"] = error.to_dict()
        models.append(state)
    return models


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "–"


def _why(model: dict[str, Any]) -> str:
    return str(model["error"]["message"])
