"""The connection of a node's process to the supervisor: sessions, renewals of the lease, repeats.

Times are monotonic seconds, those of the lease seconds of CLOCK_BOOTTIME.
"""

import contextlib
import time
from collections.abc import Callable
from math import inf

import zmq

from garrison.ipc import sockets
from garrison.ipc.errors import WireError
from garrison.supervisor.processes import node_protocol
from garrison.supervisor.processes.node_lease import NodeLease, connects_anew, next_request
from garrison.supervisor.processes.node_protocol import NO_SESSION, Header, NodeHello
from garrison.supervisor.processes.node_stream import Inbox, Outbox

HELLO_S = 0.3  # between two reports of a process that was not accepted yet
REFUSED_S = 2.0  # the same, after it was refused
SILENCE_S = 3.0  # without an answer to them: a new connection
READ_MOST = 200  # messages of one turn


def boottime() -> float:
    """Return the time by the clock of leases."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class NodeLink:
    """The connection.

    Args:
        connect: Returns a new DEALER that connects to the engine socket.
        hello: What this process reports itself as.
        lease: The lease, which answers of the supervisor extend.

    Attributes:
        joined: Whether the supervisor has accepted this process.
        heard_at: When it last answered.
        former: What the supervisor had not received when the session began, oldest first.
        refused: Why it does not accept this process; empty: it does, or has not answered.
    """

    def __init__(
        self, connect: Callable[[], "zmq.Socket[bytes]"], hello: NodeHello, lease: NodeLease
    ) -> None:
        self._connect, self._hello, self._lease = connect, hello, lease
        self._socket = connect()
        self._session = NO_SESSION
        self._inbox, self._outbox = Inbox(), Outbox()
        self._next = 0.0  # when to renew, or to report in again
        self._connected_at = time.monotonic()
        self._acknowledged = 0
        self._failed = 0  # connections in a row that had no answer
        self.heard_at = -inf
        self.refused = ""
        self.former: list[bytes] = []

    @property
    def joined(self) -> bool:
        """Return whether the supervisor has accepted this process."""
        return self._session != NO_SESSION

    @property
    def due(self) -> float:
        """Return when `turn` has something to do."""
        return self._next

    def fileno(self) -> int:
        """Return the descriptor that is readable when the socket may have messages."""
        return int(self._socket.get(zmq.FD))

    @property
    def has_message(self) -> bool:
        """Return whether a message waits; the descriptor does not show each one."""
        return bool(int(self._socket.getsockopt(sockets.EVENTS)) & sockets.POLLIN)

    @property
    def waiting(self) -> int:
        """Return how many messages the supervisor has not received."""
        return len(self._outbox)

    @property
    def delivered(self) -> int:
        """Return the number of the last message that the supervisor has received."""
        return self._outbox.number - len(self._outbox)

    # --- sending ----------------------------------------------------------------------------

    def turn(self) -> None:
        """Renew the lease, or report in, when it is time; connect anew if nothing is answered."""
        now = time.monotonic()
        if now < self._next:
            return
        silent, connected = now - self.heard_at, now - self._connected_at
        if self.joined:
            wait = next_request(self._lease.seconds, silent)
            anew = connects_anew(self._lease.seconds, silent, connected, self._failed)
        else:
            wait, anew = HELLO_S, min(silent, connected) > SILENCE_S
        if anew:
            self._reconnect(now)
        self._next = now + (REFUSED_S if self.refused else wait)
        if self.joined:
            self._send_frames(0, node_protocol.encode(self._renew()))
            for number, body in self._outbox.late(now):
                self._send_frames(number, body)
        else:
            self._send_frames(0, node_protocol.encode(self._hello))

    def _renew(self) -> node_protocol.Renew:
        return node_protocol.Renew(self._lease.request(boottime()))

    def _reconnect(self, now: float) -> None:
        self._failed = self._failed + 1 if self.heard_at < self._connected_at else 0
        self._socket.close(linger=0)
        self._socket, self._connected_at = self._connect(), now

    def send(self, message: node_protocol.Upward) -> int:
        """Send a message that is repeated until the supervisor has received it; return its number.

        Without a session it is kept for the next one, see `former`.

        Raises:
            StreamOverflow: It has received nothing for too long.
        """
        body = node_protocol.encode(message)
        number = self._outbox.add(body, time.monotonic())
        if self.joined:
            self._send_frames(number, body)
        return number

    def begin_anew(self) -> None:
        """Give up the session, and what is kept for it: the supervisor has received too little."""
        self._session, self._outbox, self._next = NO_SESSION, Outbox(), 0.0

    def send_once(self, message: node_protocol.Upward) -> None:
        """Send a message that is of no use later."""
        if self.joined:
            self._send_frames(0, node_protocol.encode(message))

    def _send_frames(self, number: int, body: bytes) -> None:
        header = Header(self._session, number, self._inbox.received)
        self._acknowledged = self._inbox.received
        with contextlib.suppress(zmq.ZMQError):  # not connected, or full: it is sent again
            sockets.send(self._socket, [node_protocol.encode(header), body])

    # --- receiving --------------------------------------------------------------------------

    def receive(self) -> list[node_protocol.Downward]:
        """Return what the supervisor has sent, an Adopt of a new session included."""
        messages: list[node_protocol.Downward] = []
        for _ in range(READ_MOST):
            try:
                frames = sockets.receive(self._socket)
            except zmq.Again:
                break
            with contextlib.suppress(WireError):
                if len(frames) == 2 and (message := self._take(frames)) is not None:
                    messages.append(message)
        if self._inbox.received != self._acknowledged:
            self.send_once(node_protocol.Received())
        return messages

    def _take(self, frames: list[bytes]) -> node_protocol.Downward | None:
        header = node_protocol.decode_header(frames[0])
        message = node_protocol.decode_downward(frames[1])
        now = time.monotonic()
        match message:
            case node_protocol.Identify():
                if header.session not in {NO_SESSION, self._session}:
                    return None  # about a message of a session before this one
                self._session, self._next, self.refused = NO_SESSION, 0.0, ""
                return None
            case node_protocol.Refused(reason):
                self._session, self.refused, self.heard_at = NO_SESSION, reason, now
                return message
            case node_protocol.Adopt():
                self.heard_at, self.refused = now, ""
                if header.session == self._session:
                    return None
                self._session = header.session
                self.former = self._outbox.bodies()
                self._inbox, self._outbox = Inbox(), Outbox()
                self._lease.forget_requests()
                self._lease.seconds, self._next = message.lease, 0.0
                return message
        if header.session != self._session:
            return None
        self._outbox.acknowledge(header.received, now)
        if isinstance(message, node_protocol.Renewed):
            self.heard_at = now
            return message if self._lease.renewed(message.number) else None
        return message if self._inbox.take(header.number) else None

    def close(self, linger_ms: int = sockets.LINGER_MS) -> None:
        """Close the socket."""
        self._socket.close(linger=linger_ms)
