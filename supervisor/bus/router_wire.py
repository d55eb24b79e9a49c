"""What a ROUTER of ZeroMQ sends and receives on a stream: ZMTP 3.0 with the mechanism NULL (pure).

Peers are DEALERs, of libzmq or plain. Sizes are bytes.
"""

import struct
from collections.abc import Sequence
from typing import Any

from garrison.ipc.errors import WireError
from garrison.ipc.messages import Token
from garrison.ipc.zmtp import (
    COMMAND,
    GREETING,
    GREETING_BYTES,
    JOINED_MOST,
    LONG,
    MORE,
    READY,
    SHORT_MOST,
    SIGNATURE,
)

from .routes import PLAIN, ROUTED_FRAMES

LARGE = 64 * 1024  # of a frame that is received into memory of its own
SIZE = struct.Struct(">Q")
IDENTITY, PROPERTY_SIZE = b"identity", struct.Struct(">I")
_READY = READY + b"\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0"
OPENING, ACCEPTED = GREETING, bytes((COMMAND, len(_READY))) + _READY


def joined(frames: Sequence[Any]) -> bytes | None:
    """Return what is sent of `[destination, source, batch]` as one piece; None: in `parts`."""
    if len(frames) != PLAIN:
        return None
    _, source, batch = frames
    size = len(batch)
    if size <= SHORT_MOST:
        return b"\x01%c%b\x00%c%b" % (len(source), source, size, batch)
    if size <= JOINED_MOST:
        return b"\x01%c%b\x02%b%b" % (len(source), source, SIZE.pack(size), batch)
    return None


def identity_of(ready: bytes) -> Token:
    """Return the routing id that a peer's READY names; empty: none.

    Raises:
        WireError: It is no such command.
    """
    if not ready.startswith(READY):
        raise WireError("no READY of ZeroMQ", ready)
    at, found = len(READY), b""
    while at < len(ready):
        name_end = at + 1 + ready[at]
        value = name_end + PROPERTY_SIZE.size
        if value > len(ready):
            raise WireError("a property that is cut off", ready)
        end = value + PROPERTY_SIZE.unpack_from(ready, name_end)[0]
        if end > len(ready):
            raise WireError("a property that is cut off", ready)
        if ready[at + 1 : name_end].lower() == IDENTITY:
            found = ready[value:end]
        at = end
    return found


class RouterDecoder:
    """Finds the messages in what one connection receives.

    Args:
        most: Of one frame; negative: there is no bound.

    Attributes:
        identity: The routing id that the peer has named; None: it has not done so yet.
        source: The first frame of each message that is found.
        room: Where what is received next belongs; None: what is received goes to `feed`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.identity: Token | None = None
        self.source: Token = b""
        self._greeted = False
        self._rest = b""  # the beginning of the greeting, or of a frame
        self._frames: list[Any] = []  # of a message that is not complete
        self._flags = 0  # of the large frame that is not complete
        self._large = bytearray()
        self.room: memoryview | None = None

    def feed(self, data: bytes) -> list[list[Any]]:
        """Return the messages that are complete with these bytes, each with its source.

        Raises:
            WireError: The peer speaks something else, or its frame is too large.
        """
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, end, found = 0, len(data), list[list[Any]]()
        if self.identity is None:
            self._shake_hands(data)
            return found
        while end - at >= 2:
            if plain := self._plain(data, at, end):
                message, at = plain
                found.append(message)
                continue
            flags = data[at]
            if flags & LONG:
                start = at + 9
                if start > end:
                    break
                size = SIZE.unpack_from(data, at + 1)[0]
                if 0 <= self._most < size:
                    raise WireError(f"a frame of more than {self._most:,} bytes")
            else:
                start, size = at + 2, data[at + 1]
            stop = start + size
            if stop > end:
                if size <= LARGE:
                    break
                self._begin_large(flags, size, data[start:])
                return found
            at = stop
            self._add(flags, data[start:stop], found)
        if at < end:
            self._rest = data[at:] if at else data
        return found

    def _plain(self, data: bytes, at: int, end: int) -> tuple[list[Any], int] | None:
        """Return the message that begins here, and where it ends, if all of it is there and it has
        an address and a batch alone, as nearly all have."""
        if data[at] != MORE or self._frames:
            return None
        address = at + 2
        header = address + data[at + 1]
        start = header + 2
        if start > end:
            return None
        size = data[header + 1]
        if data[header] == LONG:
            start = header + 9
            if start > end:
                return None
            size = SIZE.unpack_from(data, header + 1)[0]
        elif data[header]:
            return None
        stop = start + size
        if stop > end or 0 <= self._most < size:
            return None
        return [self.source, data[address:header], data[start:stop]], stop

    def fill(self, count: int) -> list[list[Any]]:
        """Return the message that is complete with so many more bytes in `room`, if it is."""
        assert self.room is not None
        room, found = self.room[count:], list[list[Any]]()
        self.room = room or None
        if not room:
            frame, self._large = self._large, bytearray()
            self._add(self._flags, frame, found)
        return found

    def _shake_hands(self, data: bytes) -> None:
        """Take the greeting and READY, as far as they have arrived; keep what follows."""
        at = 0
        if not self._greeted and len(data) >= GREETING_BYTES:
            if data[0] != SIGNATURE[0] or data[10] < GREETING[10]:
                raise WireError("no greeting of ZeroMQ 3", data[:GREETING_BYTES])
            self._greeted, at = True, GREETING_BYTES
        if self._greeted and len(data) >= at + 2:
            end = at + 2 + data[at + 1]
            if data[at] != COMMAND:
                raise WireError("a message before READY", data[at : at + 2])
            if len(data) >= end:
                self.identity, at = identity_of(data[at + 2 : end]), end
        self._rest = data[at:]

    def _begin_large(self, flags: int, size: int, begun: bytes) -> None:
        """Make room for a frame of which the beginning is there."""
        if flags & COMMAND or not self._frames:
            raise WireError(f"an address or a command of more than {SHORT_MOST} bytes")
        self._flags, self._large = flags, bytearray(size)
        self._large[: len(begun)] = begun
        self.room = memoryview(self._large)[len(begun) :]

    def _add(self, flags: int, frame: Any, found: list[list[Any]]) -> None:
        """Take a frame, and add the message that it completes to those found. Of one with too many
        frames the rest is dropped; it is rejected for their number."""
        if flags & COMMAND:  # such as one of a later version
            return
        frames = self._frames
        if not frames:
            if len(frame) > SHORT_MOST:
                raise WireError(f"an address of more than {SHORT_MOST} bytes")
            frames = self._frames = [self.source]
        if len(frames) <= ROUTED_FRAMES:
            frames.append(frame)
        if not flags & MORE:
            found.append(frames)
            self._frames = []
