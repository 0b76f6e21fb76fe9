"""Files that are there whole or not at all: temporary name in the same folder, fsync, rename.

Apart because results, reports and models are all written this way, and a killed run must not leave
half of one under its final name.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO

from autodir.errors import ImageError

TEMPORARY_PREFIX = ".autodir-"
"""Files that begin so are unfinished; they are only left by a process that was killed."""


def _unwritable(path: Path, error: OSError) -> ImageError:
    """The error for a path that the system refuses to write."""
    reason = error.strerror or str(error)
    return ImageError(f"cannot write {path}: {reason}", hint="choose another place with --output")


def check_writable(folder: Path) -> None:
    """Make ``folder`` where it is missing, and write and remove a file in it.

    Raises:
        ImageError: the folder cannot be made, or nothing can be written there.
    """
    probe = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error


def _replace(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then give it that name.

    Raises:
        ImageError: the system refuses, or ``path`` is a folder or a device.
    """
    if path.exists() and not path.is_file():
        # Renaming onto a device such as /dev/null would replace the device itself.
        raise ImageError(f"cannot write {path}: it is not a regular file")
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        # Gone after the rename; there after any failure, an interrupt included.
        if _exists(temporary):
            temporary.unlink()


def _exists(path: Path) -> bool:
    """Whether there is a file, where a parent that is no folder counts as no."""
    try:
        return path.exists()
    except OSError:
        return False


def _sync_folder(folder: Path) -> None:
    """Write the folder's entries to disk, where the system lets one open a folder."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(data: bytes, path: Path) -> None:
    """Write ``data`` to ``path``, whole or not at all; missing folders are made.

    An existing file is replaced; a symbolic link is replaced, not followed.

    Raises:
        ImageError: the path cannot be written. What was there before is untouched.
    """
    _replace(path, lambda file: file.write(data))


def copy_atomic(source: Path, target: Path) -> None:
    """Copy a file byte for byte, whole or not at all; missing folders are made.

    Raises:
        ImageError: ``source`` cannot be read, or ``target`` cannot be written.
    """
    try:
        original = source.open("rb")
    except OSError as error:
        raise ImageError(f"cannot read {source}: {error.strerror or error}") from error
    with original:
        _replace(target, lambda file: shutil.copyfileobj(original, file))
