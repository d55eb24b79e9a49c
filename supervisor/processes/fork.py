"""Workers that were forked, as their parent sees them, and the descriptors of a process."""

import contextlib
import os
import signal
from collections.abc import Collection
from pathlib import Path
from resource import struct_rusage

import msgspec


class ForkedWorker(msgspec.Struct, frozen=True, eq=False):
    """A child of this process, with the cgroup that was made for it."""

    pid: int
    cgroup: Path | None

    def kill(self) -> None:
        """Kill and reap it."""
        os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the pid is still its own
        self.reap()

    def reap(self) -> tuple[int | None, struct_rusage]:
        """Wait for its end; return its wait status, and the resources that it used."""
        pid, status, usage = os.wait4(self.pid, 0)
        return status if pid == self.pid else None, usage


def open_descriptors() -> list[int]:
    """Return the descriptors that this process has open."""
    found: list[int] = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            os.fstat(int(name))
            found.append(int(name))
    return found


def close_descriptors(keep: Collection[int]) -> None:
    """Close every descriptor of this process except these."""
    for fd in open_descriptors():
        if fd not in keep:
            os.close(fd)
