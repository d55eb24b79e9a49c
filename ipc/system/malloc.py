"""What the C library keeps of the memory that large messages used, see `quiet` for how long.

glibc asks the kernel anew for each large buffer and returns it after: a page fault for every 4 KiB
of every message, which costs more than copying it. With another C library nothing is done.
Sizes are bytes.
"""

import contextlib
import ctypes

KEPT = 64 << 20  # free memory at a heap's end that is not returned at once
FROM_HEAP = 32 << 20  # a larger buffer is mapped by itself: glibc allows no more

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_kept = False


def keep_freed_memory() -> None:
    """Have this process, and those that it forks, use the memory of large messages again."""
    global _kept
    with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, FROM_HEAP)
        mallopt(_M_TRIM_THRESHOLD, KEPT)
        _kept = True


def trim() -> None:
    """Return what is free to the kernel; in a process that keeps nothing, leave it alone."""
    if _kept:
        ctypes.CDLL(None).malloc_trim(0)
