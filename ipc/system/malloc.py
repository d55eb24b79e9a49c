"""What the C library keeps of freed memory, and when it is returned to the kernel.

glibc maps each large buffer anew and returns it when it is freed: one page fault for every 4 KiB of
every message, which costs more than copying. So freed memory is kept while large messages pass,
and returned after they have stopped. With another C library nothing is done. Sizes are bytes, times
are monotonic seconds.
"""

import contextlib
import ctypes
import threading
from math import inf

KEPT = 64 << 20  # free memory at the end of a heap that is kept
FROM_HEAP = 32 << 20  # a larger buffer is always mapped: the maximum of glibc
IDLE_S = 2.0  # after the last large message, free memory is returned

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


def trim_in_background() -> None:
    """Return free memory to the kernel from a thread.

    It takes about 0.2 ms per MiB, and blocks only the threads whose memory it is: in a router that
    is libzmq's own thread.
    """
    threading.Thread(target=trim, name="memory", daemon=True).start()


class IdleTrimmer:
    """Decides when large messages have stopped.

    Attributes:
        due: When to call `is_idle`; infinite if there was no large message.
    """

    def __init__(self) -> None:
        self._last = -inf
        self.due = inf

    def note_large(self, now: float) -> bool:
        """Note a large message; return True if `due` was set by it."""
        self._last = now
        if self.due != inf:
            return False
        self.due = now + IDLE_S
        return True

    def is_idle(self, now: float) -> bool:
        """Return True if large messages have stopped; otherwise set a later `due`."""
        self.due = self._last + IDLE_S
        if now < self.due:
            return False
        self.due = inf
        return True
