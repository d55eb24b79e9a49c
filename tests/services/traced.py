"""A service that calls another, and ends in each way that a trace is to show."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from garrison.ipc.tracing import TRACE
from garrison.workers import Plugin, Service


class Traced(Service):
    """Calls the service that its config names."""

    service_type = "traced"

    class Config(msgspec.Struct):
        """`[services.NAME.config]`."""

        next: str = ""

    config: Config

    @property
    def other(self) -> Any:
        """Return the service that is called."""
        return self.runtime.get_service(self.config.next)

    async def ask(self, text: str) -> str:
        """Return a text that has gone through all services, each in a span of its own work."""
        if not self.config.next:
            return text.upper()
        return str(await self.other.ask(text))

    def in_thread(self, text: str) -> str:
        """Likewise, from a thread."""
        return str(self.other.ask(text).result())

    async def spawned(self, text: str) -> str:
        """Likewise, from a task that is spawned."""
        found: list[str] = []

        async def work() -> None:
            found.append(await self.other.ask(text))

        await self.spawn(work())
        return found[0]

    async def count(self, number: int) -> AsyncIterator[int]:
        """Yield numbers that the other yields."""
        if not self.config.next:
            for one in range(number):
                yield one
            return
        async for one in self.other.count(number):
            yield one

    async def post(self, text: str) -> str:
        """Post a message to the other."""
        return await self.runtime.post(self.config.next, "ask", text)

    async def refuse(self, text: str) -> None:
        """Raise an error that has the argument, and a secret, in its text."""
        raise ValueError(f"no {text} with {os.environ.get('A_TOKEN', '')}")

    async def die(self) -> None:
        """End by a signal."""
        os.kill(os.getpid(), signal.SIGKILL)

    async def call(self, method: str, *args: Any) -> Any:
        """Call any method of the other."""
        return await getattr(self.other, method)(*args)

    async def facts(self) -> dict[str, Any]:
        """Return what this process has of traces."""
        span = ""
        if (api := sys.modules.get("opentelemetry.trace")) is not None:
            span = f"{api.get_current_span().get_span_context().trace_id:032x}"
        return {
            "modules": [name for name in sys.modules if name.startswith("opentelemetry")],
            "carried": TRACE.get(),
            "span": span,
            "environ": dict(os.environ),
        }


plugin = Plugin(name="traced", services=[Traced])
