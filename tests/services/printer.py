"""A service that writes into its log in every way there is."""

import logging
import os
import subprocess
import sys

from garrison.workers import Plugin, Service

log = logging.getLogger(__name__)


class PrinterService(Service):
    """Prints."""

    service_type = "printer"

    async def say(self, text: str, times: int = 1) -> int:
        """Print, log and flush so often; return how often nothing of that raised."""
        done = 0
        for _ in range(times):
            print(text)
            print(text, file=sys.stderr, flush=True)
            log.warning("%s", text)
            sys.stdout.buffer.write(text.encode() + b"\n")
            sys.stdout.flush()
            done += 1
        return done

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def child(self, text: str) -> int:
        """Have another process write; return its exit code."""
        return subprocess.run(["echo", text], check=False).returncode  # noqa: ASYNC221

    async def fail(self) -> None:
        """Raise, with a text that is known."""
        raise LookupError("no such page")


plugin = Plugin(name="printer", services=[PrinterService])
