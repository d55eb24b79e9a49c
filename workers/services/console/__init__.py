"""The console: this host in a browser.

`server` listens, `app` finds the page of a request, `visit` is what a page can do, and `pages` are
the pages. Its libraries are imported by `start`, or before that in the launcher.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Self

from garrison.workers import Plugin, Runtime, Service, load_library

from .config import ConsoleConfig

if TYPE_CHECKING:
    from .running import Running

REQUIREMENTS = ("jinja2>=3.1", "starlette>=1.0", "uvicorn>=0.40")


class ConsoleService(Service):
    """Shows this host in a browser."""

    service_type = "console"
    capability_description = "Shows this host in a browser: services, logs, mail, and what to do"
    Config = ConsoleConfig

    config: ConsoleConfig
    _running: "Running"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        for module in ("jinja2", "starlette", "uvicorn"):
            load_library(module, *REQUIREMENTS)
        from .running import Running

        service._running = Running(runtime, service.config)
        await service._running.start()
        return service

    async def address(self) -> dict[str, Any]:
        """Return where the console listens."""
        return {"address": self._running.address}

    async def forget_person(self, source: str, person: str) -> dict[str, int]:
        """Delete a person's chats in the console; return how many.

        Args:
            source: NAME of the chat service.
            person: The id there: the name of the user of this machine.
        """
        return {"chats of the console": await self._running.talks.forget_person(source, person)}

    async def export_person(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the texts of a person's chats in the console; `store` is the kind."""
        async for row in self._running.talks.export_person(source, person):
            yield row

    async def stop(self) -> None:
        """End streams first: the server would wait for them."""
        await asyncio.shield(self._running.stop())


plugin = Plugin(
    name="console",
    services=[ConsoleService],
    preload=["garrison.workers.services.console.warm"],
)
