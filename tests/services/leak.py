"""A service that leaves processes behind, as far from itself as they can get."""

import os
import subprocess
import time
from pathlib import Path
from typing import Self

from garrison.workers import Plugin, Runtime, Service

FOREVER = ("sleep", "100000")


class LeakService(Service):
    """Starts a child in a session of its own, a daemon, and a child that takes no TERM."""

    service_type = "leak"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service.children = [child(), deaf(), daemon(Path(f"daemon-{os.getpid()}.pid"))]
        return service

    async def family(self) -> list[int]:
        """Return the pids of what it started."""
        children: list[int] = self.children
        return children

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def exit(self, code: int) -> None:
        """End at once and leave everything behind."""
        os._exit(code)


def child() -> int:
    """Start a process in a session of its own; return its pid."""
    return subprocess.Popen(FOREVER, start_new_session=True).pid


def deaf() -> int:
    """Start a process that takes no TERM; return its pid."""
    ignoring = ("sh", "-c", f"trap '' TERM; exec {' '.join(FOREVER)}")
    return subprocess.Popen(ignoring).pid


def daemon(note: Path) -> int:
    """Start a process that forked twice, in a session of its own; return its pid."""
    subprocess.run(["sh", "-c", f"setsid {' '.join(FOREVER)} & echo $! > {note}"], check=True)
    while not (text := note.read_text().strip()):
        time.sleep(0.01)
    note.unlink()
    return int(text)


plugin = Plugin(name="leak", services=[LeakService])
