"""How much of the control plane one turn reads: long batches are read in parts."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import zmq

from garrison.ipc.messages import SUPERVISOR, Beat, Failing, Health, Leave, Link, Stopped, encode
from garrison.ipc.sockets import EVENTS, POLLIN
from garrison.supervisor.bus.endpoints import RouterSet
from garrison.supervisor.control import server
from garrison.supervisor.control.server import BATCH_MOST, PENDING_MOST, ControlServer, bounded

FLOODS, OTHER = b"g-floods", b"g-other"
TAKES_S = server.CONTROL_S / 10  # of the clock below, for one message


class Router:
    """A ROUTER with messages that have arrived."""

    def __init__(self) -> None:
        self.arrived: list[list[bytes]] = []
        self.address = "localhost:0:0:1"  # as libzmq reports the kernel's record
        self.left = 0  # frames of the message that is being read

    def recv(self, _: int, copy: bool = True) -> Any:
        """Take the next frame."""
        if not self.arrived:
            raise zmq.Again
        frame = self.arrived[0].pop(0)
        self.left = len(self.arrived[0])
        if not self.left:
            del self.arrived[0]
        if copy:
            return frame
        return SimpleNamespace(bytes=frame, more=self.left > 0, get=lambda _: self.address)

    def getsockopt(self, option: int) -> int:
        """Return whether a message has arrived."""
        assert option == EVENTS
        return POLLIN if self.arrived else 0

    def receives(self, token: bytes, *batch: Any) -> None:
        """Add a batch."""
        self.arrived.append([token, SUPERVISOR, encode(list(batch))])


class Received:
    """What a supervisor has received, on a clock that only its work moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.senders = 1000.0, list[bytes]()
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(server, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.router = Router()
        self.refused: list[str] = []
        record = lambda event, **data: self.refused.append(data["error"])  # noqa: E731
        log: Any = SimpleNamespace(record=record)
        self.server = ControlServer(RouterSet(cast(Any, self.router)), log)

    def take_turn(self) -> None:
        """Receive for one turn."""
        for token, _, _ in self.server.receive():
            self.now += TAKES_S
            self.senders.append(token)


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Received:
    """Return a supervisor that has received nothing yet."""
    return Received(monkeypatch)


def test_a_long_batch_is_read_in_turns(received: Received) -> None:
    """A turn takes its time and little more; the rest is read in the next ones, in order. The
    messages of others do not wait for it."""
    received.router.receives(FLOODS, *[Leave()] * 100)
    received.router.receives(OTHER, Leave())
    turns = 0
    while received.router.arrived or received.server.pending:
        began = received.now
        received.take_turn()
        assert 0 < received.now - began <= server.CONTROL_S + TAKES_S
        turns += 1
        assert turns <= 20
    assert sorted(received.senders) == [FLOODS] * 100 + [OTHER]
    assert received.senders.index(OTHER) <= 2
    assert turns > 5


def test_no_more_is_read_than_is_handled(received: Received) -> None:
    """Of batches that arrive too fast, a bounded number waits here; the others wait in the
    socket."""
    for _ in range(50):
        received.router.receives(FLOODS, *[Leave()] * 100)
    for _ in range(30):
        received.take_turn()
        assert received.server.pending < PENDING_MOST + 100
    assert received.router.arrived


def test_each_sender_has_its_share_of_a_turn(received: Received) -> None:
    """However much one sends, the others' messages are handled beside its own, each sender's in
    order."""
    received.router.receives(FLOODS, *[Leave()] * 500)
    received.take_turn()
    for number in range(20):
        received.router.receives(b"g%d" % (number % 4), Leave())
    before = len(received.senders)
    while sum(sender != FLOODS for sender in received.senders) < 20:
        received.take_turn()
    assert received.senders[before:].count(FLOODS) <= 20


def test_a_sender_that_uses_more_than_its_share_is_noticed(received: Received) -> None:
    """Its turns are marked, until it has been silent for a while; the turns of others are not."""
    marks: list[bool] = []
    for _ in range(2 * int(server.SENDER_S / server.CONTROL_S)):
        received.router.receives(FLOODS, *[Leave()] * 100)
        received.take_turn()
        marks.append(received.server.overdrawn)
    assert marks == sorted(marks)  # first not, then always
    assert 0 < marks.index(True) <= server.SENDER_S / server.CONTROL_S + 1
    while received.server.pending or received.router.arrived:
        received.take_turn()
    for sender, later in ((OTHER, 0.0), (FLOODS, 2 * server.SENDER_S / server.SENDER_RATE)):
        received.now += later
        received.router.receives(sender, Leave())
        received.take_turn()
        assert not received.server.overdrawn


def test_what_is_no_message_counts_as_its_senders_work(received: Received) -> None:
    """Reading it takes time as well."""
    decoded = server._decode

    def slowly(frames: list[bytes], foreign: bool) -> Any:
        received.now += TAKES_S
        return decoded(frames, foreign)

    received.monkeypatch.setattr(server, "_decode", slowly)
    while not received.server.overdrawn:
        received.router.arrived.append([FLOODS, SUPERVISOR, b"garbage"])
        received.take_turn()
    assert received.server.rejected > 1
    assert received.senders == []


def test_a_batch_beyond_the_bound_is_refused_as_a_whole(received: Received) -> None:
    """It is counted, and the message after it is received."""
    received.router.receives(FLOODS, *[Beat(n, 0, 0, {}) for n in range(BATCH_MOST + 1)])
    received.router.receives(OTHER, Leave())
    received.take_turn()
    assert received.senders == [OTHER]
    assert received.server.rejected == 1
    assert received.refused == [f"not a valid message: {BATCH_MOST + 1} messages at once"]


def test_texts_of_a_worker_are_cut() -> None:
    """What the supervisor keeps of a worker's texts and figures is bounded."""
    many = {str(n): 0.0 for n in range(server.FACTS_MOST + 1)}
    failing = bounded(Failing("run", "x" * 10**6, "y" * 10**6))
    beat = bounded(Beat(1, 0, 0, many, link=Link("x" * 10**6, probe_problem="y" * 10**6)))
    health, stopped = bounded(Health("x" * 10**6)), bounded(Stopped("x" * 10**6))

    assert isinstance(failing, Failing)
    assert len(failing.reason) == server.REASON_MOST
    assert len(failing.traceback) == server.TRACEBACK_MOST
    assert isinstance(beat, Beat)
    assert len(beat.facts) == server.FACTS_MOST
    assert beat.link == Link("x" * server.WARNING_MOST, probe_problem="y" * server.WARNING_MOST)
    assert isinstance(health, Health)
    assert isinstance(stopped, Stopped)
    assert len(health.problem) == len(stopped.reason) == server.REASON_MOST
