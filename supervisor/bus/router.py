"""Routes messages between members of the bus, returns those it cannot deliver, announces ends."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import zmq

from garrison.ipc import socket_paths, sockets
from garrison.ipc.errors import WireError
from garrison.ipc.messages import (
    FULL,
    GONE,
    SUPERVISOR,
    Ended,
    Sync,
    Synced,
    Token,
    decode_data,
    encode,
)
from garrison.ipc.sockets import EVENTS, NOBLOCK, POLLIN, RCVMORE
from garrison.ipc.system.trimmer import IdleTrimmer

from .endpoints import BusRouters
from .ends import Ends
from .routes import PLAIN, RETURNED_WHOLE, Frames, PeerTable, calls_alone, route
from .streams import Sent, StreamRouter, Streams

Socket: TypeAlias = "zmq.Socket[bytes]"

TURN_S = 0.002  # of one turn, so that ends and requests are handled during any flood
DEPARTED = 256  # former members whose late messages are not logged
WAITING_BYTES = 64 * 1024 * 1024  # queued for one peer that does not read, or one larger message
ALL_WAITING_BYTES = 4 * WAITING_BYTES  # queued for all such peers together
MESSAGE_BYTES = 256  # memory of a queued message besides its frames: most of it if they are tiny
JOIN_S = 2.0  # for a sender on the bus to join
NOTHING = encode([])  # a batch that has no effect
UNKNOWN, UNKNOWN_MOST = "an unknown sender on the bus", 256  # of which a time is kept
NO_ADDRESS: Token = b"-"  # of a sender whose key is another's
PEERS_MORE = 16  # connections that may be there besides those of members
AGAIN_S = 0.005  # before the next attempt to send to a peer whose queue was full


class SendQueue:
    """Messages for one peer, in order, while its connection takes nothing, or has broken."""

    def __init__(self) -> None:
        self.messages: deque[tuple[Any, ...]] = deque()  # of bytes: not tracked by the collector
        self.bytes = 0


class BusRouter:
    """Routes messages between the members of the bus.

    Args:
        routers: The bus's ROUTERs, bound.
        reject: Called for each invalid message, with the reason.
        max_message: Bytes of one message with all its frames.
        boot: The id of this supervisor process, which a member's Sync names.
        streams: Waits for the connections of those that are no sockets of ZeroMQ.

    Attributes:
        live: Members.
        connected: Those that may send and receive: their Sync was read. A member of an older
            release sends none: its Hello and its connection were seen.
        carried: Messages that were routed.
        direct_address: Returns the address of a pair's direct route; empty if it has none.
        pairs: Which members have sent to which.
        unread: Sockets of ZeroMQ that were used since they were found empty: they may have messages
            without a signal at their descriptors.
    """

    def __init__(
        self,
        routers: BusRouters,
        reject: Callable[[str], None],
        max_message: int,
        boot: str,
        streams: Streams | None = None,
    ) -> None:
        self._routers = routers
        self._streams = streams or Streams()
        self._max_message, self._boot = max_message, boot
        self._own, self._router_of = routers.own, routers.router_of
        self._reject = reject
        self.live: set[Token] = set()
        self.connected: set[Token] = set()
        self._new: set[Token] = set()  # connected since the last turn
        self._probed: set[Token] = set()  # their connection was seen
        self._without_sync: set[Token] = set()  # of an older release
        self.carried = 0
        self.pairs = PeerTable()
        self._unknown: dict[Token, tuple[float, int]] = {}  # no members; since when, messages
        self._departed: deque[Token] = deque(maxlen=DEPARTED)
        self._ends = Ends()
        self._read: dict[Token, Mapping[Token, int]] = {}  # batches that an ended member has read
        self._empty_at = 0.0  # when the bus was last seen empty
        self._queues: dict[Token, SendQueue] = {}
        self._held: set[Token] = set()  # senders that are not read until their queue is sent
        self._again_at = 0.0  # when to try again to send what is queued
        self.unread: deque[Socket] = deque()
        self.waiting_bytes = 0
        self.direct_address: Callable[[Token, Token], Token] = lambda caller, callee: b""
        self.trimmer = IdleTrimmer()

    def admit(self, token: Token) -> None:
        """Add a member."""
        self.live.add(token)
        self._unknown.pop(token, None)

    def connect_without_sync(self, token: Token, probed: bool = False) -> None:
        """Connect a member of an older release, as soon as its connection is seen.

        Args:
            token: The member.
            probed: Connect it at once.
        """
        self._without_sync.add(token)
        if probed or token in self._probed:
            self._connect(token)

    def _connect(self, token: Token) -> None:
        if token in self.live and token not in self.connected:
            self.connected.add(token)
            self._new.add(token)

    @property
    def settling(self) -> bool:
        """Return True if an end is still to be announced, or a connection to be reported."""
        return bool(self._ends or self._new)

    @property
    def waiting(self) -> bool:
        """Return True if messages are queued for a peer that does not read, or a sender has yet to
        join."""
        return bool(self._queues or self._unknown)

    @property
    def is_pending(self) -> bool:
        """Return True if something can be routed without a wait."""
        return bool(self.unread or self._streams.ready or self._streams.writable)

    def route_streams(self) -> bool:
        """Route what has arrived at plain sockets, for a bounded time, if there is nothing else to
        do; return False if there is."""
        if self.unread or self._queues or self._unknown or self._ends:
            return False
        self._route_streams(time.monotonic() + TURN_S)
        return not (self._new or self.pairs.has_new or self._queues or self._unknown)

    # --- messages ---------------------------------------------------------------------------

    def route_pending(self, ready: Sequence[Socket] | None = None) -> set[Token]:
        """Route what has arrived, for a bounded time; return the peers that just connected.

        Args:
            ready: The sockets that may have messages; None: all.
        """
        if self._queues and time.monotonic() >= self._again_at:
            sent = [self._send_queued(token) for token in list(self._queues)]
            self._again_at = 0.0 if any(sent) else time.monotonic() + AGAIN_S
        if self._unknown:
            self._reject_unknown()
        if ready is None:
            self._streams.wait(0.0)
            ready = [one for one in self._routers.all if not isinstance(one, StreamRouter)]
            everything = True
        else:
            everything = False
        for socket in ready:
            self._note_use(socket)
        until = time.monotonic() + TURN_S
        if self.is_pending:
            self._route_streams(until)
        unread = self.unread
        while unread:
            socket = unread.popleft()  # one message each, so that none delays the others
            if not socket.getsockopt(EVENTS) & POLLIN:  # type: ignore[operator]
                continue
            unread.append(socket)
            self._read_one(socket)
            if time.monotonic() >= until:
                break
        else:
            if everything:
                self._empty_at = time.monotonic()
        new, self._new = self._new, set()
        return new

    def _note_use(self, socket: Socket) -> None:
        if socket not in self.unread:
            self.unread.append(socket)

    def _route_streams(self, until: float) -> None:
        """Route what the connections of plain sockets have, by turns, until a time."""
        streams = self._streams
        if streams.writable:
            for token in streams.take_writable():
                if token in self._queues:
                    self._send_queued(token)
        ready = streams.ready
        while ready:
            connection = ready.popleft()
            connection.is_ready = False
            for frames in connection.read():
                self._take(frames, connection.router)
            if time.monotonic() >= until:
                return

    def _read_one(self, socket: Socket) -> None:
        """Route the message that waits in a socket of ZeroMQ."""
        remote = socket is self._routers.remote
        source = self._source(socket) if remote else socket.recv(NOBLOCK)
        frames: Frames = [source, socket.recv(NOBLOCK)]
        while socket.getsockopt(RCVMORE):
            frames.append(socket.recv(NOBLOCK, copy=len(frames) == PLAIN - 1))
        self._take(frames, socket)

    def _take(self, frames: Frames, router: "Socket | StreamRouter") -> None:
        """Route a message. What two members send each other without large frames is sent on here;
        this is most of what a call costs the supervisor."""
        source, destination = frames[0], frames[1]
        if self._ends:
            self._ends.note_read(source)
        if router is not self._own and not self._routers.owns_address(source, router):
            if not self._routers.is_former(source):
                self._reject("another's address on the bus")
        elif (
            len(frames) == PLAIN
            and source in self.connected
            and destination in self.connected
            and destination not in self._queues
        ):
            self.pairs.count(source, destination)
            frames[0], frames[1] = destination, source
            self._send_now(frames)
        elif len(frames) == 2 and not destination:
            self._on_probe(source)
        else:
            if len(frames) > PLAIN:
                self.trimmer.note_large(time.monotonic())
            self._forward(frames)

    def _source(self, socket: Socket) -> Token:
        """Read the first frame of a worker on a node; return its address if its key is that of the
        same incarnation, else NO_ADDRESS."""
        frame = socket.recv(NOBLOCK, copy=False)
        source = frame.bytes
        return source if sockets.key_holder(frame) == source.hex() else NO_ADDRESS

    def _reject_unknown(self) -> None:
        """Reject those that have sent messages, and have not joined in time."""
        late = time.monotonic() - JOIN_S
        for token in [token for token, (since, _) in self._unknown.items() if since < late]:
            for _ in range(self._unknown.pop(token)[1]):
                self._reject(UNKNOWN)

    def _on_probe(self, token: Token) -> None:
        if token in self._queues:
            self._send_queued(token)
        if token in self.live:
            self._probed.add(token)
            if token in self._without_sync:
                self._connect(token)

    def _forward(self, frames: Frames) -> None:
        source = frames[0]
        onward = route(frames, self.live, self.connected, self._max_message)
        if onward is None:
            self._reject(f"{len(frames)} frames with {sum(map(len, frames))} bytes")
            return
        why = onward[1]
        if why is source:
            self.pairs.count(source, onward[0])
        elif source in self.live:
            if onward[2] == SUPERVISOR:
                self._on_sync(source, onward[3])
                return
        elif source in self._departed:  # a late message of a former member is normal
            return
        elif not socket_paths.is_token(source) or len(self._unknown) >= UNKNOWN_MOST:
            self._reject(UNKNOWN)
            return
        else:  # it may be a program that joins next, such as one of a former supervisor
            since, count = self._unknown.get(source, (time.monotonic(), 0))
            self._unknown[source] = since, count + 1
        if why is not source:
            onward[3] = calls_alone(onward[3])
        self._send(onward)

    def _on_sync(self, source: Token, batch: bytes) -> None:
        """Connect a member from here on; one for another router may arrive late."""
        if len(batch) > RETURNED_WHOLE:  # a Sync is tiny; to decode what is not may take long
            self._reject(f"a message of {len(batch)} bytes for the router")
            return
        try:
            messages = decode_data(batch)
        except WireError as error:
            self._reject(f"no message for the router: {error}")
            return
        for message in messages:
            if isinstance(message, Sync) and message.boot == self._boot:
                self._connect(source)
                self._send([source, SUPERVISOR, encode([Synced(self._boot)])])

    def _send(self, frames: Frames) -> None:
        """Send without blocking. If the peer's queue is full, the message is queued here, within a
        bound; beyond the bound, or if the peer is gone, it returns to its sender."""
        if frames[0] in self._queues:
            self._enqueue(frames)
        else:
            self._send_now(frames)

    def _send_now(self, frames: Frames) -> None:
        outcome = self._pass_on(frames)
        if outcome is Sent.DONE:
            self.carried += 1
        elif outcome is Sent.FULL or self._comes_back(frames[0]):
            self._enqueue(frames)
        else:
            self._return(frames, GONE)

    def _comes_back(self, token: Token) -> bool:
        """Return True for a member whose connection has broken, and whose process has not ended:
        it connects again a moment later."""
        if token not in self.connected or token in self._ends:
            return False
        return isinstance(self._router_of.get(token, self._own), StreamRouter)

    def _pass_on(self, frames: Sequence[Any]) -> Sent:
        """Send without blocking, through the ROUTER of the address."""
        router = self._router_of.get(frames[0], self._own)
        if isinstance(router, StreamRouter):
            return router.send(frames)
        return self._send_by_zmq(router, frames)

    def _send_by_zmq(self, socket: Socket, frames: Sequence[Any]) -> Sent:
        if socket not in self.unread:
            self.unread.append(socket)
        try:
            sockets.send(socket, frames)
        except zmq.ZMQError as error:
            if error.errno == zmq.EAGAIN:
                return Sent.FULL
            if error.errno == zmq.EHOSTUNREACH:
                return Sent.GONE
            raise
        return Sent.DONE

    def _enqueue(self, frames: Frames) -> None:
        size = _size(frames)
        queue = self._queues.get(frames[0])
        if queue is None:
            queue = self._queues[frames[0]] = SendQueue()
        fits = queue.bytes + size <= WAITING_BYTES
        if (not fits and queue.messages) or self.waiting_bytes + size > ALL_WAITING_BYTES:
            self._return(frames, FULL)
            return
        queue.messages.append(tuple(frames))
        queue.bytes += size
        self.waiting_bytes += size

    def _send_queued(self, token: Token) -> bool:
        """Send what is queued for a peer; return False if it still takes nothing."""
        sent = False
        queue = self._queues[token]
        while queue.messages:
            frames = queue.messages[0]
            outcome = self._pass_on(frames)
            if outcome is Sent.FULL:
                return sent
            if outcome is Sent.GONE:
                if self._comes_back(token):
                    return sent
                self._return_queue(token)
                return True
            size = _size(frames)
            queue.messages.popleft()
            queue.bytes -= size
            self.waiting_bytes -= size
            self.carried += 1
            sent = True
        del self._queues[token]
        self._end_hold(token)
        return True

    def _return_queue(self, token: Token) -> None:
        """Return what is queued for a peer that is gone: none of it was sent."""
        queue = self._queues.pop(token, None)
        self._end_hold(token)
        if queue is not None:
            self.waiting_bytes -= queue.bytes
            self.trimmer.note_large(time.monotonic())  # the C library may keep 64 MiB of it
            for unsent in queue.messages:
                self._return(unsent, GONE)

    def _return(self, frames: Sequence[Any], why: Token) -> None:
        """Return a message to its sender. A message that is itself returned is dropped."""
        destination, source, batch = frames[:3]
        if source not in {GONE, FULL, SUPERVISOR}:
            self._send([source, why, destination, calls_alone(batch)])
            if why == FULL and source in self._queues:
                self._hold(source)

    def _hold(self, token: Token) -> None:
        """Read no more from a member until it has read what came back to it, else that would fill
        its queue, and calls of others to it would be returned."""
        router = self._router_of.get(token, self._own)
        if isinstance(router, StreamRouter):
            router.hold(token, True)
            self._held.add(token)

    def _end_hold(self, token: Token) -> None:
        if token in self._held:
            self._held.discard(token)
            router = self._router_of.get(token, self._own)
            if isinstance(router, StreamRouter):
                router.hold(token, False)

    # --- ends -------------------------------------------------------------------------------

    def mark_ended(self, token: Token, read: Mapping[Token, int] | None = None) -> None:
        """Note that a member's process ended. Its end is announced after its last messages.

        Args:
            token: The member.
            read: How many batches it had read, by sender; None: unknown.
        """
        if token in self.live:
            self._ends.mark(token, time.monotonic())
            if token in self._queues:
                self._send_queued(token)  # without a connection, it comes back at once
            if read is not None:
                self._read[token] = read

    def set_cause(self, token: Token, cause: str) -> None:
        """Note why a member's process ended."""
        self._ends.set_cause(token, cause)

    def announce_ends(self) -> None:
        """Announce each end whose last messages were routed and whose cause is known, or that is
        due."""
        for token in self._ends.to_look(time.monotonic()):
            router = self._router_of.get(token, self._own)
            if isinstance(router, StreamRouter):
                if not router.has(token):
                    self._ends.note_closed(token, time.monotonic(), was_read=True)
            elif self._send_by_zmq(router, [token, SUPERVISOR, NOTHING]) is Sent.GONE:
                self._ends.note_closed(token, time.monotonic())
        most = 2 * (len(self.live) + PEERS_MORE) * len(self._routers.all)
        for token, cause in self._ends.take_due(time.monotonic(), self._empty_at, most):
            self.drop(token, cause or "its process ended")

    def drop(self, token: Token, cause: str) -> None:
        """Remove a member, and announce its end to those that exchanged messages with it."""
        for members in (self.live, self.connected, self._new, self._probed, self._without_sync):
            members.discard(token)
        self._departed.append(token)
        self._return_queue(token)
        arrived, read = self.pairs.to(token), self._read.pop(token, None)
        for partner in self.pairs.forget(token):
            if partner in self.live:
                delivered, direct = arrived.get(partner, 0), -1
                address = self.direct_address(partner, token)
                if read is not None:
                    delivered = min(delivered, read.get(partner, 0))
                    direct = read.get(address, 0) if address else -1
                end = Ended(token, cause, delivered, direct)
                self._send([partner, SUPERVISOR, encode([end])])
        self._routers.forget(token)


def _size(frames: Sequence[Any]) -> int:
    return MESSAGE_BYTES + sum(map(len, frames))
