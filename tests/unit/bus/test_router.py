"""The queue to a member that does not read is bounded and keeps its order."""

import gc
from typing import cast

import pytest
import zmq

from garrison.ipc.messages import FULL
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

    def recv(self, _: int) -> bytes:
        """Take the next frame."""
        if not self.coming:
            raise zmq.Again
        return self.coming.pop(0)

    def getsockopt(self, _: int) -> bool:
        """Return True if the message has more frames: each has three."""
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
    made = BusRouter(RouterSet(cast("zmq.Socket[bytes]", router)), lambda _: None, 1 << 30)
    for token in (READS, SLEEPS):
        made.admit(token)
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
