"""Gives orders from inside, is slow to stop, holds its end up, and starts with work to do."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from garrison.workers import Plugin, Service

COMMAND = (sys.executable, "-m", "garrison.supervisor.cli", "--json")


class OrderlyService(Service):
    """Its `Config` is plain: `stop` (seconds), `cpu` (seconds of its start), `load` (steps)."""

    service_type = "orderly"

    @classmethod
    async def start(cls, runtime: Any) -> "OrderlyService":
        """Use the processor, then load in steps that each extend the start."""
        until = time.process_time() + runtime.config.get("cpu", 0.0)
        while time.process_time() < until:
            pass
        for step in range(runtime.config.get("load", 0)):
            runtime.extend(5.0, f"loading step {step}")
            await asyncio.sleep(0.2)
        await asyncio.sleep(runtime.config.get("sleep", 0.0))
        return cls(runtime)

    async def stop(self) -> None:
        """Take the configured time; longer than the grace, it asks for more."""
        seconds = self.runtime.config.get("stop", 0.0)
        if seconds and self.runtime.config.get("extends"):
            self.runtime.extend(seconds + 5.0, "flushing")
        await asyncio.sleep(seconds)

    async def order(self, home: str, *words: str) -> str:
        """Run a command as an agent with a terminal does; return what it prints."""
        command = (*COMMAND, "--home", home, *words)
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        return out.decode()

    async def restart(self) -> Any:
        """Restart this service by its own connection; return the answer."""
        return await self.runtime.client.order("restart", (self.runtime.name,), why="by itself")

    async def restarted_by(self) -> list[Any] | None:
        """Return the order that this incarnation was started by."""
        by = self.runtime.restarted_by
        return None if by is None else [by.who, by.why, by.when]

    async def hang(self) -> None:
        """Return late."""
        await asyncio.sleep(60)

    async def resist(self) -> None:
        """Swallow each cancellation."""
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    async def ticks(self) -> AsyncIterator[int]:
        """Yield without end."""
        number = 0
        while True:
            yield number
            number += 1
            await asyncio.sleep(0.02)


plugin = Plugin(name="orderly", services=[OrderlyService])
