"""Waits for the supervisor's inputs: connections of the bus in one epoll, and in another one, for
which the first waits as well, sockets of ZeroMQ and plain descriptors.

libzmq signals at a socket's descriptor that it has commands for the socket, not that a message has
arrived. Any call to the socket takes them, and no further signal comes before the socket was found
empty. So before each wait, `unread` looks into the sockets that were used since they were found
empty.
"""

import select
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

import zmq

from garrison.ipc.sockets import EVENTS, POLLIN
from garrison.supervisor.bus.endpoints import BusRouters, RouterSet
from garrison.supervisor.bus.streams import StreamRouter, Streams

Socket: TypeAlias = "zmq.Socket[bytes]"


class Planes(Protocol):
    """The sockets of both planes; see `bus.endpoints.Endpoints`."""

    @property
    def control(self) -> RouterSet[Socket]:
        """Return those of the control plane."""
        ...

    @property
    def bus(self) -> BusRouters:
        """Return those of the bus."""
        ...


class Inputs:
    """What the supervisor waits for.

    Args:
        streams: Waits for the connections of the bus.

    Attributes:
        bus: The bus's sockets of ZeroMQ, by their descriptors.
        control: Those of the control plane.
    """

    def __init__(self, streams: Streams | None = None) -> None:
        self._streams = streams or Streams()
        self._epoll = select.epoll()
        self._streams.watch_other(self._epoll.fileno())
        self._plain: list[int] = []
        self.bus: dict[int, Socket] = {}
        self.control: dict[int, Socket] = {}
        self._routers: tuple[tuple[Socket, ...], ...] = ()
        self._held = False  # nothing is read from the control plane for now

    def watch(self, endpoints: Planes, lasting: Sequence[int], changing: Sequence[int]) -> None:
        """Wait for these from now on.

        Args:
            endpoints: The sockets of both planes.
            lasting: Descriptors that stay open.
            changing: Descriptors that may belong to other files than at the last call.
        """
        control = endpoints.control.all
        bus = tuple(one for one in endpoints.bus.all if not isinstance(one, StreamRouter))
        plain = [*lasting, *changing]
        if (control, bus) == self._routers and plain == self._plain and self._has(changing):
            return
        if (control, bus) != self._routers:
            self._routers = control, bus
            self.control = {int(one.get(zmq.FD)): one for one in control}
            self.bus = {int(one.get(zmq.FD)): one for one in bus}
        self._plain = plain
        self._epoll.close()
        self._epoll = select.epoll()
        self._streams.watch_other(self._epoll.fileno())
        for fd in {*self.bus, *plain}:
            self._epoll.register(fd, select.EPOLLIN)
        for fd in self.control:
            self._epoll.register(fd, 0 if self._held else select.EPOLLIN)

    def _has(self, changing: Iterable[int]) -> bool:
        """Return True if each descriptor belongs to the file that is waited for: epoll forgets
        one that is closed, and its number may be used again."""
        try:
            for fd in changing:
                self._epoll.modify(fd, select.EPOLLIN)
        except FileNotFoundError:
            return False
        return True

    def hold_control(self, held: bool) -> None:
        """Wait for the control plane no longer, or again."""
        if held == self._held:
            return
        self._held = held
        for fd in self.control:
            self._epoll.modify(fd, 0 if held else select.EPOLLIN)

    def unread(self) -> set[int]:
        """Return the descriptors of the sockets in which messages wait."""
        sockets = self.bus if self._held else self.bus | self.control
        return {fd for fd, one in sockets.items() if int(one.getsockopt(EVENTS)) & POLLIN}

    def wait(self, seconds: float) -> set[int]:
        """Wait, and return the descriptors that are ready, apart from connections of the bus, which
        `Streams` has. A socket of ZeroMQ may have no message all the same."""
        if self._streams.wait(seconds):
            return {fd for fd, _ in self._epoll.poll(0.0)}
        return set()

    def close(self) -> None:
        """Release the descriptor."""
        self._epoll.close()
