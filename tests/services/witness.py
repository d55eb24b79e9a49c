"""A service that hooks call, and that reports incidents as it is ordered."""

import os
from typing import Any

from garrison.workers import Plugin, Runtime, Service


class WitnessService(Service):
    """Keeps what it was called with."""

    service_type = "witness"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.seen: list[Any] = []
        self.refuses = 0

    async def notify(self, text: str, by: str = "", id: str = "") -> str:
        """Keep a text."""
        if self.refuses:
            self.refuses -= 1
            raise ValueError("not now")
        self.seen.append([by, text, id])
        return "kept"

    async def refuse(self, times: int) -> None:
        """Refuse the next texts."""
        self.refuses = times

    async def all(self) -> list[Any]:
        """Return what was kept."""
        return self.seen

    async def report(self, event: str, reason: str, fields: dict[str, str]) -> None:
        """Report an incident."""
        self.runtime.incident(event, reason, **fields)

    async def die(self) -> None:
        """End the process."""
        os._exit(3)


plugin = Plugin(name="witness", services=[WitnessService])
