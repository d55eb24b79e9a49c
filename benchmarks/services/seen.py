"""A service that is called, and writes twenty times a second that it runs."""

import os
import time
from typing import Any, Self

from garrison.workers import Plugin, Runtime, Service

EACH_S = 0.05


class Seen(Service):
    """Gives back what it is given."""

    service_type = "seen"
    file: int

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Begin to write."""
        service = cls(runtime)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        service.file = os.open(os.environ["SEEN_FILE"], flags, 0o600)
        service.every(EACH_S, service._write)
        return service

    async def _write(self) -> None:
        os.write(self.file, f"{os.environ['GARRISON_INCARNATION']} {time.monotonic()}\n".encode())

    async def value(self, value: Any) -> Any:
        """Return the value."""
        return value


plugin = Plugin(name="seen", services=[Seen])
