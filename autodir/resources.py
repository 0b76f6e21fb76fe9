"""Where the data that ships with autodir lies: prompts and checkpoints.

Apart so that no other module knows whether it runs from a wheel or from the repository.
"""

from pathlib import Path

from autodir.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def prompts_dir() -> Path:
    """The folder with ``taxonomy.toml``, ``templates.toml`` and ``phrases/``.

    Raises:
        ConfigError: the installation carries no such folder.
    """
    return _find("prompts")


def checkpoints_dir() -> Path:
    """The folder that holds one model folder per name, such as ``small/``.

    Raises:
        ConfigError: the installation carries no such folder.
    """
    return _find("checkpoints")


def _find(name: str) -> Path:
    """``autodir/_data/<name>`` as in a wheel, else ``<repository>/<name>``."""
    packed = _PACKAGE / "_data" / name
    beside = _PACKAGE.parent / name
    for folder in (packed, beside):
        if folder.is_dir():
            return folder
    raise ConfigError(
        f"autodir's data folder {name!r} is missing (looked in {packed} and {beside})",
        "reinstall autodir, or run it from a complete clone of the repository",
    )
