"""What the C library keeps of the memory that a merge has used, of which large pictures take gigabytes."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_memory() -> None:
    """Let the C library keep what a tile has used for the next tile.

    It gives every block of more than 32 MiB back to the system, which then has to clear it again, page by page: a third
    of the processor time of a large merge. The memory is this process's own, and so is the setting.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_MAX, 0)
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def return_memory() -> None:
    """Give back to the system what the C library has kept and nobody uses.

    What one part of the work has left lies in pieces, in which the larger blocks of the next find no room.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
