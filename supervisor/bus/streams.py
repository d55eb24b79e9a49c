"""The bus's ROUTERs on plain Unix sockets, without libzmq's thread; they read, write and connect.

All connections, of all users, are in one epoll, which the loop waits in. Durations are seconds,
sizes bytes.
"""

import contextlib
import enum
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from garrison.ipc.errors import WireError
from garrison.ipc.messages import Token
from garrison.ipc.queue_limits import LINGER_S
from garrison.ipc.zmtp import PARTS_MOST, SEND_BUFFER, after, parts

from .router_wire import ACCEPTED, OPENING, RouterDecoder, joined

READ = 8 * 1024  # at once: so much of small messages each connection may send before the others
HANDSHAKE_S = 0.5  # for a peer to name itself
IN, OUT = select.EPOLLIN, select.EPOLLOUT
CREDENTIALS = struct.Struct("=3i")  # pid, uid, gid
CLAIMS_MOST = 4  # connections that wait for one address
UNNAMED = b"\0"  # begins the address of a peer that has named none


class Sent(enum.Enum):
    """What has become of a message."""

    DONE = enum.auto()  # it is sent, or the rest of it follows by itself
    FULL = enum.auto()  # the peer takes nothing now
    GONE = enum.auto()  # there is no such peer


DONE, FULL, GONE = Sent.DONE, Sent.FULL, Sent.GONE


class Streams:
    """Waits for all connections of the bus, and for another epoll with everything else.

    Attributes:
        ready: Connections that have something to read, in the order in which they are read.
        writable: Those that take more, and were to be waited for.
        reject: Called with the reason why a connection is ended that speaks something else.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._late: dict[Connection, float] = {}  # that have yet to name themselves; until when
        self.ready: deque[Connection] = deque()
        self.writable: list[Connection] = []
        self.reject: Callable[[str], None] = lambda reason: None

    def wait(self, seconds: float) -> bool:
        """Wait until a connection is ready or another descriptor; return True for the latter."""
        others = False
        for fd, events in self._epoll.poll(seconds):
            connection = self._connections.get(fd)
            if connection is None:
                others = True
                continue
            if events != select.EPOLLOUT and not connection.is_ready:
                connection.is_ready = True
                self.ready.append(connection)
            if events & select.EPOLLOUT:
                self.writable.append(connection)
        return others

    def watch_other(self, fd: int) -> None:
        """Wait for another descriptor as well, until it is closed."""
        self._epoll.register(fd, IN)

    def add(self, connection: "Connection", *, named: bool = False) -> None:
        """Wait for a connection.

        Args:
            connection: To wait for.
            named: It has named itself; one that does not do so in time is closed.
        """
        self._connections[connection.fd] = connection
        self._epoll.register(connection.fd, IN)
        if not named:
            self._late[connection] = time.monotonic() + HANDSHAKE_S
        elif not connection.is_ready:
            connection.is_ready = True  # with what has come with its name
            self.ready.append(connection)

    def set_named(self, connection: "Connection") -> None:
        """Note that a connection has named itself."""
        self._late.pop(connection, None)

    def remove(self, connection: "Connection") -> None:
        """Wait for a connection no longer."""
        self._late.pop(connection, None)
        if self._connections.get(connection.fd) is connection:
            del self._connections[connection.fd]
            self._epoll.unregister(connection.fd)

    def change(self, connection: "Connection", events: int) -> None:
        """Wait for other events of a connection."""
        if self._connections.get(connection.fd) is connection:
            self._epoll.modify(connection.fd, events)

    def end_late(self) -> float:
        """Close the connections that have not named themselves in time; return when the next one
        would have to."""
        now = time.monotonic()
        for connection in [one for one, until in self._late.items() if until <= now]:
            connection.close()
        return min(self._late.values(), default=inf)

    def take_writable(self) -> list[Token]:
        """Go on with what was sent in part; return the addresses that take more messages now."""
        found, self.writable = self.writable, []
        return [one.source for one in found if one.go_on()]

    def close(self) -> None:
        """Close the epoll."""
        self._epoll.close()


class StreamRouter:
    """The ROUTER of one user.

    Args:
        streams: Waits for its connections.
        max_message: The largest frame; negative: there is no bound.
        uid: The only user that can connect, besides root and the supervisor's own; negative: none.

    Attributes:
        streams: The same.
        connections: All that are open.
        on_close: Called after a connection has ended.
    """

    def __init__(self, streams: Streams, max_message: int, uid: int = -1) -> None:
        self.streams, self._max_message = streams, max_message
        self._uids = {os.getuid(), 0, uid} - {-1}
        self._peers: dict[Token, Connection] = {}
        self._claims: dict[Token, deque[Connection]] = {}  # of addresses that are in use
        self.connections: set[Connection] = set()
        self.on_close: Callable[[], None] = lambda: None

    def take(self, accepted: socket.socket) -> None:
        """Serve a connection that was accepted, if it is from a process that may connect."""
        with contextlib.suppress(OSError):
            accepted.setblocking(False)
            raw = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
            if CREDENTIALS.unpack(raw)[1] in self._uids:
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
                accepted.send(OPENING)
                connection = Connection(self, accepted, RouterDecoder(self._max_message))
                self.connections.add(connection)
                self.streams.add(connection)
                return
        accepted.close()

    def send(self, frames: Sequence[Any]) -> Sent:
        """Send `[destination, source, batch, *blobs]`."""
        peer = self._peers.get(frames[0])
        return GONE if peer is None else peer.send(frames)

    def has(self, token: Token) -> bool:
        """Return whether an address is connected. While it is, something of it may be unread."""
        return token in self._peers

    def hold(self, token: Token, held: bool) -> None:
        """Read no more from an address, or again. The rest waits in the kernel, and its peer."""
        if peer := self._peers.get(token):
            peer.hold(held)

    def on_named(self, connection: "Connection", token: Token) -> None:
        """Give a connection the address that it has named; if another one has that, once that has
        been read to its end. Until then nothing of it is read."""
        self.streams.set_named(connection)
        connection.welcome()
        token = token or UNNAMED + os.urandom(4)
        if token not in self._peers:
            self._peers[token] = connection
            connection.accept(token)
            return
        self.streams.remove(connection)
        claims = self._claims.setdefault(token, deque())
        claims.append(connection)
        if len(claims) > CLAIMS_MOST:
            claims.popleft().close()

    def on_end(self, connection: "Connection") -> None:
        """Forget a connection; the next one that has named its address has it from now on."""
        self.connections.discard(connection)
        token = connection.source
        if self._peers.get(token) is connection:
            del self._peers[token]
            waiting = self._claims.get(token)
            if waiting:
                following = waiting.popleft()
                if not waiting:
                    del self._claims[token]
                self._peers[token] = following
                following.accept(token, is_later=True)
                self.streams.add(following, named=True)
        self.on_close()

    def close(self) -> None:
        """End all connections, behind what was sent in part."""
        self._claims.clear()
        until = time.monotonic() + LINGER_S
        for connection in list(self.connections):
            connection.finish(until)


class Connection:
    """One connection to a member.

    Args:
        router: Whose it is.
        accepted: The socket.
        decoder: Finds its messages.

    Attributes:
        fd: Its descriptor.
        source: The member's address, once it is accepted.
        is_ready: It is in `Streams.ready`.
        is_closed: It has ended.
    """

    __slots__ = (
        "_decoder",
        "_full",
        "_held",
        "_is_fed",
        "_recv",
        "_rest",
        "_send",
        "_socket",
        "fd",
        "is_closed",
        "is_ready",
        "router",
        "source",
    )

    def __init__(
        self, router: StreamRouter, accepted: socket.socket, decoder: RouterDecoder
    ) -> None:
        self.router, self._socket, self._decoder = router, accepted, decoder
        self.fd = accepted.fileno()
        self._recv, self._send = accepted.recv, accepted.send
        self.source: Token = b""
        self.is_ready = self.is_closed = False
        self._rest: list[memoryview] = []  # of the message that was sent in part
        self._is_fed = True  # False: the decoder has what came with the name
        self._held = False  # it is not read
        self._full = False  # nothing is sent until it takes more

    def welcome(self) -> None:
        """Let the peer send messages."""
        self._write_piece(ACCEPTED)

    def accept(self, token: Token, *, is_later: bool = False) -> None:
        """Have messages come from this address: at once, or from the next `read` on."""
        self.source = self._decoder.source = token
        self._is_fed = not is_later

    # --- sending ----------------------------------------------------------------------------

    def send(self, frames: Sequence[Any]) -> Sent:
        """Send a message, as far as the socket takes it; the rest follows."""
        if self._full:
            return FULL
        data = joined(frames)
        return self._write(parts(frames[1:])) if data is None else self._write_piece(data)

    def _write_piece(self, data: bytes) -> Sent:
        try:
            sent = self._send(data)
        except OSError as error:
            return self._on_unsent(error)
        if sent < len(data):
            self._keep([data], sent)
        return DONE

    def _write(self, pieces: list[Any]) -> Sent:
        try:
            sent = self._socket.sendmsg(pieces)
        except OSError as error:
            return self._on_unsent(error)
        self._keep(pieces, sent)
        return DONE

    def _on_unsent(self, error: OSError) -> Sent:
        """Return what has become of a message of which nothing was sent."""
        if isinstance(error, ConnectionError):
            return GONE  # what the peer has sent, and its end, are still to be read
        self._set_full(True)  # or the kernel is short of memory
        return FULL

    def _keep(self, pieces: Sequence[Any], sent: int) -> None:
        self._rest = after(pieces, sent)
        if self._rest:
            self._set_full(True)

    def go_on(self) -> bool:
        """Go on with what was sent in part; return True if the next message can be sent."""
        if self.is_closed:
            return False
        try:
            while self._rest:
                self._rest = after(self._rest, self._socket.sendmsg(self._rest[:PARTS_MOST]))
        except ConnectionError:
            self._rest = []
        except OSError:  # it takes nothing, or the kernel is short of memory
            return False
        self._set_full(False)
        return True

    def _set_full(self, full: bool) -> None:
        if full != self._full:
            self._full = full
            self._wait_for()

    def hold(self, held: bool) -> None:
        """Read no more, except after the end of the peer; or read again."""
        if held != self._held:
            self._held = held
            self._wait_for()

    def _wait_for(self) -> None:
        events = (0 if self._held else IN) | (OUT if self._full else 0)
        self.router.streams.change(self, events)

    # --- receiving --------------------------------------------------------------------------

    def read(self) -> list[list[Any]]:
        """Read once; return the messages that have arrived, each as [source, destination, batch,
        *blobs]. At its end the connection is closed."""
        decoder = self._decoder
        if self.is_closed:
            return []
        try:
            if not self._is_fed:
                self._is_fed = True
                return decoder.feed(b"")
            if decoder.room is not None:
                count = self._socket.recv_into(decoder.room)
                if count:
                    return decoder.fill(count)
            elif data := self._recv(READ):
                found = decoder.feed(data)
                if not self.source and decoder.identity is not None:
                    self.router.on_named(self, decoder.identity)
                    return decoder.feed(b"") if self.source else []
                return found
        except (BlockingIOError, ConnectionResetError):  # the latter comes before what is unread
            return []
        except WireError as error:
            self.router.streams.reject(f"a connection of the bus: {error}")
        except OSError:
            pass
        self.close()
        return []

    def close(self) -> None:
        """End the connection."""
        if self.is_closed:
            return
        self.is_closed = True
        self.router.streams.remove(self)
        self._socket.close()
        self.router.on_end(self)

    def finish(self, until: float) -> None:
        """End the connection behind what was sent in part. What it sends meanwhile is read, because
        otherwise its peer would lose what it has yet to read."""
        with contextlib.suppress(OSError):
            while self._rest and (left := until - time.monotonic()) > 0:
                self._socket.settimeout(left)
                self._rest = after(self._rest, self._socket.sendmsg(self._rest[:PARTS_MOST]))
            self._socket.setblocking(False)
            self._socket.shutdown(socket.SHUT_RDWR)
            while self._recv(READ):
                pass
        self.close()
