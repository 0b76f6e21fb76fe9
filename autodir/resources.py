"""Where the data that ships with autodir lies, and what the processor must not be asked for.

Apart so that no other module knows whether it runs from a wheel or from the repository, on a real
machine or on a virtual one.
"""

import os
import re
from pathlib import Path

from autodir.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent
_TILE_LEAF = 0x1D
"""The CPUID leaf that gives the size of a matrix unit's tiles."""


def spare_matrix_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Keep torch from matrix units (AMX) that a virtual machine shows but does not describe.

    Some hypervisors pass the instructions on and hide the leaf that gives the tiles' size; oneDNN
    then configures tiles of no size, and the first product in bfloat16 ends the process with an
    illegal instruction. The limit is set in the environment, before torch is asked for anything;
    a limit that the user set is left as it is.

    Returns:
        Whether this is such a machine.
    """
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as handle:
            first = handle.read(8192).partition("\n\n")[0]
    except OSError:
        return False
    level = re.search(r"^cpuid level\s*:\s*(\d+)", first, re.MULTILINE)
    if level is None or " amx_tile" not in first or int(level[1]) >= _TILE_LEAF:
        return False
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    return True


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
