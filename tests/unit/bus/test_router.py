"""The queue to a member that does not read is bounded and keeps its order."""

import gc
from typing import cast

import pytest
import zmq

from garrison.ipc.messages import (
    EMPTY_MAP,
    FULL,
    SUPERVISOR,
    Call,
    Ended,
    Sync,
    Synced,
    Token,
    encode,
)
from garrison.ipc.sockets import EVENTS, POLLIN
from garrison.supervisor.bus import router as bus
from garrison.supervisor.bus.endpoints import RouterSet
from garrison.supervisor.bus.router import MESSAGE_BYTES, BusRouter

MOST = 100 * MESSAGE_BYTES
READS, SLEEPS = b"g-reads", b"g-sleeps"


class Router:
    """A ROUTER between one member that reads and one that does not."""

    def __init__(self) -> None:
        self.asleep = True
        self.coming: list[bytes] = []
        self.sent: list[list[bytes]] = [[]]

    def recv(self, _: int, copy: bool = True) -> bytes:
        """Take the next frame."""
        if not self.coming:
            raise zmq.Again
        return self.coming.pop(0)

    def getsockopt(self, option: int) -> int:
        """Return whether a message has arrived, or has more frames: each has three."""
        if option == EVENTS:
            return POLLIN if self.coming else 0
        return len(self.coming) % 3 > 0

    def send(self, frame: bytes, flags: int) -> None:
        """Take a frame, unless it starts a message for the member that does not read."""
        if not self.sent[-1] and self.asleep and frame == SLEEPS:
            raise zmq.Again
        self.sent[-1].append(frame)
        if not flags & zmq.SNDMORE:
            self.sent.append([])


@pytest.fixture
def router() -> Router:
    """Return the socket."""
    return Router()


@pytest.fixture
def made(router: Router, monkeypatch: pytest.MonkeyPatch) -> BusRouter:
    """Return a bus with both members and a small queue."""
    monkeypatch.setattr(bus, "WAITING_BYTES", MOST)
    monkeypatch.setattr(bus, "TURN_S", 60.0)
    made = BusRouter(RouterSet(cast("zmq.Socket[bytes]", router)), lambda _: None, 1 << 30, "boot")
    for token in (READS, SLEEPS):
        made.admit(token)
        made.connect_without_sync(token, probed=True)
    return made


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_the_queue_is_bounded_also_for_many_tiny_messages(
    router: Router, made: BusRouter, size: int
) -> None:
    """Each counts more than its bytes; beyond the bound, messages return to their sender."""
    for number in range(1000):
        router.coming += [READS, SLEEPS, b"%d" % number + bytes(size)]
    made.route_pending()
    back = [frames for frames in router.sent if frames]
    waiting = 1000 - len(back)
    assert 0 < waiting * (MESSAGE_BYTES + size) <= MOST
    assert {tuple(frames[:3]) for frames in back} == {(READS, FULL, SLEEPS)}
    assert 0 < made.waiting_bytes <= MOST
    router.asleep, router.sent = False, [[]]
    made.route_pending()
    assert [int(frames[2].rstrip(b"\0")) for frames in router.sent if frames] == list(
        range(waiting)
    )
    assert made.waiting_bytes == 0
    assert not made.waiting


def test_the_queue_is_not_tracked_by_the_garbage_collector(router: Router, made: BusRouter) -> None:
    """Otherwise it would traverse the queue in one turn: 100 ms during a flood."""
    for number in range(50):
        router.coming += [READS, SLEEPS, b"%d" % number]
    made.route_pending()
    gc.collect()
    (waiting,) = made._queues.values()
    assert len(waiting.messages) == 50
    assert not any(map(gc.is_tracked, waiting.messages))


def test_a_sender_that_joins_next_is_no_stranger(
    router: Router, made: BusRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a program of a former supervisor does; what one sends that does not join is rejected."""
    rejected: list[str] = []
    made._reject = rejected.append
    joins, stays = b"g" + bytes(15), b"g" + bytes(14) + b"1"
    for token in (joins, stays, stays, b"no token"):
        router.coming += [token, READS, b"batch"]
    made.route_pending()
    assert rejected == [bus.UNKNOWN]  # what has not the form of a token, at once
    made.admit(joins)
    monkeypatch.setattr(bus, "JOIN_S", -1.0)
    made.route_pending()
    made.route_pending()
    assert rejected == [bus.UNKNOWN] * 3
    assert not made.waiting


# --- a member's way to this router --------------------------------------------------------------


CALL = encode([Call(1, "say", EMPTY_MAP, EMPTY_MAP, 1.0)])


def sync(boot: str) -> list[bytes]:
    """Return the Sync of the member that reads."""
    return [READS, SUPERVISOR, encode([Sync(boot)])]


@pytest.fixture
def fresh(router: Router, made: BusRouter) -> BusRouter:
    """Return a bus whose members have yet to connect."""
    router.asleep = False
    for token in (READS, SLEEPS):
        made.drop(token, "")
        made.admit(token)
    return made


def test_what_precedes_a_sync_is_sent_again_later(router: Router, fresh: BusRouter) -> None:
    """It was meant for a former router; what follows is delivered, after the answer."""
    fresh.connect_without_sync(SLEEPS, probed=True)
    router.coming += [READS, SLEEPS, CALL, *sync("boot"), READS, SLEEPS, b"next"]

    assert fresh.route_pending() == {READS, SLEEPS}
    assert router.sent[:-1] == [
        [READS, FULL, SLEEPS, CALL],
        [READS, SUPERVISOR, encode([Synced("boot")])],
        [SLEEPS, READS, b"next"],
    ]


def test_a_sync_for_a_former_router_connects_no_member(router: Router, fresh: BusRouter) -> None:
    """It waited in a socket while the router changed."""
    router.coming += [*sync("former"), READS, SUPERVISOR, b"no message"]

    assert fresh.route_pending() == set()
    assert fresh.connected == set()
    assert router.sent == [[]]


def test_a_member_receives_nothing_before_its_sync(router: Router, fresh: BusRouter) -> None:
    """It counts what it reads from this router."""
    fresh.connect_without_sync(SLEEPS, probed=True)
    router.coming += [SLEEPS, READS, CALL]
    fresh.route_pending()

    assert router.sent[:-1] == [[SLEEPS, FULL, READS, CALL]]


@pytest.mark.parametrize(
    ("read", "delivered"), [(None, 2), ({READS: 1}, 1), ({}, 0), ({READS: 9}, 2)]
)
def test_an_end_says_how_much_was_read(
    router: Router, made: BusRouter, read: dict[Token, int] | None, delivered: int
) -> None:
    """No more than was routed; a later batch was never run."""
    router.asleep = False
    router.coming += [READS, SLEEPS, CALL, READS, SLEEPS, CALL]
    made.route_pending()
    router.sent = [[]]
    made.mark_ended(SLEEPS, read)
    made.drop(SLEEPS, "was killed")

    assert router.sent[:-1] == [
        [READS, SUPERVISOR, encode([Ended(SLEEPS, "was killed", delivered)])]
    ]
