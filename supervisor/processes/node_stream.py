"""Messages that arrive once and in order, although the connection may break. Pure.

The sender numbers messages and keeps each until the other side has received it. What arrives twice,
or after a gap, is dropped; the sender sends it again. Sizes are bytes, times are seconds of any
clock that does not go backwards.
"""

from collections import deque
from dataclasses import dataclass, field

KEPT_MESSAGES = 20_000  # that were not acknowledged
KEPT_BYTES = 256 * 1024 * 1024  # of these: assignments are a few KiB, values in crash reports more
AGAIN_S = 1.0  # without an acknowledgement, before what is kept is sent again


class StreamOverflow(Exception):
    """The other side has acknowledged nothing for too many messages: the session must end."""


@dataclass(slots=True)
class Outbox:
    """What one side has sent, and the other has not acknowledged."""

    number: int = 0  # of the last message
    _kept: deque[tuple[int, bytes]] = field(default_factory=deque)
    _bytes: int = 0
    _sent_at: float = 0.0  # when the oldest one was sent last

    def __len__(self) -> int:
        """Return how many messages are kept."""
        return len(self._kept)

    def add(self, body: bytes, now: float) -> int:
        """Keep a message, and return its number.

        Raises:
            StreamOverflow: Too much is kept.
        """
        if len(self._kept) >= KEPT_MESSAGES or self._bytes + len(body) > KEPT_BYTES:
            raise StreamOverflow
        if not self._kept:
            self._sent_at = now
        self.number += 1
        self._kept.append((self.number, body))
        self._bytes += len(body)
        return self.number

    def acknowledge(self, received: int, now: float) -> None:
        """Forget the messages up to a number."""
        while self._kept and self._kept[0][0] <= received:
            self._bytes -= len(self._kept.popleft()[1])
            self._sent_at = now  # the others are on their way

    def late(self, now: float) -> list[tuple[int, bytes]]:
        """Return what to send again now, with numbers; nothing, if it was sent lately."""
        if not self._kept or now < self._sent_at + AGAIN_S:
            return []
        self._sent_at = now
        return list(self._kept)

    def bodies(self) -> list[bytes]:
        """Return the kept messages, oldest first."""
        return [body for _, body in self._kept]


@dataclass(slots=True)
class Inbox:
    """What one side has received."""

    received: int = 0  # the last number

    def take(self, number: int) -> bool:
        """Return whether a message is the next one; any other is dropped."""
        if not number:
            return True
        if number != self.received + 1:
            return False
        self.received = number
        return True
