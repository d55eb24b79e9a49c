"""Members on plain sockets: nothing is lost, nothing is doubled, and no end comes too early."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from garrison.ipc import socket_paths, sockets, zmtp
from garrison.ipc.listeners import ListenerSet
from garrison.ipc.messages import FULL, GONE, SUPERVISOR, Ended, Sync, Synced, Token, decode_data
from garrison.ipc.messages import encode as pack
from garrison.supervisor.bus import router as routing
from garrison.supervisor.bus import streams as streaming
from garrison.supervisor.bus.endpoints import BusRouters, RouterSet
from garrison.supervisor.bus.router import BusRouter
from garrison.supervisor.bus.stream_listener import StreamListener
from garrison.supervisor.bus.streams import StreamRouter, Streams
from garrison.supervisor.inputs import Inputs

WAIT_S = 20.0  # a turn waits no longer: what it waited for was lost
MOST = 8 << 20  # bytes of a frame
BURST = 300


class Peer:
    """A member on a plain socket. While it waits, the bus has its turns."""

    def __init__(self, bus: "Bus", token: Token) -> None:
        self.token, self._bus = token, bus
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(bus.path)
        self.socket.setblocking(False)
        self._decoder = zmtp.Decoder(-1, 100)
        self._found: list[list[bytes]] = []
        self.send_bytes(zmtp.opening(token))

    def send(self, *frames: bytes) -> None:
        """Send a message."""
        self.send_bytes(zmtp.encode(frames))

    def send_bytes(self, data: bytes) -> None:
        """Send data as it is."""
        rest, until = memoryview(data), time.monotonic() + WAIT_S
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                assert time.monotonic() < until
                self._bus.look()

    def received(self) -> list[bytes]:
        """Return the next message."""
        while not self._found:
            data = self._read()
            assert data, "the connection has ended"
            self._found += self._decoder.feed(data)
        return self._found.pop(0)

    def has_ended(self) -> bool:
        """Wait until the router has ended the connection."""
        while data := self._read():
            self._found += self._decoder.feed(data)
        return True

    def _read(self) -> bytes:
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            try:
                return self.socket.recv(1 << 16)
            except BlockingIOError:
                self._bus.look(0.01)
        raise AssertionError("nothing has come")


class Bus:
    """A bus, its reader, and its members."""

    def __init__(self, folder: Path) -> None:
        self.streams = Streams()
        self.rejected: list[str] = []
        self.streams.reject = self.rejected.append
        self.own, self.path = StreamRouter(self.streams, MOST), str(folder / "bus")
        self.listeners = ListenerSet([])
        listener = StreamListener(self.own, self.path, self.listeners.look_soon)
        self.listeners.add_listener(listener)
        self.listeners.add_other([], self.streams.end_late)
        plane: BusRouters = RouterSet(self.own)
        self.router = BusRouter(plane, self.rejected.append, 1 << 30, "boot", self.streams)
        self.inputs = Inputs(self.streams)
        planes: Any = SimpleNamespace(control=SimpleNamespace(all=()), bus=plane)
        self.inputs.watch(planes, [self.listeners.fileno()], [])
        self.peers: list[Peer] = []

    def turn(self) -> None:
        """Wait and route, as the supervisor's loop does."""
        ready = self.inputs.wait(0.0 if self.router.is_pending else WAIT_S)
        assert ready or self.router.is_pending, "nothing has come"
        if ready:
            self.listeners.turn()
        if not self.router.route_streams():
            self.router.route_pending([])

    def look(self, seconds: float = 0.0) -> None:
        """Route what is there, or comes so soon."""
        if self.inputs.wait(0.0 if self.router.is_pending else seconds):
            self.listeners.turn()
        if not self.router.route_streams():
            self.router.route_pending([])

    def connect(self, token: Token | None = None) -> Peer:
        """Return a new peer, which has named itself."""
        peer = Peer(self, token or socket_paths.new_token())
        self.peers.append(peer)
        return peer

    def join(self) -> Peer:
        """Return a new member, which has connected."""
        peer = self.connect()
        self.router.admit(peer.token)
        peer.send(SUPERVISOR, pack([Sync("boot")]))
        while peer.token not in self.router.connected:
            self.turn()
        assert peer.received() == [SUPERVISOR, pack([Synced("boot")])]
        return peer

    def until_routed(self, count: int) -> None:
        """Route so many more messages."""
        until = self.router.carried + count
        while self.router.carried < until:
            self.turn()

    def until_gone(self, peer: Peer) -> None:
        """Read until a peer's connection has ended."""
        while self.own.has(peer.token):
            self.turn()

    def close(self) -> None:
        """Close everything."""
        for peer in self.peers:
            peer.socket.close()
        self.own.close()
        self.listeners.close()
        self.inputs.close()
        self.streams.close()


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    """Return a bus."""
    made = Bus(tmp_path)
    yield made
    made.close()


def test_messages_arrive_in_order(bus: Bus) -> None:
    """Each has the true source, and large frames stay frames."""
    a, b = bus.join(), bus.join()
    large = [os.urandom(size) for size in (300, 70_000, 3 << 20)]
    for number in range(BURST):
        a.send(b.token, b"%d" % number)
    assert [b.received() for _ in range(BURST)] == [
        [a.token, b"%d" % number] for number in range(BURST)
    ]
    for blob in large:
        a.send(b.token, b"batch", blob)
        assert b.received() == [a.token, b"batch", blob]


def test_members_with_libzmq_are_served(bus: Bus) -> None:
    """As those of older releases are."""
    plain, token = bus.join(), socket_paths.new_token()
    context = zmq.Context[zmq.Socket[bytes]]()
    member = sockets.dealer(context, bus.path, token, -1, keep=True)
    bus.router.admit(token)
    bus.router.connect_without_sync(token)  # connected as soon as its probe is seen
    while token not in bus.router.connected:
        bus.turn()
    member.send_multipart([plain.token, b"batch", b"b" * 100_000])
    bus.until_routed(1)
    assert plain.received() == [token, b"batch", b"b" * 100_000]
    plain.send(token, b"answer")
    bus.until_routed(1)
    assert member.recv_multipart() == [plain.token, b"answer"]
    member.close(linger=0)
    context.term()
    while bus.own.has(token):
        bus.turn()


def test_a_peer_that_does_not_read_loses_nothing(bus: Bus) -> None:
    """What its socket does not take waits here, in order, also behind one that was sent in part;
    others go on meanwhile. It is sent when it is read, and not on a later look."""
    a, b, slow = bus.join(), bus.join(), bus.join()
    count, size = 200, 20_000
    for number in range(count):
        a.send(slow.token, b"%d" % number, bytes(size))
    a.send(b.token, b"passes")
    assert b.received() == [a.token, b"passes"]
    assert bus.router.waiting
    assert bus.router.waiting_bytes > 0
    bus.router._again_at = float("inf")
    for number in range(count):
        assert slow.received() == [a.token, b"%d" % number, bytes(size)]
    assert not bus.router.waiting
    assert bus.router.waiting_bytes == 0


def test_what_a_peer_has_sent_is_routed_before_its_end(bus: Bus) -> None:
    """Also where it ends with messages that it has not read, which resets its connection."""
    a, b = bus.join(), bus.join()
    b.send(a.token, b"call")
    bus.until_routed(1)
    for number in range(BURST):
        a.send(b.token, b"%d" % number)
    a.socket.close()
    bus.router.mark_ended(a.token)
    bus.router.set_cause(a.token, "it was killed")
    while a.token in bus.router.live:
        bus.router.route_pending()
        bus.router.announce_ends()
    assert [b.received() for _ in range(BURST)] == [
        [a.token, b"%d" % number] for number in range(BURST)
    ]
    source, batch = b.received()
    (end,) = decode_data(batch)
    assert source == SUPERVISOR
    assert isinstance(end, Ended)
    assert (end.token, end.cause) == (a.token, "it was killed")


def test_an_end_is_announced_in_the_turn_that_has_read_it(bus: Bus) -> None:
    """Unlike with libzmq, whose thread may come late, nothing more can arrive then."""
    a, b = bus.join(), bus.join()
    a.send(b.token, b"call")
    bus.until_routed(1)
    a.socket.close()
    bus.router.mark_ended(a.token)
    bus.router.set_cause(a.token, "it was killed")
    bus.router.route_pending()
    bus.router.announce_ends()
    assert a.token not in bus.router.live


def test_messages_to_a_peer_that_has_ended_return(bus: Bus) -> None:
    """At once when its process has ended, and before that is announced."""
    a, b = bus.join(), bus.join()
    b.socket.close()
    bus.until_gone(b)
    a.send(b.token, b"one")
    while not bus.router.waiting:
        bus.turn()
    bus.router.mark_ended(b.token)
    assert not bus.router.waiting
    a.send(b.token, b"two")
    assert [a.received(), a.received()] == [[GONE, b.token, b"one"], [GONE, b.token, b"two"]]
    bus.router.set_cause(b.token, "it was killed")
    bus.router.announce_ends()
    assert decode_data(a.received()[1]) == [Ended(b.token, "it was killed", 2)]


def test_what_is_queued_at_an_end_returns_before_it(bus: Bus) -> None:
    """None of it was sent, also if the member is removed in another way."""
    a, b = bus.join(), bus.join()
    b.socket.close()
    bus.until_gone(b)
    a.send(b.token, b"one")
    while not bus.router.waiting:
        bus.turn()
    bus.router.drop(b.token, "it left")
    assert a.received() == [GONE, b.token, b"one"]
    assert decode_data(a.received()[1]) == [Ended(b.token, "it left", 1)]
    assert not bus.router.waiting_bytes


def test_messages_wait_for_a_member_whose_connection_has_broken(bus: Bus) -> None:
    """Its process goes on: it connects again, and has them in order, without a poll."""
    a, b = bus.join(), bus.join()
    b.socket.close()
    a.send(b.token, b"one")
    bus.until_gone(b)
    a.send(b.token, b"two")
    bus.look(0.1)
    again = bus.connect(b.token)
    again.send(b"")
    a.send(b.token, b"three")
    found = [again.received() for _ in range(3)]
    assert found == [[a.token, batch] for batch in (b"one", b"two", b"three")]
    assert not bus.router.waiting
    assert not bus.router.waiting_bytes


def test_a_large_message_for_the_router_is_not_read(bus: Bus) -> None:
    """A Sync is tiny; to read anything else may take long."""
    a = bus.join()
    a.send(SUPERVISOR, bytes(5000))
    while not bus.rejected:
        bus.turn()
    assert bus.rejected == ["a message of 5000 bytes for the router"]


def test_an_address_belongs_to_one_connection(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is served when that has been read to its end; not many can wait for that."""
    monkeypatch.setattr(streaming, "CLAIMS_MOST", 1)
    a, b = bus.join(), bus.join()
    dropped, second = (bus.connect(a.token) for _ in range(2))
    for peer in (dropped, second):
        peer.send(b.token, b"of the second")
    assert dropped.has_ended()
    a.send(b.token, b"of the first")
    a.socket.close()
    assert b.received() == [a.token, b"of the first"]
    assert b.received() == [a.token, b"of the second"]
    b.send(a.token, b"answer")
    bus.until_routed(1)
    assert second.received() == [b.token, b"answer"]


def test_a_peer_that_says_nothing_is_let_go(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection takes a descriptor."""
    monkeypatch.setattr(streaming, "HANDSHAKE_S", 0.0)
    silent = socket.socket(socket.AF_UNIX)
    silent.settimeout(WAIT_S)
    silent.connect(bus.path)
    bus.turn()
    while bus.own.connections:
        bus.listeners.turn()
    assert silent.recv(100) == zmtp.GREETING
    assert silent.recv(100) == b""
    silent.close()


def test_a_peer_that_speaks_something_else_is_let_go(bus: Bus) -> None:
    """And reported; the others do not notice."""
    a, b = bus.join(), bus.join()
    a.send(b"a" * 256, b"batch")
    bus.until_gone(a)
    assert a.has_ended()
    assert len(bus.rejected) == 1
    assert bus.own.has(b.token)


def test_others_users_are_let_go(bus: Bus) -> None:
    """The kernel reports whose process connects."""
    bus.own._uids = {os.getuid() + 1}
    other = socket.socket(socket.AF_UNIX)
    other.settimeout(WAIT_S)
    other.connect(bus.path)
    bus.turn()
    assert other.recv(100) == b""
    assert not bus.own.connections
    other.close()


def test_a_turn_that_ended_early_is_gone_on_with(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of a turn is hit after each read; all the others are read all the same."""
    monkeypatch.setattr(routing, "TURN_S", -1.0)
    receiver, *senders = (bus.join() for _ in range(5))
    for number in range(BURST):
        for sender in senders:
            sender.send(receiver.token, b"%d" % number)
    got = [receiver.received() for _ in range(BURST * len(senders))]
    for sender in senders:
        assert [int(batch) for source, batch in got if source == sender.token] == list(range(BURST))


def test_what_was_sent_in_part_is_finished_at_the_end(bus: Bus) -> None:
    """Its receiver has yet to read it; and what it sends meanwhile resets no connection."""
    a, b = bus.join(), bus.join()
    blob, before = bytes(100_000), bus.router.carried
    while not bus.router.waiting_bytes:
        a.send(b.token, b"batch", blob)
        bus.look(0.01)
    count = bus.router.carried - before
    b.socket.settimeout(WAIT_S)
    reader = Thread(target=b.has_ended)
    reader.start()
    b.send_bytes(zmtp.encode([a.token, b"not read any more"]))
    bus.own.close()
    reader.join()
    assert b._found == [[a.token, b"batch", blob]] * count


def test_a_full_peer_sends_messages_back(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound, each returns to its sender."""
    monkeypatch.setattr(routing, "WAITING_BYTES", 100_000)
    a, slow = bus.join(), bus.join()
    while not bus.router.waiting:
        a.send(slow.token, b"batch", bytes(50_000))
        bus.look(0.01)
    for _ in range(3):
        a.send(slow.token, b"batch", bytes(50_000))
    assert a.received()[:2] == [FULL, slow.token]
    assert bus.router.waiting_bytes <= 200_000


def test_a_sender_that_reads_nothing_back_is_held(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what returns to it would fill its queue up to the bound, and the calls of others to it
    would be returned. It goes on when it reads; an end is noticed meanwhile."""
    monkeypatch.setattr(routing, "WAITING_BYTES", 200_000)
    a, b, slow = bus.join(), bus.join(), bus.join()
    data, sent, blocked = zmtp.encode([slow.token, b"batch"]), 0, 0
    while blocked < 100:
        try:
            assert a.socket.send(data) == len(data)
            sent, blocked = sent + 1, 0
        except BlockingIOError:
            bus.look()
            blocked += 1
        assert sent < 100_000, "it is read without end"
    assert bus.router._queues[a.token].bytes < 200_000
    b.send(a.token, b"of another one")
    sources = list[bytes]()
    while not sources or sources[-1] != b.token:
        sources.append(a.received()[0])
    assert set(sources[:-1]) == {FULL}
    a.send(b.token, b"goes on")
    assert b.received() == [a.token, b"goes on"]
    for _ in range(sent):
        try:
            a.socket.send(data)
        except BlockingIOError:
            bus.look()
    a.socket.close()
    bus.until_gone(a)
