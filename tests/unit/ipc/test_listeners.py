"""Connections are accepted while descriptors are free; the others wait and are accepted later."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from garrison.ipc import listeners, sockets
from garrison.ipc.listeners import (
    BACKLOG,
    RACING,
    RESERVED,
    ListenerSet,
    has_room,
)

WHOLE = BACKLOG + 1 + RACING


@pytest.mark.parametrize(
    ("free", "promised", "expected"),
    [
        (RESERVED + WHOLE + 1, 0, True),
        (RESERVED + WHOLE, 0, False),
        (RESERVED + WHOLE + 1, 1, False),
        (RESERVED + 2 * WHOLE + 1, WHOLE, True),
        (0, 0, False),
        (-5, 0, False),
    ],
)
def test_a_whole_backlog_is_accepted_or_none(free: int, promised: int, expected: bool) -> None:
    """Descriptors that are reserved for the supervisor are never used for connections."""
    assert has_room(free, promised) is expected


class Free:
    """The number of descriptors that seem to be free."""

    def __init__(self) -> None:
        self.count = 10_000

    def __call__(self) -> int:
        return self.count


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Free:
    """Set the number of descriptors that seem to be free."""
    free = Free()
    monkeypatch.setattr(listeners, "free_descriptors", free)
    return free


class Served:
    """A ROUTER and its listener."""

    def __init__(self, folder: Path, of_user: bool = False) -> None:
        folder.mkdir(exist_ok=True)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.path = str(folder / "r.sock")
        self.router = sockets.router(self.context, 1 << 20)
        self.listeners = ListenerSet([] if of_user else [(self.router, self.path)])
        if of_user:
            self.listeners.add(self.router, self.path, os.getuid())
        self._dealers: list[zmq.Socket[bytes]] = []

    def connect(self) -> zmq.Socket[bytes]:
        """Return a DEALER that has sent hello."""
        dealer = self.context.socket(zmq.DEALER)  # which sends once it is accepted
        dealer.set(zmq.RECONNECT_IVL, 20)
        dealer.connect(f"ipc://{self.path}")
        dealer.send(b"hello")
        self._dealers.append(dealer)
        return dealer

    def disconnect(self) -> None:
        """Close the first DEALER."""
        self._dealers.pop(0).close(linger=0)

    def received(self, expected: int, seconds: float = 10.0) -> int:
        """Return how many hellos arrive while the listeners have their turns."""
        hellos, until = 0, time.monotonic() + seconds
        while hellos < expected and time.monotonic() < until:
            self.listeners.turn()
            if self.router.poll(10):
                hellos += self.router.recv_multipart()[1] == b"hello"
        return hellos

    def close(self) -> None:
        """Close everything."""
        self.listeners.close()
        for dealer in self._dealers:
            dealer.close(linger=0)
        self.router.close(linger=0)
        self.context.term()


@pytest.fixture
def served(free: Free, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Return a ROUTER with a listener."""
    served = Served(tmp_path_factory.mktemp("g"))
    try:
        yield served
    finally:
        served.close()


def test_all_are_accepted_while_descriptors_are_plenty(served: Served) -> None:
    """However many come at once."""
    for _ in range(40):
        served.connect()
    assert served.received(40) == 40


def test_connections_wait_while_there_is_no_room(served: Served, free: Free) -> None:
    """Connections that were accepted before are not affected."""
    before = served.connect()
    assert served.received(1) == 1
    free.count = RESERVED
    served.listeners.turn()
    for _ in range(40):
        served.connect()
    assert served.received(1, 0.3) == 0
    assert served.listeners.paused > 0
    before.send(b"hello")
    assert served.received(1) == 1
    free.count = 500  # few, but enough
    assert served.received(40) == 40
    free.count = 10_000
    served.connect()
    assert served.received(1) == 1
    before.send(b"hello")
    assert served.received(1) == 1


def test_another_user_has_a_bounded_number_of_connections(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound, connections of another user wait until others have closed. Those of the
    supervisor's own user are not counted."""
    monkeypatch.setattr(listeners, "CONNECTIONS", 4)
    users = Served(Path(served.path).parent / "u", of_user=True)
    try:
        for _ in range(6):
            users.connect()
            served.connect()
        assert users.received(4) == 4
        assert users.received(2, 0.3) <= 2  # accepted before the first were counted
        for _ in range(3):
            users.connect()
            served.connect()
        assert users.received(1, 0.3) == 0
        assert served.received(9) == 9
        for _ in range(6):
            users.disconnect()
        assert users.received(3) == 3
    finally:
        users.close()


def test_silent_connections_free_their_descriptors(served: Served, free: Free) -> None:
    """So does their listener, once its last connection has closed."""
    free.count = 500
    served.listeners.turn()
    silent = [socket.socket(socket.AF_UNIX) for _ in range(BACKLOG)]
    for one in silent:
        one.connect(served.path)
    served.connect()
    assert served.received(1) == 1
    listener = served.listeners._listeners[0]
    until = time.monotonic() + 10
    for one in silent:
        one.close()
    served._dealers[0].close(linger=0)
    while len(listener.former) > 1 and time.monotonic() < until:
        served.listeners.turn()
        served.router.poll(10)
    assert len(listener.former) <= 1
    assert Path(served.path).is_socket()
