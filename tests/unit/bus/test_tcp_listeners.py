"""Connections from other machines wait while few descriptors are left."""

import socket
from collections.abc import Iterator

import pytest
import zmq
from tests.support.waiting import until

from garrison.ipc import sockets
from garrison.supervisor.bus import tcp_listeners
from garrison.supervisor.bus.tcp_listeners import TcpListeners


class Made:
    """A ROUTER that listens, and what is recorded."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.router = sockets.router(self.context, 1 << 20)
        self.events: list[str] = []
        self.dealers: list[zmq.Socket[bytes]] = []
        self.listeners = TcpListeners(lambda event, **data: self.events.append(event))
        self.endpoint = self.listeners.bind(self.router, "127.0.0.1", 0)

    def dealer(self, name: bytes) -> "zmq.Socket[bytes]":
        """Connect, and say so."""
        dealer = sockets.dealer(self.context, self.endpoint, name, -1, keep=True)
        self.dealers.append(dealer)
        dealer.send(b"here")
        return dealer

    def heard(self, name: bytes) -> bool:
        """Return whether a message of a peer has arrived."""
        while self.router.poll(0):
            if self.router.recv_multipart() == [name, b"here"]:
                return True
        return False


@pytest.fixture
def made() -> Iterator[Made]:
    """Make one."""
    one = Made()
    yield one
    one.listeners.close()
    for each in (one.router, *one.dealers):
        each.close(linger=0)
    one.context.term()


def test_connections_wait_while_descriptors_are_few(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that there are go on; the others are let in once there are enough again."""
    first = made.dealer(b"first")
    until(lambda: made.heard(b"first"))

    monkeypatch.setattr(tcp_listeners, "free_descriptors", lambda: 0)
    assert made.listeners.turn() < float("inf")
    assert made.events == ["node.crowded"]
    made.dealer(b"second")
    with socket.socket() as plain:
        plain.settimeout(0.2)
        with pytest.raises(TimeoutError):
            plain.connect(("127.0.0.1", int(made.endpoint.rpartition(":")[2])))
    first.send(b"here")
    until(lambda: made.heard(b"first"))
    assert not made.heard(b"second")

    monkeypatch.undo()
    assert made.listeners.turn() == float("inf")
    until(lambda: made.heard(b"second"))


def test_a_port_that_is_taken_is_an_error(made: Made) -> None:
    """Of the operating system."""
    port = int(made.endpoint.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        TcpListeners(lambda event, **data: None).bind(made.router, "127.0.0.1", port)
