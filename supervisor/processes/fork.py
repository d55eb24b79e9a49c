"""Forked child processes of the launcher, with the resources that each of them used."""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from multiprocess import popen_fork
from multiprocess.context import ForkProcess


class Popen(popen_fork.Popen):  # type: ignore[misc]  # multiprocess ships no types
    """A fork that keeps its wait status and resource usage.

    Attributes:
        status: Wait status; None while it runs.
        usage: As `os.wait4` returns it.
    """

    pid: int
    returncode: int | None
    usage: Any = None
    status: int | None = None

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Reap the process if `join` calls this; `start` of another process must not reap it."""
        if self.returncode is None and not flag & os.WNOHANG:
            pid, status, usage = os.wait4(self.pid, flag)
            if pid == self.pid:
                self.status, self.usage = status, usage
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class ForkedProcess(ForkProcess):  # type: ignore[misc]
    """A forked process, with the cgroup that was made for it."""

    cgroup: Path | None = None

    @staticmethod
    def _Popen(process_obj: Any) -> Popen:
        return Popen(process_obj)


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
