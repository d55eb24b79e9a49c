"""A service whose incarnations can be distinguished: it ticks, counts, and calls others."""

import asyncio
import os
from pathlib import Path
from typing import Any, Self

import garrison.workers.process.worker as own_worker
from garrison.ipc import CallError
from garrison.workers import Plugin, Runtime, Service, idempotent


class SteadyService(Service):
    """Ticks twenty times a second."""

    service_type = "steady"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service.ticked = 0
        service.begun = {}
        service.every(0.05, service._tick)
        if (wire := runtime.get_setting("WIRE")) is not None:
            own_worker.WIRE = int(wire)  # type: ignore[attr-defined]  # from its next Hello on
        return service

    async def _tick(self) -> None:
        self.ticked += 1

    async def ticks(self) -> int:
        """Return how often it has ticked in this life."""
        ticked: int = self.ticked
        return ticked

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    @idempotent
    async def again(self, gate: str) -> int:
        """Return how often this was begun, once a file is there; running it twice does no harm."""
        return await self._count(gate)

    async def once(self, gate: str) -> int:
        """Do the same, where running it twice may do harm."""
        return await self._count(gate)

    async def _count(self, gate: str) -> int:
        path = Path(gate)
        _note(path, f"{os.getpid()}\n")
        while not _is_there(path):  # noqa: ASYNC110 (another process makes it)
            await asyncio.sleep(0.005)
        return _note(path, "")

    @idempotent
    async def poison(self) -> None:
        """End the process, on each call."""
        os._exit(3)

    @idempotent
    async def relay_again(self, name: str, method: str, *args: Any) -> list[Any]:
        """Call another service as before; this call is sent again where it is lost itself."""
        key = f"{method} {args}"
        if key not in self.begun:  # only the first one runs; its result is returned
            self.begun[key] = asyncio.ensure_future(self.relay(name, method, *args))
        result: list[Any] = await asyncio.shield(self.begun[key])
        return result

    async def relay(self, name: str, method: str, *args: Any) -> list[Any]:
        """Call another service; return what came of it, in words."""
        proxy = self.runtime.get_service(name)
        try:
            return ["result", await getattr(proxy, method)(*args)]
        except CallError as error:
            return [type(error).__name__, str(error)]


def _note(gate: Path, text: str) -> int:
    """Write down that it has begun; return how often it has."""
    with gate.with_suffix(".begun").open("a+") as begun:
        begun.write(text)
        begun.seek(0)
        return len(begun.read().split())


def _is_there(gate: Path) -> bool:
    return gate.exists()


plugin = Plugin(name="steady", services=[SteadyService])
