"""Who is let in: whoever there is a descriptor for, and who waits is not forgotten."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from garrison.ipc import sockets
from garrison.supervisor.bus import listeners
from garrison.supervisor.bus.listeners import (
    BACKLOG,
    PLENTY,
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
def test_a_whole_backlog_is_let_in_or_nobody(free: int, promised: int, expected: bool) -> None:
    """What is kept for the supervisor itself is never given to connections."""
    assert has_room(free, promised) is expected


class Free:
    """How many descriptors there seem to be."""

    def __init__(self) -> None:
        self.count = 10 * PLENTY

    def __call__(self) -> int:
        return self.count


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Free:
    """Have the gates believe that so many descriptors are free."""
    free = Free()
    monkeypatch.setattr(listeners, "free_descriptors", free)
    return free


class Way:
    """A ROUTER behind its gate."""

    def __init__(self, folder: Path, of_user: bool = False) -> None:
        folder.mkdir(exist_ok=True)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.path = str(folder / "r.sock")
        self.router = sockets.router(self.context, 1 << 20)
        self.gates = ListenerSet([] if of_user else [(self.router, self.path)])
        if of_user:
            self.gates.add(self.router, self.path, os.getuid())
        self._dealers: list[zmq.Socket[bytes]] = []

    def connect(self) -> zmq.Socket[bytes]:
        """Return a DEALER that has said hello."""
        dealer = self.context.socket(zmq.DEALER)  # which sends once it is let in
        dealer.set(zmq.RECONNECT_IVL, 20)
        dealer.connect(f"ipc://{self.path}")
        dealer.send(b"hello")
        self._dealers.append(dealer)
        return dealer

    def disconnect(self) -> None:
        """Have the first one go."""
        self._dealers.pop(0).close(linger=0)

    def heard(self, expected: int, seconds: float = 10.0) -> int:
        """Return how many hellos come, the gates having their turns."""
        hellos, until = 0, time.monotonic() + seconds
        while hellos < expected and time.monotonic() < until:
            self.gates.turn()
            if self.router.poll(10):
                hellos += self.router.recv_multipart()[1] == b"hello"
        return hellos

    def close(self) -> None:
        """Close everything."""
        self.gates.close()
        for dealer in self._dealers:
            dealer.close(linger=0)
        self.router.close(linger=0)
        self.context.term()


@pytest.fixture
def way(free: Free, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """Open a way in."""
    way = Way(tmp_path_factory.mktemp("g"))
    try:
        yield way
    finally:
        way.close()


def test_all_are_let_in_while_there_is_plenty(way: Way) -> None:
    """By libzmq itself, without a turn of the gates."""
    for _ in range(40):
        way.connect()
    assert way.heard(40) == 40


def test_while_there_is_no_room_they_wait_and_then_they_are_let_in(way: Way, free: Free) -> None:
    """Those who were let in before are undisturbed meanwhile."""
    before = way.connect()
    assert way.heard(1) == 1
    free.count = RESERVED
    way.gates.turn()
    for _ in range(40):
        way.connect()
    assert way.heard(1, 0.3) == 0
    assert way.gates.paused > 0
    before.send(b"hello")
    assert way.heard(1) == 1
    free.count = PLENTY // 2  # few, but enough
    assert way.heard(40) == 40
    free.count = 10 * PLENTY
    way.connect()
    assert way.heard(1) == 1
    before.send(b"hello")
    assert way.heard(1) == 1


def test_another_user_takes_no_more_than_its_share(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a user's own way in: who comes beyond that waits until others have gone; at the host's
    own way nobody is counted."""
    monkeypatch.setattr(listeners, "CONNECTIONS", 4)
    users = Way(Path(way.path).parent / "u", of_user=True)
    try:
        for _ in range(6):
            users.connect()
            way.connect()
        assert users.heard(4) == 4
        assert users.heard(2, 0.3) <= 2  # who was let in before the first were counted
        for _ in range(3):
            users.connect()
            way.connect()
        assert users.heard(1, 0.3) == 0
        assert way.heard(9) == 9
        for _ in range(6):
            users.disconnect()
        assert users.heard(3) == 3
    finally:
        users.close()


def test_what_says_nothing_gives_its_descriptors_back(way: Way, free: Free) -> None:
    """Its listener too, once its last connection is gone."""
    free.count = PLENTY // 2
    way.gates.turn()
    silent = [socket.socket(socket.AF_UNIX) for _ in range(BACKLOG)]
    for one in silent:
        one.connect(way.path)
    way.connect()
    assert way.heard(1) == 1
    gate = way.gates._listeners[0]
    until = time.monotonic() + 10
    for one in silent:
        one.close()
    way._dealers[0].close(linger=0)
    while len(gate._handed) > 1 and time.monotonic() < until:  # one has had the plenty's first
        way.gates.turn()
        way.router.poll(10)
    assert len(gate.former) <= 1
    assert Path(way.path).is_socket()
