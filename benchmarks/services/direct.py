"""The experiment of calls without a hop: a service that others reach over a socket of its own.

Everything but the way is garrison's own: proxies, the table of calls, `Link` with its batches,
`Dispatch`. What stands for the grant of a route is that the benchmark tells both sides the path.
"""

import asyncio
import os
import signal
import time
from typing import Any

import zmq

from garrison.ipc import ServiceLost, sockets
from garrison.ipc.link import Link
from garrison.ipc.messages import Token
from garrison.workers import Plugin, Service

GAP_S = 0.002  # between two answers


class Ways:
    """Stands in the place of the link to the bus: the direct way to those who have one.

    Args:
        bus: The link to the supervisor's router, for everybody else.
    """

    def __init__(self, bus: Link) -> None:
        self.bus = bus
        self.direct: dict[Token, Link] = {}

    def send(self, peer: Token, message: Any) -> None:
        """Queue a message to a peer."""
        self.direct.get(peer, self.bus).send(peer, message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)


class Door(Link):
    """The callee's end: a ROUTER of its own, which puts its token where the supervisor would."""

    token: Token = b""

    def _post(self, frames: list[bytes]) -> None:
        super()._post([frames[0], self.token, frames[1]])


class Direct(Service):
    """Calls its like, and is called, over the router or without it."""

    service_type = "direct"

    async def echo(self, text: str) -> str:
        """Return the text."""
        return text

    async def listen(self, path: str) -> None:
        """Open a socket of this worker's own."""
        session: Any = self.runtime.client.session
        context = session.bus._socket.context
        ways = session.bus = Ways(session.bus)
        router = context.socket(zmq.ROUTER)
        router.set(zmq.ROUTER_MANDATORY, 1)
        router.set(zmq.LINGER, sockets.LINGER_MS)
        router.set(zmq.SNDHWM, sockets.PEER_QUEUE)
        router.set(zmq.RCVHWM, sockets.PEER_QUEUE)
        router.bind(f"ipc://{path}")

        def receive(frames: list[bytes]) -> None:
            if len(frames) == 2:  # its probe: somebody connected
                ways.direct[frames[0]] = self._door
            else:
                session.on_bus([frames[0], frames[2]])

        self._door = Door(router, receive, session.malformed)
        self._door.token = session.token

    async def connect(self, name: str, path: str) -> None:
        """Have a way to another service without the router; it is used from `go_direct` on."""
        session: Any = self.runtime.client.session
        entry = session.directory.get(name)
        context, most = session.bus._socket.context, session.limits.max_message
        socket = sockets.dealer(context, path, session.token, most)
        self._way = entry.token, Link(socket, session.on_bus, session.malformed)
        session.bus = Ways(session.bus)

    async def go_direct(self, direct: bool) -> None:
        """Use the one way or the other."""
        token, link = self._way
        bus: Any = self.runtime.client.session.bus
        if direct:
            bus.direct[token] = link
        else:
            bus.direct.pop(token, None)

    async def one_by_one(self, name: str, text: str, count: int) -> list[float]:
        """Return the time of each call, made one after another."""
        other = self.runtime.get_service(name)
        assert other is not None
        times: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            await other.echo(text)
            times.append(time.perf_counter() - began)
        return times

    async def side_by_side(self, name: str, text: str, count: int, width: int) -> float:
        """Return the time of so many calls, `width` of them in flight."""
        other = self.runtime.get_service(name)
        assert other is not None

        async def some() -> None:
            for _ in range(count // width):
                await other.echo(text)

        began = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(width)))
        return time.perf_counter() - began

    async def answer_and_die(self, place: int, count: int) -> int:
        """Answer one call after the other, each in a turn of its own; be killed after the last."""
        await asyncio.sleep(place * GAP_S)
        if place == count - 1:
            asyncio.get_running_loop().call_later(10 * GAP_S, os.kill, os.getpid(), signal.SIGKILL)
        return place

    async def late_reader(self, name: str, count: int) -> int:
        """Make these calls, look at nothing until that is over, and return how many were lost."""
        other = self.runtime.get_service(name)
        assert other is not None
        calls = [other.answer_and_die(place, count) for place in range(count)]
        await asyncio.sleep(0)
        time.sleep((count + 100) * GAP_S)  # noqa: ASYNC251 (a busy loop is what is meant)
        ends = await asyncio.gather(*calls, return_exceptions=True)
        return sum(isinstance(end, ServiceLost) for end in ends)


plugin = Plugin(name="direct", services=[Direct])
