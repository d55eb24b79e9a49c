"""Sends and receives batches over a plain Unix socket to a ROUTER, in an asyncio loop.

It does what a DEALER of libzmq does, without its thread: each message would wake that, be handed
over, and wake the loop. A connection that ends is opened again. Sizes are bytes, durations seconds.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

from . import zmtp
from .batching import BATCH_BYTES
from .errors import WireError
from .frames import FRAMES_MOST
from .messages import Token
from .router_link import RouterLink
from .zmtp import JOINED_MOST, PARTS_MOST, SEND_BUFFER, after

log = logging.getLogger(__name__)

READ, READ_MOST = 16 * 1024, 1 << 20  # at once; of a large frame
RECEIVE_MOST = 20_480  # reads, when the router has ended
PROBE = [b""]  # the router sees the connection by it
READS_A_TURN, MESSAGES_A_TURN = 8, 64  # before the loop's other work runs; with those of a read
GREETING_S = 10.0  # for the router to take a connection: a path may lead to one that is gone
RECONNECT_S = 0.02
CUTS_MOST = 3  # connections in a row that end within one message: the router refuses it


class StreamLink(RouterLink):
    """One connection to the router.

    Args:
        path: Of the router's socket.
        token: The routing id.
        frame_most: The largest frame that is received; negative: there is no bound.
        receive: Called with the frames of each message: source, batch, large frames.
        malformed: Called for each message of fewer than two frames.
        max_message: Returns the largest frame that the other side accepts.
        posted: See `Batching`.
        keep: What a connection has not taken goes to the next one, as a whole where it was written
            in part; otherwise it is dropped.
    """

    def __init__(
        self,
        path: str,
        token: Token,
        frame_most: int,
        receive: Callable[[list[bytes]], None],
        malformed: Callable[[], None],
        max_message: Callable[[], int] = lambda: BATCH_BYTES,
        posted: Callable[[list[int], int], None] | None = None,
        keep: bool = True,
    ) -> None:
        super().__init__(max_message, posted)
        self._path, self._opening, self._frame_most = path, zmtp.opening(token), frame_most
        self._receive, self._malformed, self._keep = receive, malformed, keep
        self._socket: socket.socket | None = None
        self._decoder = zmtp.Decoder(frame_most)
        self._greeted = False  # the router has taken this connection
        self._takes = False  # it can be sent to
        self._current: list[Any] = []  # the message that is written in part
        self._rest: list[memoryview] = []  # of it
        self._cut: list[Any] = []  # the message that connections have ended within; how many
        self._cuts = 0
        self._due: asyncio.TimerHandle | None = None  # the next attempt, or the end of this one
        self._again: asyncio.Handle | None = None  # there may be more to read
        self._closed = False
        self._connect()

    # --- the connection ---------------------------------------------------------------------

    def _connect(self) -> None:
        try:
            one = _connected(self._path, self._opening)
        except OSError:  # no router, its backlog is full, or no descriptor is free
            self._connect_later()
            return
        self._socket = one
        self._due = self._loop.call_later(GREETING_S, self._drop)
        self._decoder, self._greeted = zmtp.Decoder(self._frame_most, FRAMES_MOST + 3), False
        self._loop.add_reader(one.fileno(), self._readable)

    def _connect_later(self) -> None:
        if not self._closed:
            self._due = self._loop.call_later(RECONNECT_S, self._connect)

    def _drop(self) -> None:
        """End the connection."""
        if self._socket is None:
            return
        self._stop_sending()
        self._stop_waiting()
        self._loop.remove_reader(self._socket.fileno())
        with contextlib.suppress(OSError):  # a child process may have it open, too
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._socket = None
        self._connect_later()

    def _stop_waiting(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    # --- sending ----------------------------------------------------------------------------

    def _post(self, peer: Token, frames: list[Any]) -> None:
        if len(frames) > 1:
            self._note_large()
        self._post_frames([peer, *frames])

    def _post_frames(self, frames: list[Any]) -> None:
        if not self._takes or self._rest or self._backlog:
            self._backlog.append(frames)
        else:
            self._write(frames)

    def _write(self, frames: list[Any]) -> None:
        """Write a message, as far as the socket takes it; the rest when it takes more."""
        assert self._socket is not None
        parts = zmtp.parts(frames)
        size = sum(map(len, parts))
        if size <= JOINED_MOST:
            parts = [b"".join(parts)]
        try:
            sent = self._socket.send(parts[0]) if len(parts) == 1 else self._socket.sendmsg(parts)
        except ConnectionError:  # it has ended, which is read behind what the router had sent
            if frames != PROBE:
                self._backlog.appendleft(frames)
            self._stop_sending()
            return
        except OSError:  # it is full, or the kernel is short of memory
            sent = 0
        if sent < size:
            self._current = frames
            self._rest = after(parts, sent)
            self._loop.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        assert self._socket is not None
        try:
            self._rest = after(self._rest, self._socket.sendmsg(self._rest))
        except ConnectionError:
            self._stop_sending()
            return
        except OSError:
            return
        if not self._rest:
            self._current = self._cut = []
            self._loop.remove_writer(self._socket.fileno())
            self._drain_backlog()

    def _drain_backlog(self) -> None:
        while self._backlog and self._takes and not self._rest:
            self._write(self._backlog.popleft())

    def _stop_sending(self) -> None:
        """Keep what is not sent for the next connection, or drop it."""
        took, self._takes = self._takes, False
        if self._rest:
            assert self._socket is not None
            self._loop.remove_writer(self._socket.fileno())
            self._keep_cut()
            self._current, self._rest = [], []
        if took and not self._keep:
            self._backlog.clear()

    def _keep_cut(self) -> None:
        """Have the message sent again that was written in part, unless the router refuses it: what
        waits behind it would wait for ever."""
        cut = self._current
        self._cut, self._cuts = cut, self._cuts + 1 if cut is self._cut else 1
        if self._cuts < CUTS_MOST:
            self._backlog.appendleft(cut)
        else:
            log.warning("message.refused bytes=%d connections=%d", sum(map(len, cut)), self._cuts)
            self._cut = []

    # --- receiving --------------------------------------------------------------------------

    def receive_all(self) -> None:
        """Read what has arrived."""
        for _ in range(RECEIVE_MOST):
            if self._read() is None:
                return

    def _readable(self) -> None:
        """Read until there is nothing more. libuv reports a reset once, and then watches the socket
        no longer: what a router that has ended has left, and its end, are read at once."""
        handled = 0
        for _ in range(READS_A_TURN):
            count = self._read()
            if count is None:
                return
            handled += count
            if handled >= MESSAGES_A_TURN:
                break
        if self._again is None:
            self._again = self._loop.call_soon(self._read_again)

    def _read_again(self) -> None:
        self._again = None
        self._readable()

    def _read(self) -> int | None:
        """Read once; return the number of messages, or None if there was nothing."""
        if self._socket is None:
            return None
        left = self._decoder.left
        try:
            data = self._socket.recv(READ if left <= READ else min(left, READ_MOST))
        except BlockingIOError:
            return None
        except ConnectionResetError:  # the router has not read all
            return 0
        except OSError:
            data = b""
        if not data:
            self._drop()
            return None
        try:
            found = self._decoder.feed(data)
        except WireError:
            self._malformed()
            self._drop()
            return None
        if self._decoder.is_ready and not self._greeted:
            self._stop_waiting()
            self._greeted = self._takes = True
            self._write(PROBE)
            self._drain_backlog()
        return self._hand_over(found)

    def _hand_over(self, found: list[list[bytes]]) -> int | None:
        for frames in found:
            if self._closed:
                return None
            if len(frames) < 2:
                self._malformed()
                continue
            if len(frames) > 2:
                self._note_large()
            try:
                self._receive(frames)
            except Exception:  # an error in one message must not lose those behind it
                log.exception("message.failed")
        return len(found)

    def close(self, until: float) -> None:
        """Send what is queued, and close the connection; this blocks if the router does not read at
        once, or has not taken the connection yet."""
        if self._closed:
            return
        self._post_queued()
        self._closed = True
        with contextlib.suppress(OSError):  # the router reads nothing, or has ended
            self._send_last(until)
        self._stop_trimming()
        self._drop()
        self._stop_waiting()

    def _send_last(self, until: float) -> None:
        while self._has_unsent() and self._socket is not None:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._socket.settimeout(left)
            if not self._greeted:
                self._read()
            elif not self._rest:
                self._rest = after(zmtp.parts(self._backlog.popleft()), 0)
            else:
                self._rest = after(self._rest, self._socket.sendmsg(self._rest[:PARTS_MOST]))

    def _has_unsent(self) -> bool:
        return bool(self._rest or self._backlog)


def _connected(path: str, opening: bytes) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        one.connect(path)
        one.send(opening)
    except OSError:
        one.close()
        raise
    return one
