"""Sends and receives batches over one connection of SOCK_SEQPACKET, in an asyncio loop.

A batch is one packet, if it is small. A larger one, and one with large frames, is a packet that has
their sizes, and then so many bytes in packets. What a process has sent is in the kernel: it arrives
after that process has ended as well, and behind it an end of file. Sizes are bytes.
"""

import contextlib
import mmap
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec

from .batching import Batching
from .direct_sockets import PACKET, SEND_BUFFER
from .frames import FRAMES_MOST
from .messages import Token
from .queue_limits import PEER_QUEUE

SIZES = b"\xc1"  # begins a packet of sizes, and nothing else: it is no byte of msgpack
PACKETS_MOST = 20_480  # packets that are read at once, when the other side has ended

ENDED = (BrokenPipeError, ConnectionResetError)  # a sender's errors: its peer has ended

_sizes = msgspec.msgpack.Decoder(list[int]).decode
_encode = msgspec.msgpack.encode


class Incoming:
    """A batch that comes in several packets.

    Args:
        announcement: The packet that has the sizes of its frames.
        max_message: All of them, at most.

    Raises:
        ValueError: They are none.
    """

    def __init__(self, announcement: bytes, max_message: int) -> None:
        try:
            self._sizes = _sizes(announcement[1:])
        except msgspec.MsgspecError as error:
            raise ValueError("a packet of sizes cannot be decoded") from error
        if not 0 < len(self._sizes) <= FRAMES_MOST + 1 or min(self._sizes) <= 0:
            raise ValueError("a packet has no sizes of frames")
        self.is_kept = sum(self._sizes) <= max_message  # otherwise it is read, and dropped
        self.frames: list[bytes] = []  # that have come whole: the batch, and its large frames
        self._packets: list[bytes] = []  # of the next one; no packet has parts of two
        self._left = self._sizes[0]

    @property
    def is_whole(self) -> bool:
        """Return True if all packets have come."""
        return len(self.frames) == len(self._sizes)

    @property
    def next_size(self) -> int:
        """Return the most bytes that the next packet has."""
        return min(self._left, PACKET)

    def add(self, packet: bytes) -> None:
        """Take the next packet."""
        self._left -= len(packet)
        if self.is_kept:
            self._packets.append(packet)
        if self._left <= 0:
            self.frames.append(b"".join(self._packets))
            self._packets.clear()
            if not self.is_whole:
                self._left = self._sizes[len(self.frames)]


class PacketLink(Batching):
    """One connection to one peer.

    What the peer does not read is bounded by its window and its streams, and beyond that by
    `PEER_QUEUE` packets: then the connection ends.

    Args:
        connection: Connected; the link closes it.
        peer: Its other end, in place of a source.
        receive: Called with the frames of each batch: source, batch, large frames.
        malformed: Called for each batch that cannot be put together.
        max_message: Returns the largest batch that either side accepts, with its frames.
        ended: Called once, when all has been read that the peer had sent before its end.
        posted: See `Batching`.
    """

    def __init__(
        self,
        connection: socket.socket,
        peer: Token,
        receive: Callable[[list[bytes]], None],
        malformed: Callable[[], None],
        max_message: Callable[[], int],
        ended: Callable[[], None],
        posted: Callable[[list[int], int], None] | None = None,
    ) -> None:
        super().__init__(max_message, posted)
        self._socket, self._peer = connection, peer
        self._receive, self._malformed, self._ended = receive, malformed, ended
        self._incoming: Incoming | None = None
        # Only the pages of it that packets have filled take memory.
        self._buffer = mmap.mmap(-1, PACKET, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._is_open = True  # for reading
        self._is_reset = False  # the peer has ended, and had not read all
        self._takes = True  # the peer can still read
        self._writing = False  # waits until the socket takes more
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._fd = connection.fileno()
        self._loop.add_reader(self._fd, self._readable)

    # --- sending ----------------------------------------------------------------------------

    def _post(self, peer: Token, frames: list[Any]) -> None:
        if len(frames) == 1 and len(frames[0]) <= PACKET:
            self._send(frames[0])
            return
        if len(frames) > 1:
            self._note_large()
        self._send(SIZES + _encode([len(frame) for frame in frames]))
        for frame in frames:
            view = memoryview(frame)
            for start in range(0, len(view), PACKET):
                self._send(view[start : start + PACKET])

    def _send(self, packet: Any) -> None:
        if not self._takes:
            return
        if not self._backlog:
            try:
                self._socket.send(packet)
            except BlockingIOError:
                pass
            except ENDED:  # which is read behind what it had sent
                self._takes = False
                return
            except OSError:
                self._fail()
                return
            else:
                return
        self._backlog.append(packet)
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._fd, self._write)
        elif len(self._backlog) > PEER_QUEUE:
            self._fail()

    def _write(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self._backlog:
            try:
                self._socket.send(self._backlog[0])
            except BlockingIOError:
                return
            except OSError as error:
                self._takes = False
                self._backlog.clear()
                if not isinstance(error, ENDED):
                    self._fail()
            else:
                self._backlog.popleft()
        self._stop_writing()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)

    def _fail(self) -> None:
        """Send no more; the peer is given up."""
        self._takes = False
        self._backlog.clear()
        self._stop_writing()
        self._loop.call_soon(self._end)

    # --- receiving --------------------------------------------------------------------------

    def receive_all(self) -> None:
        """Read what has arrived."""
        for _ in range(PACKETS_MOST):
            if not self._read():
                return

    def _readable(self) -> None:
        """Read the next packet, and all of a large batch. The loop calls again for the one after
        it, which mostly has yet to come: a look for that would cost as much as reading one."""
        while self._read() and (self._incoming is not None or self._is_reset):
            pass

    def _read(self) -> bool:
        """Read one packet; return False if there is none."""
        if not self._is_open:
            return False
        incoming = self._incoming
        try:
            if incoming is None:
                size = self._socket.recv_into(self._buffer)
                packet = self._buffer[:size]
            else:
                packet = self._socket.recv(incoming.next_size)
        except BlockingIOError:
            return False
        except ConnectionResetError:  # the peer has not read all; what it had sent comes now
            self._is_reset = True  # libuv watches the socket no longer
            return True
        except OSError:
            packet = b""
        if not packet:
            self._end()
            return False
        self._take(packet)
        return True

    def _take(self, packet: bytes) -> None:
        incoming = self._incoming
        if incoming is None and packet[:1] != SIZES:
            self._receive([self._peer, packet])
            return
        if incoming is None:
            try:
                self._incoming = Incoming(packet, self._max_message())
            except ValueError:
                self._malformed()
            return
        incoming.add(packet)
        if not incoming.is_whole:
            return
        self._incoming = None
        if not incoming.is_kept:
            self._malformed()
            return
        if len(incoming.frames) > 1:
            self._note_large()
        self._receive([self._peer, *incoming.frames])

    def _end(self) -> None:
        if self._is_open:
            self._stop()
            self._ended()

    def _stop(self) -> None:
        """Read no more."""
        self._is_open = False
        self._loop.remove_reader(self._fd)

    def close(self, linger: float = 0.0) -> None:
        """Send what is queued, and close the connection.

        Args:
            linger: Seconds that this may block, for a peer that does not read at once.
        """
        if self._socket.fileno() < 0:
            return
        self._post_queued()
        self._stop_writing()
        if self._is_open:
            self._stop()
        until = time.monotonic() + linger
        with contextlib.suppress(OSError):  # it reads nothing, or has ended
            while self._backlog and (left := until - time.monotonic()) > 0:
                self._socket.settimeout(left)
                self._socket.send(self._backlog.popleft())
        self._takes = False
        self._backlog.clear()
        self._stop_trimming()
        self._socket.close()
        self._buffer.close()
