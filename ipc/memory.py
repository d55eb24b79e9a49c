"""What the C library keeps of the memory that large messages used, and gives back after them.

glibc asks the kernel anew for each large buffer and returns it after: a page fault for every 4 KiB
of every message, which costs more than copying it. With another C library nothing is done.
Sizes are bytes, times are monotonic seconds.
"""

import contextlib
import ctypes
from math import inf

KEPT = 64 << 20  # free memory at a heap's end that is not returned at once
FROM_HEAP = 32 << 20  # a larger buffer is mapped by itself: glibc allows no more
QUIET_S = 2.0  # after the last large message: what is free is returned

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_kept = False


def keep() -> None:
    """Have this process, and those that it forks, use the memory of large messages again."""
    global _kept
    with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, FROM_HEAP)
        mallopt(_M_TRIM_THRESHOLD, KEPT)
        _kept = True


def give_back() -> None:
    """Return what is free to the kernel; in a process that keeps nothing, leave it alone."""
    if _kept:
        ctypes.CDLL(None).malloc_trim(0)


class Quiet:
    """Tells when large messages have ceased for a while."""

    def __init__(self) -> None:
        self._last = -inf
        self.due = inf

    def passed(self, now: float) -> bool:
        """Note a large message; tell whether it is the first for a while."""
        self._last = now
        if self.due != inf:
            return False
        self.due = now + QUIET_S
        return True

    def over(self, now: float) -> bool:
        """Tell, when it is due, whether there was none since; otherwise it is due later."""
        self.due = self._last + QUIET_S
        if now < self.due:
            return False
        self.due = inf
        return True
