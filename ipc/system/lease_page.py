"""The page that says until when the workers of a node may run: the node writes, workers read.

It is a file of eight bytes that all of them have mapped, so a renewal reaches every worker at once,
also one whose loop is blocked. Times are nanoseconds of CLOCK_BOOTTIME, which goes on while the
machine sleeps and which cannot be set; 0 is over.
"""

import mmap
import os
import time
from pathlib import Path

BYTES = 8
CLOCK_BOOTTIME = time.CLOCK_BOOTTIME


def boottime_ns() -> int:
    """Return the time by the clock of leases."""
    return time.clock_gettime_ns(CLOCK_BOOTTIME)


class LeaseWriter:
    """The node's side. A file that is there is written on: workers have it mapped.

    Args:
        path: Where the file is, or is created; every user may read it.

    Raises:
        OSError: It cannot be created or mapped.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o644)
        try:
            if os.fstat(descriptor).st_size < BYTES:
                os.ftruncate(descriptor, BYTES)
            self._map = mmap.mmap(descriptor, BYTES)
        finally:
            os.close(descriptor)
        self._word = memoryview(self._map).cast("Q")  # one aligned store: no reader sees half

    @property
    def until_ns(self) -> int:
        """Return until when workers may run."""
        return self._word[0]

    def set(self, until_ns: int) -> None:
        """Let workers run until then; 0 ends them."""
        self._word[0] = until_ns

    def close(self) -> None:
        """Release the page; what it says stays."""
        self._word.release()
        self._map.close()


class LeaseReader:
    """A worker's side.

    Args:
        path: Of the file.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            page = mmap.mmap(descriptor, BYTES, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        self._word = memoryview(page).cast("Q")

    @property
    def until_ns(self) -> int:
        """Return until when this process may run."""
        return self._word[0]

    @property
    def is_over(self) -> bool:
        """Return whether it may not run any more."""
        return boottime_ns() >= self._word[0]
