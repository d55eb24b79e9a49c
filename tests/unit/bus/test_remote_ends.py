"""The end of a worker on a node is announced behind what it has sent."""

import math
from typing import cast

import pytest
import zmq

from garrison.ipc.messages import SUPERVISOR, Ended, decode_data
from garrison.ipc.sockets import EVENTS
from garrison.supervisor.bus import ends
from garrison.supervisor.bus.endpoints import BusRouters, RouterSet
from garrison.supervisor.bus.ends import Ends
from garrison.supervisor.bus.router import BusRouter

FAR, NEAR, OTHER = (b"g" + bytes([number]) * 15 for number in (1, 2, 3))


class Frame:
    """A frame with the name of whose key its sender has."""

    def __init__(self, content: bytes, holder: str) -> None:
        self.bytes, self._holder = content, holder

    def get(self, _: str) -> str:
        """Return that name."""
        return self._holder


class Socket:
    """A ROUTER; messages to those in `gone` cannot be sent."""

    def __init__(self) -> None:
        self.coming: list[list[bytes]] = []
        self.holder = FAR.hex()
        self.sent: list[list[bytes]] = []
        self.gone: set[bytes] = set()
        self._parts: list[bytes] = []
        self._sending: list[bytes] = []

    def recv(self, _: int, copy: bool = True) -> object:
        """Take the next frame."""
        self._parts = self._parts or self.coming.pop(0)
        part = self._parts.pop(0)
        return part if copy else Frame(part, self.holder)

    def getsockopt(self, option: int) -> int:
        """Return whether a message has arrived, or has more frames."""
        if option == EVENTS:
            return zmq.POLLIN if self.coming else 0
        return bool(self._parts)

    def send(self, frame: bytes, flags: int) -> None:
        """Take a frame."""
        if not self._sending and frame in self.gone:
            raise zmq.ZMQError(zmq.EHOSTUNREACH)
        self._sending.append(frame)
        if not flags & zmq.SNDMORE:
            self.sent.append(self._sending)
            self._sending = []


class Made:
    """A bus with a member here and one on a node, which have exchanged messages."""

    def __init__(self) -> None:
        self.own, self.remote = Socket(), Socket()
        self.plane: BusRouters = RouterSet(cast("zmq.Socket[bytes]", self.own))
        self.plane.add_remote(cast("zmq.Socket[bytes]", self.remote))
        self.plane.admit_remote(FAR)
        self.rejected: list[str] = []
        self.bus = BusRouter(self.plane, self.rejected.append, 1 << 30, "boot")
        for token in (FAR, NEAR):
            self.bus.admit(token)
            self.bus.connected.add(token)
        self.arrives(b"first")

    def arrives(self, batch: bytes, source: bytes = FAR) -> None:
        """Have a message arrive from the node."""
        self.remote.coming.append([source, NEAR, batch])
        self.bus.route_pending()

    def ends(self) -> list[Ended]:
        """Return the ends that the member here has a notice of."""
        self.bus.route_pending()
        self.bus.announce_ends()
        batches = [frames[2] for frames in self.own.sent if frames[1] == SUPERVISOR]
        return [cast(Ended, message) for batch in batches for message in decode_data(batch)]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Make a bus that never waits between two looks."""
    looks = Ends.to_look
    monkeypatch.setattr(Ends, "to_look", lambda one, _: looks(one, math.inf))
    monkeypatch.setattr(ends, "CAUSE_BY_S", 60.0)
    monkeypatch.setattr(ends, "OVER_BY_S", 60.0)
    return Made()


def test_an_end_waits_for_the_connections_end(made: Made) -> None:
    """However long ago the process has ended: what it sent may still be on its way."""
    made.bus.mark_ended(FAR)
    made.bus.set_cause(FAR, "it was killed")
    for _ in range(3):
        assert made.ends() == []
    made.arrives(b"last")
    assert made.own.sent[-1] == [NEAR, FAR, b"last"]

    made.remote.gone.add(FAR)
    assert made.ends() == []  # what had arrived by now is read first
    (end,) = made.ends()
    assert (end.token, end.cause) == (FAR, "it was killed")
    assert {bytes(frames[1]) for frames in made.remote.sent} == {SUPERVISOR}


def test_an_end_does_not_wait_for_ever(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is off ends no connection."""
    made.bus.mark_ended(FAR)
    made.bus.set_cause(FAR, "its node was lost")
    assert made.ends() == []
    monkeypatch.setattr(ends, "OVER_BY_S", 0.0)
    (end,) = made.ends()
    assert end.cause == "its node was lost"


def test_an_end_on_this_machine_waits_for_its_connection_too(made: Made) -> None:
    """The kernel has everything by then, but libzmq may not have read it."""
    made.remote.coming.append([FAR, NEAR, b"more"])
    made.bus.route_pending()
    made.bus.mark_ended(NEAR)
    made.bus.set_cause(NEAR, "it was killed")
    for _ in range(3):
        made.bus.route_pending()
        made.bus.announce_ends()
        assert made.remote.sent == []
    made.own.gone.add(NEAR)
    while made.bus.settling:
        made.bus.route_pending()
        made.bus.announce_ends()
    assert made.remote.sent[-1][:2] == [FAR, SUPERVISOR]


@pytest.mark.parametrize("source", [NEAR, OTHER, FAR])
def test_a_key_of_another_is_no_address(made: Made, source: bytes) -> None:
    """A message counts by whose key its connection has."""
    made.remote.holder = OTHER.hex()
    before = list(made.own.sent)
    made.arrives(b"mine", source)
    assert made.own.sent == before
    assert len(made.rejected) == 1
