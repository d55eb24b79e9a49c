"""A service that loads the host in every way it can, is slow or stuck, or measures the others."""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Raw

from garrison.ipc import CallError, messages
from garrison.workers import Plugin, Runtime, Service, with_timeout

EVENT = "poured"
AT_ONCE = 64  # messages of one turn of the loop
FLOODING = 512  # calls that a flood keeps under way: twice the window
LOST_S = 1.0  # the deadline of a flood's calls


class LoadService(Service):
    """Floods, is flooded, or measures."""

    service_type = "load"

    def __init__(self, runtime: Runtime | None = None) -> None:
        super().__init__(runtime)
        self.made, self.until, self.under_way = 0, 0.0, 0
        if runtime is not None:
            runtime.register_event(EVENT, self._heard)

    async def _heard(self, payload: Any) -> None:
        """Take an event."""

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def echo(self, value: Any = None) -> Any:
        """Return the value."""
        return value

    async def size(self, value: bytes) -> int:
        """Return how many bytes came."""
        return len(value)

    async def slow(self, value: bytes, seconds: float) -> int:
        """Return that later."""
        await asyncio.sleep(seconds)
        return len(value)

    async def never(self) -> None:
        """Hang without blocking anything."""
        await asyncio.Event().wait()

    async def block(self, seconds: float) -> None:
        """Block the loop, once this is answered."""
        asyncio.get_running_loop().call_later(0.01, time.sleep, seconds)

    # --- measuring --------------------------------------------------------------------------

    async def timed(self, name: str, seconds: float, rest: float) -> list[float]:
        """Call another service again and again, so long; return how long each call took."""
        other = self.runtime.get_service(name)
        assert other is not None
        times: list[float] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.perf_counter()
            await other.echo(began)
            times.append(time.perf_counter() - began)
            await asyncio.sleep(rest)
        return times

    async def crowd(
        self, name: str, method: str, size: int, callers: int, timeout: float, *rest: Any
    ) -> dict[str, list[float]]:
        """Have so many call another service side by side; return how each call ended, and when."""
        other = self.runtime.get_service(name)
        assert other is not None
        call, ends = getattr(with_timeout(other, timeout), method), dict[str, list[float]]()
        value = bytes(size)

        async def one() -> None:
            began, outcome = time.monotonic(), "answered"
            try:
                await call(value, *rest)
            except CallError as error:
                outcome = type(error).__name__
            ends.setdefault(outcome, []).append(time.monotonic() - began)

        await asyncio.gather(*(one() for _ in range(callers)))
        return ends

    # --- flooding ---------------------------------------------------------------------------

    async def flood(self, kind: str, name: str, seconds: float) -> None:
        """Flood at full speed for so long, in the background."""
        work = {
            "calls": self._calls,
            "events": self._events,
            "control": self._control,
            "garbage": self._garbage,
            "unbounded": self._unbounded,
        }[kind]
        self.made, self.until = 0, time.monotonic() + seconds
        self.spawn(work(name))

    async def flooded(self) -> int:
        """Return how many messages the flood had, once it is over."""
        while time.monotonic() < self.until or self.under_way:  # noqa: ASYNC110 (once a test)
            await asyncio.sleep(0.05)
        return self.made

    async def _side_by_side(self, one: Callable[[], Awaitable[Any]]) -> None:
        async def again() -> None:
            while time.monotonic() < self.until:
                try:
                    await one()
                except CallError:
                    await asyncio.sleep(0)
                self.made += 1

        await self._to_its_end(asyncio.gather(*(again() for _ in range(FLOODING))))

    async def _to_its_end(self, work: Awaitable[Any]) -> None:
        self.under_way += 1
        try:
            await work
        finally:
            self.under_way -= 1

    async def _calls(self, name: str) -> None:
        other = self.runtime.get_service(name)
        assert other is not None
        await self._side_by_side(with_timeout(other, LOST_S).echo)

    async def _events(self, name: str) -> None:
        await self._side_by_side(lambda: self.runtime.emit_event(EVENT, name))

    async def _control(self, name: str) -> None:
        """Send every message of a worker about itself repeatedly, always with other values."""
        client = self.runtime.client
        own = client.entry_of(self.runtime.name)
        link: Any = client.session.control
        assert own is not None
        while await self._goes_on(link):
            described = msgspec.structs.replace(own.manifest, description=f"number {self.made}")
            client.session.send(messages.Beat(self.made, 1, 0, {"made": float(self.made)}))
            client.session.send(messages.Subscribe((EVENT, f"event-{self.made}")))
            client.session.send(messages.Ready(described))
            client.session.send(messages.Hello(messages.WIRE, name, self.made, os.getpid()))

    async def _garbage(self, name: str) -> None:
        """Send what is no message, to both sockets."""
        client = self.runtime.client
        rng, entry = random.Random(1), client.entry_of(name)
        bus: Any = client.session.bus
        control: Any = client.session.control
        assert entry is not None
        pieces = [rng.randbytes(rng.randrange(1, 200)) for _ in range(100)]
        while await self._goes_on(bus, control):
            piece = pieces[self.made % 100]
            control._post_frames([messages.SUPERVISOR, piece] if self.made % 3 else [piece])
            bus._post_frames([entry.token, piece] if self.made % 5 else [piece])

    async def _unbounded(self, name: str) -> None:
        """Send calls past every window, each as a message of its own."""
        client = self.runtime.client
        entry = client.entry_of(name)
        bus: Any = client.session.bus
        assert entry is not None
        args = Raw(messages.encode([bytes(100)]))
        while await self._goes_on(bus):
            call = messages.Call(2**40 + self.made, "echo", args, messages.EMPTY_MAP, LOST_S)
            bus._post_frames([entry.token, messages.encode([call])])

    async def _goes_on(self, *links: Any) -> bool:
        """Count a turn; now and then, and at the end, let the loop turn and what was sent leave."""
        self.made += 1
        is_over = time.monotonic() >= self.until
        if is_over or self.made % AT_ONCE == 0:
            await asyncio.sleep(0)
            while any(link._backlog for link in links):  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0.001)
            for link in links:  # what was posted behind its back may have swallowed an edge
                link._note_use()
        return not is_over


plugin = Plugin(name="load", services=[LoadService])
