"""A service that calls another of its kind, and notes the order in which calls arrive."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from garrison.ipc import CallError, ServiceProxy
from garrison.workers import Plugin, Service, idempotent


class PairService(Service):
    """Each is caller and callee."""

    service_type = "pair"

    def __init__(self, runtime: Any = None) -> None:
        super().__init__(runtime)
        self.noted: list[int] = []
        self.outcomes: list[str] = []
        self._calling: asyncio.Task[None] | None = None

    # --- as a callee ------------------------------------------------------------------------

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def note(self, number: int) -> int:
        """Note a call."""
        self.noted.append(number)
        return number

    @idempotent
    async def again(self, number: int) -> int:
        """Return a number, however often."""
        return number

    async def order(self) -> list[int]:
        """Return what was noted."""
        return self.noted

    async def caller(self) -> str:
        """Return the NAME of the caller."""
        found = self.runtime.caller
        return found.name if found is not None else ""

    async def hang(self) -> None:
        """Return never."""
        await asyncio.Event().wait()

    async def hang_on(self, number: int) -> None:
        """Return never; print when that is given up."""
        try:
            await asyncio.Event().wait()
        finally:
            print(f"given up {number}", flush=True)

    async def echo(self, value: bytes) -> bytes:
        """Return a value."""
        return value

    async def fail(self) -> None:
        """Raise."""
        raise ValueError("no")

    async def count(self, until: int) -> AsyncIterator[int]:
        """Yield numbers."""
        for number in range(until):
            yield number

    # --- as a caller ------------------------------------------------------------------------

    def _other(self, name: str) -> ServiceProxy:
        proxy = self.runtime.get_service(name)
        assert proxy is not None
        return proxy

    async def begin(self, name: str, width: int, method: str = "note") -> None:
        """Call without end, so many at a time, each with the next number."""
        self.noted, self.outcomes = [], []
        self._calling = self.runtime.spawn(self._call_on(name, width, method))

    async def _call_on(self, name: str, width: int, method: str) -> None:
        proxy, number = self._other(name), 0
        call = getattr(proxy, method)
        while True:
            calls = [call(number + one) for one in range(width)]
            number += width
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                what = type(outcome).__name__ if isinstance(outcome, BaseException) else "ok"
                self.outcomes.append(what)

    async def made(self) -> list[str]:
        """Return the outcomes so far."""
        return self.outcomes

    async def end(self) -> list[str]:
        """Call no more; return the outcomes."""
        assert self._calling is not None
        self._calling.cancel()
        return self.outcomes

    async def of_caller(self, name: str) -> str:
        """Return what another knows of its caller."""
        return str(await self._other(name).caller())

    async def large(self, name: str, size: int) -> bool:
        """Return whether a large value comes back."""
        value = os.urandom(size)
        return bool(await self._other(name).echo(value) == value)

    async def counted(self, name: str, until: int) -> int:
        """Return the sum of a stream."""
        return sum([number async for number in self._other(name).count(until)])

    async def fails(self, name: str, method: str, timeout: float) -> str:
        """Return how a call fails."""
        try:
            async with asyncio.timeout(timeout):
                await getattr(self._other(name), method)()
        except (CallError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        return "no error"


plugin = Plugin(name="pair", services=[PairService])
