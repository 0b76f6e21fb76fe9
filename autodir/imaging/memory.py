"""Memory that was freed, given back to the system.

Apart because it is no arithmetic: glibc keeps what was freed below 32 MB between other blocks, and
a photo of 24 megapixels, cut into fifty tiles, leaves half a gigabyte of it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any


def give_back() -> bool:
    """Return freed memory to the system, in milliseconds; whether this system knows how."""
    trim = _trim()
    if trim is None:
        return False
    trim(0)
    return True


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], Any] | None:
    """malloc_trim of the C library; None where there is none, as on macOS and Windows."""
    try:
        found: Callable[[int], Any] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library of all symbols
        return None
    return found
