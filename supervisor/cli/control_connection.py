"""A command's connection to the control socket; one that ends is opened again.

It does what a DEALER of ZeroMQ does, on a plain socket. Durations are seconds.
"""

import contextlib
import select
import socket
import time
from collections.abc import Sequence

from garrison.ipc import socket_paths, zmtp
from garrison.ipc.errors import SupervisorGone
from garrison.ipc.messages import Token

MAX_MESSAGE = 256 * 1024 * 1024  # bytes of an answer
RECEIVE_BYTES = 256 * 1024  # at once
RECONNECT_S = 0.02
LINGER_S = 0.2  # how long a connection that is closed goes on sending


class ControlConnection:
    """A connection, which is not open at first.

    Args:
        path: Of the control socket.
        token: The routing id.
    """

    def __init__(self, path: str, token: Token) -> None:
        self._path, self._opening = path, zmtp.opening(token)
        self._socket: socket.socket | None = None
        self._decoder = zmtp.Decoder(MAX_MESSAGE)
        self._unsent = b""
        self._probed = False
        self._takes = True  # the other end has not closed, as far as writing has shown
        self._open_at = 0.0  # not before

    @property
    def is_open(self) -> bool:
        """Return whether the supervisor has the other end, as far as is known."""
        return self._socket is not None

    @property
    def has_unsent(self) -> bool:
        """Return whether something waits that the supervisor has no room for yet."""
        return bool(self._unsent)

    def open(self) -> None:
        """Connect, unless the supervisor has so many new connections that this one has to wait.

        Raises:
            SupervisorGone: No process listens at the path.
        """
        if self._socket is not None:
            return
        self._open_at = time.monotonic() + RECONNECT_S
        self._socket = socket_paths.connected(self._path)
        if self._socket is not None:
            self._socket.setblocking(False)
            self._probed, self._takes = False, True
            self._write(self._opening)

    def send(self, frames: Sequence[bytes]) -> None:
        """Send a message; one that is not open, or takes none yet, drops it."""
        if self._decoder.is_ready:
            self._write(zmtp.encode(frames))

    def receive(self, seconds: float, other: int | None = None) -> list[list[bytes]]:
        """Return the messages that have arrived, as soon as there are some.

        Args:
            seconds: How long to wait for one; while the connection is closed, to open it too.
            other: A descriptor that ends the wait when it is readable.

        Raises:
            WireError: What has arrived is no message.
        """
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            if self._socket is None:
                left = min(left, self._open_at - time.monotonic())
            ready = self._poll(max(left, 0.0), other)
            found = self._arrived() if self._is_in(ready) else []
            if found or other in ready or time.monotonic() >= until:
                return found
            if self._socket is None:
                if time.monotonic() >= self._open_at:
                    with contextlib.suppress(SupervisorGone):  # the caller looks whether to go on
                        self.open()
            elif self._unsent:
                self._write(b"")

    def _arrived(self) -> list[list[bytes]]:
        found = self._decoder.feed(self._read())
        if self._decoder.is_ready and not self._probed:
            self._probed = True
            self._write(zmtp.encode([b""]))  # the ROUTER sees the connection by it
        return found

    def _is_in(self, ready: set[int]) -> bool:
        return self._socket is not None and self._socket.fileno() in ready

    def _poll(self, seconds: float, other: int | None, reads: int = select.POLLIN) -> set[int]:
        """Return the descriptors that are ready within some time."""
        poll = select.poll()
        if self._socket is not None:
            poll.register(self._socket, reads | (select.POLLOUT if self._unsent else 0))
        if other is not None:
            poll.register(other, select.POLLIN)
        return {fd for fd, _ in poll.poll(seconds * 1000)}

    def _read(self) -> bytes:
        assert self._socket is not None
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._drop()
        return data

    def _write(self, data: bytes) -> None:
        if self._socket is None or not self._takes:
            return
        self._unsent += data
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:  # what the other end had sent before it closed is read first
            self._takes, self._unsent = False, b""

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._unsent = None, b""
        self._open_at = time.monotonic() + RECONNECT_S
        self._decoder = zmtp.Decoder(MAX_MESSAGE)

    def close(self) -> None:
        """Send what is left for a moment, and close."""
        until = time.monotonic() + LINGER_S
        while self._unsent and (left := until - time.monotonic()) > 0:
            self._poll(left, None, reads=0)
            self._write(b"")
        self._drop()
