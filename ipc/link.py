"""Sends and receives batches over one DEALER socket in an asyncio loop.

What one turn of the loop queues for a peer is sent as one message; a message with large frames is
sent alone. After a turn that sent at most one message, the next turn sends its first message at
once, so a single call is not delayed.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from garrison.ipc.system.trimmer import IdleTrimmer

from . import sockets
from .calls import UNKNOWN
from .frames import LENT, Packer
from .messages import SUPERVISOR, Call, Token
from .system import trimmer

MESSAGES_A_TURN = 64  # read before the loop's other work runs
RECEIVE_MOST = 20_480  # read at once, when the router has ended; its queue holds fewer
BATCH_BYTES = 1 << 20  # a larger batch is split
RETRY_S = 0.1  # with a backlog: check again, in case an edge of the descriptor was missed


class Link:
    """One DEALER socket.

    Args:
        socket: Connected; the link closes it.
        receive: Called with the frames of each message: source, batch, large frames.
        malformed: Called for each message of fewer than two frames.
        max_message: Returns the largest frame that the other side accepts, in bytes.
        posted: Called with the id of each call that is sent, and its batch's number among those to
            its peer; None: batches are not numbered.
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
        posted: Callable[[int, int], None] | None = None,
    ) -> None:
        self._posted = posted
        self._batches: dict[Token, int] = {}  # peer → batches sent since the last Sync
        self._unnumbered: set[Token] = set()  # peers that a batch was returned from
        self._loop = asyncio.get_running_loop()
        self._socket = socket
        self._receive = receive
        self._malformed = malformed
        self._max_message = max_message
        self._zero_copy = zero_copy
        self._outgoing: dict[Token, list[Any]] = {}
        self._pack = Packer().pack
        self._backlog: deque[list[Any]] = deque()
        self._turn_open = False  # this turn has sent something
        self._busy = False  # the last turn sent more than one message
        self._trimmer = IdleTrimmer()
        self._trimming: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._fd = int(socket.get(zmq.FD))
        self._loop.add_reader(self._fd, self._readable)
        self._loop.call_soon(
            self._readable
        )  # for messages that arrived before the reader was added

    def send(self, peer: Token, message: Any) -> None:
        """Queue a message to a peer."""
        if not self._turn_open:
            self._turn_open = True
            self._loop.call_soon(self._flush)
            if not self._busy and not self._backlog:
                if self._posted is not None:
                    self._number(peer, (message,))
                self._post([peer, *self._pack([message])])
                self._check_readable()
                return
        queue = self._outgoing.get(peer)
        if queue is None:
            self._outgoing[peer] = [message]
        else:
            queue.append(message)

    def flush(self) -> None:
        """Send what this turn has queued."""
        outgoing, self._outgoing = self._outgoing, {}
        for peer, batch in outgoing.items():
            self._post_batch(peer, batch)
        self._check_readable()

    def sync(self, message: Any) -> None:
        """Send a Sync to the router, and number the batches that follow from 1."""
        self.flush()
        self._batches.clear()
        self._unnumbered.clear()
        self._post([SUPERVISOR, *self._pack([message])])
        self._check_readable()

    def probe(self) -> None:
        """Show the connection to a router that knows no Sync."""
        self._post([b""])
        self._check_readable()

    def forget(self, peer: Token) -> None:
        """Forget a peer that has ended."""
        self._batches.pop(peer, None)
        self._unnumbered.discard(peer)

    def stop_numbering(self, peer: Token) -> bool:
        """Number no more batches to a peer: one was returned, so the peer has read fewer.

        Return False if that was so before.
        """
        known = peer in self._unnumbered
        self._unnumbered.add(peer)
        return not known

    def receive_all(self) -> None:
        """Read what has arrived."""
        for _ in range(RECEIVE_MOST // MESSAGES_A_TURN):
            if not self._read_some():
                return

    def take_back(self) -> list[tuple[Token, bytes]]:
        """Return all batches that were not sent, each with its receiver, and drop them here."""
        unsent = [(peer, self._pack(batch)[0]) for peer, batch in self._outgoing.items()]
        unsent[:0] = [(frames[0], frames[1]) for frames in self._backlog]
        self._outgoing.clear()
        self._backlog.clear()
        return unsent

    def close(self) -> None:
        """Send what is queued, as far as the socket accepts it, and close the socket."""
        if self._socket.closed:
            return
        self._loop.remove_reader(self._fd)
        self.flush()
        if self._retry is not None:  # the flush may have set it
            self._retry.cancel()
        if self._trimming is not None:
            self._trimming.cancel()
        self._socket.close()

    def _flush(self) -> None:
        self._turn_open = False
        self._busy = bool(self._outgoing)
        if self._socket.closed:
            return
        if self._outgoing:
            self.flush()

    def _post_batch(self, peer: Token, batch: list[Any]) -> None:
        frames = self._pack(batch)
        large = len(frames) > 1 or len(frames[0]) > min(BATCH_BYTES, self._max_message() // 2)
        if large and len(batch) > 1:
            middle = len(batch) // 2
            self._post_batch(peer, batch[:middle])
            self._post_batch(peer, batch[middle:])
        else:
            if self._posted is not None:
                self._number(peer, batch)
            self._post([peer, *frames])

    def _number(self, peer: Token, batch: Sequence[Any]) -> None:
        assert self._posted is not None
        number = self._batches[peer] = self._batches.get(peer, 0) + 1
        if peer in self._unnumbered:
            number = UNKNOWN
        for message in batch:
            if type(message) is Call:
                self._posted(message.id, number)

    def _post(self, frames: list[Any]) -> None:
        if len(frames) > 2:
            self._note_large()
            if self._zero_copy:
                frames = [zmq.Frame(f, copy=False) if len(f) >= LENT else f for f in frames]
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

    def _note_large(self) -> None:
        if self._trimmer.note_large(self._loop.time()):
            self._trimming = self._loop.call_at(self._trimmer.due, self._trim_if_idle)

    def _trim_if_idle(self) -> None:
        if self._trimmer.is_idle(self._loop.time()):
            trimmer.trim_in_background()
        else:
            self._trimming = self._loop.call_at(self._trimmer.due, self._trim_if_idle)

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

    def _check_readable(self) -> None:
        # The descriptor is edge-triggered: a send may consume the edge of a message that arrived.
        if self._socket.getsockopt(sockets.EVENTS) & sockets.POLLIN:  # type: ignore[operator]
            self._loop.call_soon(self._readable)

    def _readable(self) -> None:
        if self._read_some():
            self._loop.call_soon(self._readable)

    def _read_some(self) -> bool:
        """Read a bounded number of messages; return True if there may be more."""
        if self._socket.closed:
            return False
        if self._backlog and int(self._socket.get(zmq.EVENTS)) & zmq.POLLOUT:
            self._drain_backlog()
        for _ in range(MESSAGES_A_TURN):
            try:
                frames = sockets.receive(self._socket)
            except zmq.Again:
                return False
            if len(frames) < 2:
                self._malformed()
            else:
                if len(frames) > 2:
                    self._note_large()
                self._receive(frames)
            if self._socket.closed:
                return False
        return True
