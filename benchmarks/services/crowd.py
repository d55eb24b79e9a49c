"""A service that is held up, floods, or says how long the calls of others take; in seconds."""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Raw

from garrison.ipc import CallError, ServiceLost, messages
from garrison.workers import Plugin, Runtime, Service, with_timeout

EVENT = "poured"
FLOODING = 512  # calls, posts or events that a flood keeps under way: twice the window
AT_ONCE = 64  # messages of one turn of the loop
LOST_S = 1.0  # the deadline of a flood's calls
LONG_S = 600.0


class Crowd(Service):
    """Each instance has one of these parts."""

    service_type = "crowd"
    _work: asyncio.Future[Any] | None = None

    def __init__(self, runtime: Runtime | None = None) -> None:
        super().__init__(runtime)
        self.made = 0
        if runtime is not None:
            runtime.register_event(EVENT, self._heard)

    async def _heard(self, payload: Any) -> None:
        """Take an event."""

    def _other(self, name: str, seconds: float) -> Any:
        other = self.runtime.get_service(name)
        assert other is not None
        return with_timeout(other, seconds)

    # --- what is called ---------------------------------------------------------------------

    async def echo(self, value: Any) -> int:
        """Be called with a value that may be large."""
        return 0

    async def slow(self, value: Any, seconds: float = 0.5) -> int:
        """Return later."""
        await asyncio.sleep(seconds)
        return 0

    async def pid(self) -> int:
        """Return the worker's process id."""
        return os.getpid()

    async def never(self) -> None:
        """Hang without blocking anything."""
        await asyncio.Event().wait()

    async def block(self, seconds: float) -> None:
        """Block the loop, once this is answered."""
        asyncio.get_running_loop().call_later(0.01, time.sleep, seconds)

    # --- what is measured -------------------------------------------------------------------

    async def timed(self, name: str, seconds: float, rest: float) -> list[float]:
        """Call another service again and again, so long; return how long each call took."""
        other = self._other(name, LONG_S)
        times: list[float] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.perf_counter()
            await other.echo(0)
            times.append(time.perf_counter() - began)
            await asyncio.sleep(rest)
        return times

    async def lost(self, name: str) -> float:
        """Call a method that never returns; return when its callee's end was learned of, on the
        clock that all processes of the machine share."""
        with contextlib.suppress(ServiceLost):
            await self._other(name, LONG_S).never()
        return time.monotonic()

    # --- what gets in the way ---------------------------------------------------------------

    async def press(
        self, name: str, method: str, size: int, width: int, deadline: float, seconds: float
    ) -> int:
        """Keep so many calls of another service under way for so long; return how many ended."""
        call = getattr(self._other(name, deadline), method)
        value, until = bytes(size), time.monotonic() + seconds
        ended = 0

        async def again() -> None:
            nonlocal ended
            while time.monotonic() < until:
                try:
                    await call(value)
                except CallError:
                    await asyncio.sleep(deadline / 10)  # one that was refused at once, too
                ended += 1

        await asyncio.gather(*(again() for _ in range(width)))
        return ended

    async def flood(self, kind: str, name: str) -> None:
        """Flood at full speed, in the background, until `calm`."""
        other = self._other(name, LOST_S)
        kinds: dict[str, Callable[[], Awaitable[Any]]] = {
            "calls": lambda: self._side_by_side(lambda: other.echo(0)),
            "posts": lambda: self._side_by_side(lambda: self.runtime.post(name, "echo", 0)),
            "events": lambda: self._side_by_side(lambda: self.runtime.emit_event(EVENT, name)),
            "heartbeats": self._heartbeats,
            "reports": self._reports,
            "unbounded": lambda: self._unbounded(name),
        }
        self.made = 0
        self._work = asyncio.ensure_future(kinds[kind]())

    async def calm(self) -> int:
        """End the flood; return how many messages it had."""
        work, self._work = self._work, None
        if work is not None and not work.done():
            work.cancel()
        elif work is not None:
            work.result()
        return self.made

    async def _side_by_side(self, one: Callable[[], Awaitable[Any]]) -> None:
        async def again() -> None:
            while True:
                try:
                    await one()
                except CallError:
                    await asyncio.sleep(0)
                self.made += 1

        await asyncio.gather(*(again() for _ in range(FLOODING)))

    async def _heartbeats(self) -> None:
        client = self.runtime.client
        while True:
            client.session.send(messages.Beat(self.made, 1, 0, {"made": float(self.made)}))
            await self._turn(client.session.control)

    async def _reports(self) -> None:
        """Send every message of a worker about itself, always with other values."""
        client = self.runtime.client
        while True:
            client.session.send(messages.Subscribe((EVENT, f"event-{self.made}")))
            client.session.send(messages.Beat(self.made, 1, 0, {"made": float(self.made)}))
            await self._turn(client.session.control)

    async def _unbounded(self, name: str) -> None:
        """Send calls past every window, each as a message of its own."""
        client = self.runtime.client
        entry = client.entry_of(name)
        bus: Any = client.session.bus
        assert entry is not None
        args = Raw(messages.encode([0]))
        while True:
            call = messages.Call(2**40 + self.made, "echo", args, messages.EMPTY_MAP, LOST_S)
            bus._post_frames([entry.token, messages.encode([call])])
            await self._turn(bus)

    async def _turn(self, link: Any) -> None:
        """Count a message; now and then, let the loop turn and what was sent leave."""
        self.made += 1
        if self.made % AT_ONCE == 0:
            await asyncio.sleep(0)
            while link._backlog:  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0.001)
            link._note_use()  # what was posted behind its back may have taken a signal


plugin = Plugin(name="crowd", services=[Crowd])
