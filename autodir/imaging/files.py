"""Files that are there whole or not at all: temporary name in the same folder, fsync, rename.

Apart because results, reports and models are all written this way, and a killed run must not leave
half of one under its final name.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from autodir.errors import ImageError

TEMPORARY_PREFIX = ".autodir-"
"""Files that begin so are unfinished; they are only left by a process that was killed."""

MAX_BYTES = 2_000_000_000
"""Default limit of a file's size."""

BeforeRename = Callable[[Path], object]
"""Sees the whole file under its temporary name; if it raises, no file is left."""

_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


def read_limited(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The content of a file or of a pipe that is being written to.

    Raises:
        ImageError: it cannot be read, is a folder or a device, or holds more than ``max_bytes``,
            of which no more is read.
    """
    try:
        # Without waiting: a pipe that nobody writes to would stop a whole run here.
        descriptor = os.open(path, os.O_RDONLY | _NO_WAIT | getattr(os, "O_BINARY", 0))
        try:
            about = os.fstat(descriptor)
            if stat.S_ISFIFO(about.st_mode):
                os.set_blocking(descriptor, True)
            elif not stat.S_ISREG(about.st_mode):
                raise ImageError(f"cannot read {path}: it is a folder or a device")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(max_bytes + 1)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read {path}: {reason}") from error
    return check_size(data, str(path), max_bytes)


def check_size(data: bytes, name: str, max_bytes: int) -> bytes:
    """Give ``data`` back if it is no longer than allowed.

    Raises:
        ImageError: it is longer.
    """
    if len(data) > max_bytes:
        raise ImageError(
            f"{name} holds more than the limit of {max_bytes / 1e6:g} MB",
            hint="raise --max-bytes if it is to be trusted",
        )
    return data


def keep_attributes(
    source: Path, target: Path, *, times: bool = False, permissions: bool = False
) -> None:
    """Give ``target`` the times of last access and change, and the permissions, of ``source``.

    Raises:
        OSError: the system refuses.
    """
    about = source.stat()
    if permissions:
        target.chmod(stat.S_IMODE(about.st_mode))
    if times:
        os.utime(target, ns=(about.st_atime_ns, about.st_mtime_ns))


def sweep(folders: Iterable[Path]) -> int:
    """Remove the unfinished files that killed runs have left; the number of them.

    Only for folders that no other run is writing to.
    """
    left = [path for folder in folders for path in folder.glob(f"{TEMPORARY_PREFIX}*.tmp")]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


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


def write_atomic(data: bytes, path: Path, before_rename: BeforeRename | None = None) -> None:
    """Write ``data`` to ``path``, whole or not at all; missing folders are made.

    An existing file is replaced; a symbolic link is replaced, not followed.

    Args:
        data: the content.
        path: where it goes.
        before_rename: is shown the file when it is whole and on the disk, under another name yet.

    Raises:
        ImageError: the path cannot be written, or is a folder or a device. What was there before
            is untouched.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}.tmp"
    try:
        if path.exists() and not path.is_file():
            # Renaming onto a device such as /dev/null would replace the device itself.
            raise ImageError(f"cannot write {path}: it is not a regular file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if before_rename is not None:
            before_rename(temporary)
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
