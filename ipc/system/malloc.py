"""What the C library keeps of freed memory; `trimmer` decides when it is returned.

glibc maps each large buffer anew and returns it when it is freed: one page fault for every 4 KiB of
every message, which costs more than copying. So freed memory is kept while large messages pass.
Other C libraries are left as they are. Sizes are bytes.
"""

import contextlib
import ctypes

KEPT = 64 << 20  # free memory at the end of a heap that is kept
FROM_HEAP = 32 << 20  # a larger buffer is always mapped: the maximum of glibc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_keeps = False


def keep_freed_memory() -> None:
    """Have this process, and those that it forks, reuse the memory of large messages."""
    global _keeps
    with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, FROM_HEAP)
        mallopt(_M_TRIM_THRESHOLD, KEPT)
        _keeps = True


def trim() -> None:
    """Return free memory to the kernel, in a process that keeps it."""
    if _keeps:
        ctypes.CDLL(None).malloc_trim(0)
