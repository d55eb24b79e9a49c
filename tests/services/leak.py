"""A service that leaves processes behind, as far from itself as they can get."""

import os
import signal
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
        service.child = subprocess.Popen(FOREVER, start_new_session=True)
        service.deaf = subprocess.Popen(
            FOREVER, preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)
        )
        service.daemon = daemon(Path(f"daemon-{os.getpid()}.pid"))
        return service

    async def family(self) -> list[int]:
        """Return the pids of what it started."""
        return [self.child.pid, self.deaf.pid, self.daemon]

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def exit(self, code: int) -> None:
        """End at once and leave everything behind."""
        os._exit(code)


def daemon(note: Path) -> int:
    """Start a process that forked twice, in a session of its own; return its pid."""
    subprocess.run(["sh", "-c", f"setsid {' '.join(FOREVER)} & echo $! > {note}"], check=True)
    while not (text := note.read_text().strip()):
        time.sleep(0.01)
    note.unlink()
    return int(text)


plugin = Plugin(name="leak", services=[LeakService])
