"""Verified senders: an address belongs to one ROUTER alone."""

from typing import cast

import pytest
import zmq

from garrison.ipc.messages import FULL
from garrison.ipc.sockets import EVENTS, POLLIN
from garrison.supervisor.bus import router as routing
from garrison.supervisor.bus.endpoints import BusRouters, RouterSet
from garrison.supervisor.bus.router import BusRouter

OWN, MINE, THEIRS, LATE, UNKNOWN = b"g-own", b"g-mine", b"g-theirs", b"g-late", b"g-unknown"


class Router:
    """A ROUTER that has received messages of three frames."""

    def __init__(self) -> None:
        self.coming: list[list[bytes]] = []
        self.sent: list[list[bytes]] = []
        self._parts: list[bytes] = []
        self._sending: list[bytes] = []

    def recv(self, _: int, copy: bool = True) -> bytes:
        """Take the next frame."""
        if not self._parts and not self.coming:
            raise zmq.Again
        self._parts = self._parts or self.coming.pop(0)
        return self._parts.pop(0)

    def getsockopt(self, option: int) -> int:
        """Return whether a message has arrived, or has more frames."""
        if option == EVENTS:
            return POLLIN if self.coming else 0
        return bool(self._parts)

    def send(self, frame: bytes, flags: int) -> None:
        """Take a frame."""
        self._sending.append(frame)
        if not flags & zmq.SNDMORE:
            self.sent.append(self._sending)
            self._sending = []


class Made:
    """A bus with a member of each of three users."""

    def __init__(self) -> None:
        self.own, self.mine, self.theirs = Router(), Router(), Router()
        self.plane: BusRouters = RouterSet(_socket(self.own))
        self.plane.add(1, _socket(self.mine))
        self.plane.add(2, _socket(self.theirs))
        self.plane.admit(MINE, 1)
        self.plane.admit(THEIRS, 2)
        self.refused: list[str] = []
        self.bus = BusRouter(self.plane, self.refused.append, 1 << 30, "boot")
        for token in (OWN, MINE, THEIRS):
            self.bus.admit(token)
            self.bus.connect_without_sync(token, probed=True)


@pytest.fixture(autouse=True)
def _long_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn ends when nothing is left, on a loaded machine too."""
    monkeypatch.setattr(routing, "TURN_S", 60.0)


def _socket(router: Router) -> "zmq.Socket[bytes]":
    return cast("zmq.Socket[bytes]", router)


@pytest.mark.parametrize(
    ("via", "source", "taken"),
    [
        ("mine", MINE, True),
        ("mine", THEIRS, False),
        ("mine", OWN, False),
        ("mine", UNKNOWN, False),
        ("mine", b"\x00", False),
        ("theirs", THEIRS, True),
        ("theirs", MINE, False),
        ("own", OWN, True),
        ("own", UNKNOWN, False),
    ],
)
def test_who_may_send_from_an_address(via: str, source: bytes, taken: bool) -> None:
    """A member at its user's ROUTER may. Other messages are rejected, and such a connection is not
    reported."""
    made = Made()
    router: Router = getattr(made, via)
    router.coming = [[source, MINE, b"batch"], [source, b""]]
    made.bus.route_pending()
    assert any(frames[0] == MINE and frames[1] != FULL for frames in made.mine.sent) is taken
    assert len(made.refused) == {True: 0, False: 1 if via == "own" else 2}[taken]


@pytest.mark.parametrize(("via", "seen"), [("mine", True), ("theirs", False), ("own", True)])
def test_a_connection_counts_at_its_users_router(via: str, seen: bool) -> None:
    """A member of an older release is connected once its probe was read there."""
    made = Made()
    made.bus.admit(LATE)
    made.plane.admit(LATE, 1)
    made.bus.connect_without_sync(LATE)
    getattr(made, via).coming = [[LATE, b""]]
    assert (LATE in made.bus.route_pending()) is seen
    assert (LATE in made.bus.connected) is seen


def test_a_message_is_sent_through_the_router_of_its_address() -> None:
    """So no other connection under that address receives it."""
    made = Made()
    made.own.coming = [[OWN, to, b"batch"] for to in (MINE, THEIRS, OWN)]
    made.bus.route_pending()
    assert made.mine.sent == [[MINE, OWN, b"batch"]]
    assert made.theirs.sent == [[THEIRS, OWN, b"batch"]]
    assert made.own.sent == [[OWN, OWN, b"batch"]]


def test_a_late_message_of_an_ended_member_is_dropped() -> None:
    """It is not logged, and its address is not valid any more."""
    made = Made()
    made.bus.drop(MINE, "it ended")
    made.mine.coming = [[MINE, OWN, b"batch"]]
    made.bus.route_pending()
    assert made.own.sent == []
    assert made.refused == []
    assert not made.plane.owns_address(MINE, _socket(made.mine))


def test_a_flood_of_one_user_delays_no_other() -> None:
    """Of each ROUTER one message, in turn."""
    made = Made()
    made.mine.coming = [[MINE, OWN, b"flood"] for _ in range(1000)]
    made.theirs.coming = [[THEIRS, OWN, b"last"]]
    made.bus.route_pending()
    assert [THEIRS, b"last"] in [frames[1:] for frames in made.own.sent[:3]]
