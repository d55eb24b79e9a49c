"""What a DEALER of ZeroMQ sends and receives on a stream: ZMTP 3.0 with the mechanism NULL (pure).

Commands, programs, and workers on the supervisor's machine speak it on plain sockets, without a
thread and a context of libzmq and without the import of pyzmq; what both sides need is here, the
router's half is in `supervisor/bus/router_wire.py`. The protocol is that of RFC 23. A peer with a
later version speaks 3.0 with this one: it sends no heartbeats, and no messages of other sockets.
Sizes are bytes.
"""

import struct
from collections.abc import Sequence
from typing import Any

from .errors import WireError

GREETING_BYTES = 64
SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING = (SIGNATURE + b"\x03\x00" + b"NULL").ljust(GREETING_BYTES, b"\0")
MORE, LONG, COMMAND = 1, 2, 4  # bits of a frame's first byte
KNOWN = MORE | LONG | COMMAND
READY = b"\x05READY"
SHORT_MOST = 255  # of a frame whose size is one byte
SHORT_MORE, SHORT_LAST = [[bytes((flags, size)) for size in range(256)] for flags in (MORE, 0)]
FRAMES_MOST = 16  # of one message
JOINED_MOST = 16 * 1024  # of a message that is copied, to be sent as one piece
PARTS_MOST = 512  # that are sent at once; the kernel takes 1024
SEND_BUFFER = 1 << 20  # of a connection, in the kernel
LONG_HEADER, LONG_SIZE = struct.Struct(">BQ"), struct.Struct(">Q")


def opening(routing_id: bytes) -> bytes:
    """Return what a DEALER sends first. libzmq takes messages once it has sent its own READY."""
    ready = READY + _property(b"Socket-Type", b"DEALER") + _property(b"Identity", routing_id)
    return GREETING + bytes((COMMAND, len(ready))) + ready


def encode(frames: Sequence[bytes]) -> bytes:
    """Return a message as it is sent."""
    return b"".join(parts(frames))


def parts(frames: Sequence[Any]) -> list[Any]:
    """Return a message as it is sent, in parts: headers, and the frames themselves, not copied."""
    found: list[Any] = []
    flags, short, left = MORE, SHORT_MORE, len(frames)
    for frame in frames:
        left -= 1
        if not left:
            flags, short = 0, SHORT_LAST
        size = len(frame)
        found.append(short[size] if size <= SHORT_MOST else _long_header(flags, size))
        found.append(frame)
    return found


def after(pieces: Sequence[Any], sent: int) -> list[memoryview]:
    """Return what is left of pieces of which so many bytes were sent."""
    rest = list[memoryview]()
    for piece in pieces:
        if sent < len(piece):
            rest.append(memoryview(piece)[sent:])
        sent = max(sent - len(piece), 0)
    return rest


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def _long_header(flags: int, size: int) -> bytes:
    return LONG_HEADER.pack(flags | LONG, size)


class Decoder:
    """Finds the messages in what one connection receives.

    Args:
        most: Of one frame; negative: there is no bound.
        frames_most: Of one message.

    Attributes:
        is_ready: The peer takes messages.
        left: Bytes of a frame that are still to come.
    """

    def __init__(self, most: int, frames_most: int = FRAMES_MOST) -> None:
        self._most, self._frames_most = most, frames_most
        self.is_ready = False
        self._greeted = False
        self._rest = b""  # the beginning of the greeting, or of a header
        self._frames: list[bytes] = []  # of a message that is not complete
        self._flags = 0  # of the frame that is not complete
        self._parts: list[bytes] = []  # of it
        self.left = 0  # bytes of it that are still to come

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Return the messages that are complete with these bytes.

        Raises:
            WireError: The peer speaks something else, or its message is too large.
        """
        if self._rest:
            data, self._rest = self._rest + data, b""
        found: list[list[bytes]] = []
        at, end = 0, len(data)
        if not self._greeted:
            if end < GREETING_BYTES:
                self._rest = data
                return found
            self._take_greeting(data[:GREETING_BYTES])
            at = GREETING_BYTES
        if self.left:
            at = self._go_on(data, found)
        most, frames = self._most, self._frames
        while at < end:
            flags, header = data[at], 2
            if flags & LONG:
                header = 9
            if end - at < header:
                self._rest = data[at:]
                break
            size = data[at + 1] if header == 2 else LONG_SIZE.unpack_from(data, at + 1)[0]
            if 0 <= most < size:
                raise WireError(f"a frame of more than {most:,} bytes")
            at += header
            frame = data[at : at + size]
            at += size
            if at > end:
                self._flags, self._parts, self.left = flags, [frame], at - end
            elif flags & ~LONG:
                self._add(flags, frame, found)
            else:  # the last frame of a message
                frames.append(frame)
                found.append(frames)
                frames = self._frames = []
        return found

    def _go_on(self, data: bytes, found: list[list[bytes]]) -> int:
        """Take more of a frame that was not complete; return where it ends in the data."""
        part = data[: self.left]
        self._parts.append(part)
        self.left -= len(part)
        if not self.left:
            frame, self._parts = b"".join(self._parts), []
            self._add(self._flags, frame, found)
        return len(part)

    def _take_greeting(self, greeting: bytes) -> None:
        if greeting[0] != SIGNATURE[0] or greeting[10] < GREETING[10]:
            raise WireError("no greeting of ZeroMQ 3", greeting)
        self._greeted = True

    def _add(self, flags: int, frame: bytes, found: list[list[bytes]]) -> None:
        """Take a frame, and add the message that it completes to those found."""
        if flags & ~KNOWN:
            raise WireError(f"a frame with unknown flags ({flags})")
        if flags & COMMAND:
            self.is_ready = self.is_ready or frame.startswith(READY)
            return
        self._frames.append(frame)
        if not flags & MORE:
            found.append(self._frames)
            self._frames = []
        elif len(self._frames) == self._frames_most:
            raise WireError(f"a message of more than {self._frames_most} frames")
