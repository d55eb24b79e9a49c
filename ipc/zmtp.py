"""What a DEALER of ZeroMQ sends and receives on a stream: ZMTP 3.0 with the mechanism NULL (pure).

A command that gives one order to the supervisor has no use for a thread and a context of libzmq,
and pyzmq takes longer to import than the order takes. The protocol is that of RFC 23. A peer with
a later version speaks 3.0 with this one: it sends no heartbeats, and no messages of other sockets.
Sizes are bytes.
"""

import struct
from collections.abc import Iterator, Sequence

from .errors import WireError

GREETING_BYTES = 64
SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING = (SIGNATURE + b"\x03\x00" + b"NULL").ljust(GREETING_BYTES, b"\0")
MORE, LONG, COMMAND = 1, 2, 4  # bits of a frame's first byte
READY = b"\x05READY"
SHORT_MOST = 255  # of a frame whose size is one byte
FRAMES_MOST = 16  # of one message
LONG_HEADER = struct.Struct(">BQ")


def opening(routing_id: bytes) -> bytes:
    """Return what a DEALER sends first. libzmq takes messages once it has sent its own READY."""
    ready = READY + _property(b"Socket-Type", b"DEALER") + _property(b"Identity", routing_id)
    return GREETING + _frame(ready, COMMAND)


def encode(frames: Sequence[bytes]) -> bytes:
    """Return a message as it is sent."""
    *first, last = frames
    return b"".join([*(_frame(one, MORE) for one in first), _frame(last, 0)])


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def _frame(data: bytes, flags: int) -> bytes:
    if len(data) > SHORT_MOST:
        return LONG_HEADER.pack(flags | LONG, len(data)) + data
    return bytes([flags, len(data)]) + data


class Decoder:
    """Finds the messages in what one connection receives.

    Args:
        most: Of all frames of a message.

    Attributes:
        is_ready: The peer takes messages.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.is_ready = False
        self._data = bytearray()
        self._frames: list[bytes] = []
        self._bytes = 0  # of them
        self._greeted = False

    def feed(self, data: bytes) -> Iterator[list[bytes]]:
        """Yield the messages that are complete with these bytes.

        Raises:
            WireError: The peer speaks something else, or its message is too large.
        """
        self._data += data
        if not self._greeted and not self._take_greeting():
            return
        while (found := self._take_frame()) is not None:
            flags, frame = found
            if flags & COMMAND:
                self.is_ready = self.is_ready or frame.startswith(READY)
                continue
            self._frames.append(frame)
            self._bytes += len(frame)
            if not flags & MORE:
                message, self._frames, self._bytes = self._frames, [], 0
                yield message
            elif len(self._frames) == FRAMES_MOST:
                raise WireError(f"a message of more than {FRAMES_MOST} frames")

    def _take_greeting(self) -> bool:
        """Take the greeting, and return whether it was complete."""
        if len(self._data) < GREETING_BYTES:
            return False
        greeting, self._data = self._data[:GREETING_BYTES], self._data[GREETING_BYTES:]
        if greeting[0] != SIGNATURE[0] or greeting[10] < GREETING[10]:
            raise WireError("no greeting of ZeroMQ 3", bytes(greeting))
        self._greeted = True
        return True

    def _take_frame(self) -> tuple[int, bytes] | None:
        """Take a frame and its flags; None if none is complete."""
        if len(self._data) < 2:
            return None
        flags, size, start = self._data[0], self._data[1], 2
        if flags & LONG:
            if len(self._data) < LONG_HEADER.size:
                return None
            flags, size = LONG_HEADER.unpack_from(self._data)
            start = LONG_HEADER.size
        if self._bytes + size > self._most:
            raise WireError(f"a message of more than {self._most:,} bytes")
        if len(self._data) < start + size:
            return None
        frame = bytes(self._data[start : start + size])
        del self._data[: start + size]
        return flags, frame
