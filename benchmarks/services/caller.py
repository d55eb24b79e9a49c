"""The service that calls another from its own worker, and says how long it took, in seconds."""

import asyncio
import os
import time
from typing import Any

from garrison.ipc.messages import encode
from garrison.ipc.stream_link import StreamLink
from garrison.workers import Plugin, Service

BATCHED = StreamLink.send
SMALL: dict[str, Any] = {"text": "My mother takes care of me.", "room": "lobby", "number": 7}


def alone(link: StreamLink, peer: bytes, message: Any) -> None:
    """Send a message at once, whatever else this turn will send to the same peer."""
    link._post(peer, [encode([message])])


class Caller(Service):
    """Calls another service as an author's code does, and says how long it took."""

    service_type = "caller"

    async def one_by_one(self, name: str, text: str, count: int) -> list[float]:
        """Return the time of each call, made one after another."""
        echo = self.runtime.get_service(name)
        assert echo is not None
        times: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            await echo.echo(text)
            times.append(time.perf_counter() - began)
        return times

    async def small(self, name: str, count: int) -> list[float]:
        """Return the time of each call with a small dict, made one after another."""
        echo = self.runtime.get_service(name)
        assert echo is not None
        times: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            await echo.value(SMALL)
            times.append(time.perf_counter() - began)
        return times

    async def small_side_by_side(self, name: str, count: int, width: int) -> float:
        """Return the time of so many calls with a small dict, `width` of them in flight."""
        echo = self.runtime.get_service(name)
        assert echo is not None

        async def some() -> None:
            for _ in range(count // width):
                await echo.value(SMALL)

        began = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(width)))
        return time.perf_counter() - began

    async def with_bytes(self, name: str, size: int, count: int) -> float:
        """Return the time of so many calls with that many bytes each way, one after another."""
        echo = self.runtime.get_service(name)
        assert echo is not None
        data = os.urandom(size)
        began = time.perf_counter()
        for _ in range(count):
            if len(await echo.same(data)) != size:
                raise ValueError("other bytes came back")
        return time.perf_counter() - began

    async def batch(self, batched: bool) -> None:
        """Send what a turn of this worker's loop queues as one message, or each by itself."""
        StreamLink.send = BATCHED if batched else alone  # type: ignore[assignment, method-assign]

    async def side_by_side(self, name: str, text: str, count: int, width: int) -> float:
        """Return the time of so many calls, `width` of them in flight."""
        echo = self.runtime.get_service(name)
        assert echo is not None

        async def some() -> None:
            for _ in range(count // width):
                await echo.echo(text)

        began = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(width)))
        return time.perf_counter() - began


plugin = Plugin(name="caller", services=[Caller])
