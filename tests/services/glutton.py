"""A service that uses memory and processes on request, itself or through processes that it starts.

Sizes are MiB, durations are seconds.
"""

import asyncio
import ctypes
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from garrison.workers import Plugin, Runtime, Service

MIB = 1 << 20
KEEPS = "import sys, time; kept = b'x' * (int(sys.argv[1]) << 20); time.sleep(100000)"
PR_GET_NO_NEW_PRIVS = 39


class GluttonService(Service):
    """Takes memory and processes."""

    service_type = "glutton"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service.kept = []
        service.children = []
        return service

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def keep(self, size: int) -> None:
        """Take memory at once."""
        self.kept.append(b"x" * (size * MIB))

    async def keep_and_block(self, size: int) -> None:
        """Take memory at once, and do nothing else afterwards, so that no drain ends it."""
        self.kept.append(b"x" * (size * MIB))
        time.sleep(60)  # noqa: ASYNC251

    async def grow(self, to: int, step: int, pause: float) -> None:
        """Take memory bit by bit, for as long as that takes."""
        for _ in range(0, to, step):
            self.kept.append(b"x" * (step * MIB))
            await asyncio.sleep(pause)

    async def grow_aside(self, to: int, step: int, pause: float) -> None:
        """Do so in the background, which a drain ends."""
        self.runtime.spawn(self.grow(to, step, pause))

    async def have_kept(self, size: int) -> None:
        """Let an orphaned grandchild in its own session allocate memory."""
        grandchild(size)

    async def share(self, size: int, children: int) -> None:
        """Take memory, and fork children that have the same pages."""
        self.kept.append(b"x" * (size * MIB))
        for _ in range(children):
            self.children.append(child())

    async def multiply(self, count: int) -> None:
        """Start so many processes, each in a session of its own."""
        many(count)

    async def itself(self) -> dict[str, Any]:
        """Return what it is held to, as it sees that itself."""
        return held_to()


def grandchild(size: int) -> None:
    """Let an orphaned process in its own session allocate memory."""
    words = [sys.executable, "-c", KEEPS, str(size)]
    start = f"import subprocess; subprocess.Popen({words!r}, start_new_session=True)"
    subprocess.run([sys.executable, "-c", start], check=True)


def child() -> int:
    """Fork a child that has all of this process's pages; return its pid."""
    pid = os.fork()
    if not pid:
        time.sleep(100000)
        os._exit(0)
    return pid


def many(count: int) -> None:
    """Start so many processes, each in a session of its own."""
    for _ in range(count):
        subprocess.Popen(["sleep", "100000"], start_new_session=True)


def held_to() -> dict[str, Any]:
    """Return the limits of this process, and those that a child reports."""
    mask = os.umask(0)
    os.umask(mask)
    command = ["sh", "-c", "umask; nice; ulimit -n; cat /proc/self/oom_score_adj; pwd"]
    return {
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "oom_score_adj": int(Path("/proc/self/oom_score_adj").read_text()),
        "umask": mask,
        "folder": str(Path.cwd()),
        "no_new_privs": ctypes.CDLL(None).prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
        "child": subprocess.run(command, capture_output=True, check=True).stdout.decode().split(),
    }


plugin = Plugin(name="glutton", services=[GluttonService])
