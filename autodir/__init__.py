"""autodir: finds out what is wrong with a photo, repairs it, and leaves a good photo alone.

The public names are resolved on first use (PEP 562), so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from autodir.resources import spare_matrix_units

if TYPE_CHECKING:
    from autodir.config import OutputOptions, RestoreOptions, RuntimeOptions, TrainOptions
    from autodir.errors import (
        AutodirError,
        CheckpointError,
        ConfigError,
        ContractError,
        DeviceError,
        ImageError,
        MissingExtraError,
        PromptError,
    )
    from autodir.imaging.io import Photo
    from autodir.pipeline import Restorer
    from autodir.prompts import Degradation, Taxonomy
    from autodir.records import Diagnosis, Report, Restoration, Step

    __version__: str

spare_matrix_units()

_HOMES = {
    "AutodirError": "errors",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "ContractError": "errors",
    "Degradation": "prompts",
    "DeviceError": "errors",
    "Diagnosis": "records",
    "ImageError": "errors",
    "MissingExtraError": "errors",
    "OutputOptions": "config",
    "Photo": "imaging.io",
    "PromptError": "errors",
    "Report": "records",
    "Restoration": "records",
    "RestoreOptions": "config",
    "Restorer": "pipeline",
    "RuntimeOptions": "config",
    "Step": "records",
    "Taxonomy": "prompts",
    "TrainOptions": "config",
}

__all__ = [
    "AutodirError",
    "CheckpointError",
    "ConfigError",
    "ContractError",
    "Degradation",
    "DeviceError",
    "Diagnosis",
    "ImageError",
    "MissingExtraError",
    "OutputOptions",
    "Photo",
    "PromptError",
    "Report",
    "Restoration",
    "RestoreOptions",
    "Restorer",
    "RuntimeOptions",
    "Step",
    "Taxonomy",
    "TrainOptions",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module, and keep it."""
    if name == "__version__":
        value: object = _version()
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"autodir.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'autodir' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, whether resolved or not."""
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("autodir")
    except metadata.PackageNotFoundError:  # run from a clone that is not installed
        return "0+unknown"
