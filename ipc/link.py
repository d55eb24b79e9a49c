"""Sends and receives batches over one DEALER socket, in an asyncio loop; see `batching`.

The socket's descriptor is edge-triggered: a call to the socket may consume the edge of a message
that arrived. So it is looked at once after each turn that used it, behind what that turn sent.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import zmq

from . import sockets
from .batching import BATCH_BYTES
from .frames import LENT
from .messages import Token
from .router_link import RouterLink
from .sockets import EVENTS, POLLIN

MESSAGES_A_TURN = 64  # read before the loop's other work runs
RECEIVE_MOST = 20_480  # read at once, when the router has ended; its queue holds fewer
RETRY_S = 0.1  # with a backlog: check again, in case an edge of the descriptor was missed


class Link(RouterLink):
    """One DEALER socket.

    Args:
        socket: Connected; the link closes it.
        receive: Called with the frames of each message: source, batch, large frames.
        malformed: Called for each message of fewer than two frames.
        max_message: Returns the largest frame that the other side accepts, in bytes.
        posted: See `Batching`.
        zero_copy: Lend very large frames to libzmq while they are sent, instead of copying them.
            From the first one on, pyzmq keeps a thread and a context of its own for that.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        receive: Callable[[list[bytes]], None],
        malformed: Callable[[], None],
        max_message: Callable[[], int] = lambda: BATCH_BYTES,
        zero_copy: bool = False,
        posted: Callable[[list[int], int], None] | None = None,
    ) -> None:
        super().__init__(max_message, posted)
        self._socket = socket
        self._receive = receive
        self._malformed = malformed
        self._zero_copy = zero_copy
        self._closed = False
        self._single = True  # messages arrived one at a time lately
        self._unfinished = False  # there may be more than the last look has read
        self._retry: asyncio.TimerHandle | None = None
        self._fd = int(socket.get(zmq.FD))
        self._loop.add_reader(self._fd, self._readable)
        self._check_readable()  # for messages that arrived before the reader was added

    def receive_all(self) -> None:
        """Read what has arrived."""
        self._read(RECEIVE_MOST)

    def close(self, until: float) -> None:
        """Send what is queued, as far as the socket accepts it, and close the socket. It goes on
        sending for `LINGER_S`, whatever `until` is."""
        if self._closed:
            return
        self._loop.remove_reader(self._fd)
        self._post_queued()
        self._closed = True
        if self._retry is not None:  # the flush may have set it
            self._retry.cancel()
        self._stop_trimming()
        self._socket.close()

    def _note_use(self) -> None:
        self._check_readable()

    def _check_readable(self) -> None:
        """Have the socket looked at once this turn's other work is done."""
        if not self._ending:
            self._ending = True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        super()._end_turn()
        self._readable()

    def _post(self, peer: Token, frames: list[Any]) -> None:
        if len(frames) > 1:
            self._note_large()
            if self._zero_copy:
                frames = [zmq.Frame(f, copy=False) if len(f) >= LENT else f for f in frames]
        self._post_frames([peer, *frames])

    def _post_frames(self, frames: list[Any]) -> None:
        if not self._backlog:
            try:
                sockets.send(self._socket, frames)
            except zmq.Again:  # no router: keep the order, and go on at POLLOUT
                pass
            else:
                return
        self._backlog.append(frames)
        if self._retry is None:
            self._retry = self._loop.call_later(RETRY_S, self._on_retry)

    def _on_retry(self) -> None:
        self._retry = None
        self._drain_backlog()
        if self._backlog:
            self._retry = self._loop.call_later(RETRY_S, self._on_retry)
        self._check_readable()

    def _drain_backlog(self) -> None:
        while self._backlog:
            try:
                sockets.send(self._socket, self._backlog[0])
            except zmq.Again:
                return
            self._backlog.popleft()

    def _readable(self) -> None:
        """Read what has arrived. While messages arrive one at a time, the next look for one is
        after what this one causes to be sent, and so stands for the look after that as well."""
        if self._closed:
            return
        if self._backlog and int(self._socket.get(zmq.EVENTS)) & zmq.POLLOUT:
            self._drain_backlog()
        most = 1 if self._single else MESSAGES_A_TURN
        count = self._read(most)
        if self._single:
            self._single = not (count and self._unfinished)
        else:
            self._single = count <= 1
        self._unfinished = count == most
        if self._unfinished:
            self._check_readable()

    def _read(self, most: int) -> int:
        """Read so many messages, or as many as there are; return their number."""
        socket = self._socket
        for number in range(most):
            if self._closed or not socket.getsockopt(EVENTS) & POLLIN:  # type: ignore[operator]
                return number
            frames = sockets.receive(socket)
            if len(frames) < 2:
                self._malformed()
            else:
                if len(frames) > 2:
                    self._note_large()
                self._receive(frames)
        return most
