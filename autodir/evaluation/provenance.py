"""Under what circumstances a number came about: code, machine, versions, memory.

Apart because it looks at the world outside, where everything else in the package is arithmetic.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = (
    "autodir",
    "torch",
    "torchmetrics",
    "torchvision",
    "diffusers",
    "open_clip_torch",
    "numpy",
)
_KIB = 1024


def circumstances() -> dict[str, Any]:
    """Commit, time, hardware and versions, as JSON-able values."""
    return {
        "commit": commit(),
        "code_sha256": code_digest(),
        "time": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": {"python": platform.python_version()} | _versions(),
    }


def commit() -> str:
    """The short hash of the commit, with "-dirty" where files are changed; else "unknown"."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "describe", "--always", "--dirty", "--exclude=*"]
    folder = Path(__file__).resolve().parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def code_digest() -> str:
    """SHA-256 over the package's sources: tells versions of the same commit apart."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def hardware() -> dict[str, Any]:
    """Processor, cores, threads in use, and the accelerator where there is one."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "system": platform.system(),
    }


def peak_memory() -> int | None:
    """The largest resident size of this process so far, in bytes; None where nobody can say."""
    if sys.platform == "win32":
        return None
    import resource  # a Unix module

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * _KIB


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
