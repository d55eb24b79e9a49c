"""One receiver's messages without a lane in memory: which is next, which are in flight. Pure.

The queue holds the first of the messages that wait on disk, in order, bounded in number and bytes.
More are read when it runs low. A message leaves it once its acknowledgement is on disk.
"""

from collections import deque
from collections.abc import Container, Iterable

from .checksums import Message

MAX_MESSAGES, MAX_BYTES = 256, 4 * 1024 * 1024  # in one queue


class PlainQueue:
    """The messages of one receiver that are in no lane."""

    def __init__(self) -> None:
        self.in_flight: dict[int, Message] = {}  # by seq; also those that wait for a retry
        self.is_reading = False  # a read from disk is under way
        self.is_complete = False  # every message that waits on disk is in memory
        self._ready: deque[Message] = deque()
        self._bytes = 0
        self._last_seq = 0  # of the messages that were taken into memory

    @property
    def last_seq(self) -> int:
        """Return the seq after which to continue reading."""
        return self._last_seq

    @property
    def free_bytes(self) -> int:
        """Return how many bytes may be read from disk."""
        return max(MAX_BYTES - self._bytes, 0)

    @property
    def has_ready(self) -> bool:
        """Return True if a message can be delivered."""
        return bool(self._ready)

    @property
    def is_idle(self) -> bool:
        """Return True if the queue holds nothing and can be discarded."""
        return self.is_complete and not (self._ready or self.in_flight or self.is_reading)

    @property
    def needs_more(self) -> bool:
        """Return True if messages must be read from disk now."""
        is_low = len(self._ready) <= MAX_MESSAGES // 4 and self._bytes <= MAX_BYTES // 4
        return is_low and not (self.is_complete or self.is_reading)

    def add_posted(self, message: Message) -> None:
        """Add a message that was just written to disk. If the queue is full it stays on disk."""
        if not self.is_complete:
            return
        if len(self._ready) >= MAX_MESSAGES or self._bytes + message.size > MAX_BYTES:
            self.is_complete = False
            return
        self._add(message)

    def add_read(self, messages: Iterable[Message], is_complete: bool) -> None:
        """Add messages that were read from disk, in order.

        Args:
            messages: Those after `last_seq`, at most `free_bytes`.
            is_complete: No further message waits on disk.
        """
        self.is_reading = False
        for message in messages:
            self._add(message)
        self.is_complete = is_complete

    def _add(self, message: Message) -> None:
        if message.seq <= self._last_seq:
            return  # posted while the read was under way: already here
        self._last_seq = message.seq
        self._ready.append(message)
        self._bytes += message.size

    def take_next(self) -> Message | None:
        """Move the next message to `in_flight` and return it."""
        return self._take(self._ready.popleft()) if self._ready else None

    def take_one_of(self, ids: Container[str]) -> Message | None:
        """Move the first message with one of these ids to `in_flight` and return it."""
        for message in self._ready:
            if message.id in ids:
                self._ready.remove(message)
                return self._take(message)
        return None

    def _take(self, message: Message) -> Message:
        self._bytes -= message.size
        self.in_flight[message.seq] = message
        return message

    def remove(self, message: Message) -> None:
        """Remove a message that was acknowledged, or is a dead letter, on disk as well."""
        self.in_flight.pop(message.seq, None)

    def put_back(self, message: Message) -> None:
        """Return a message from `in_flight` to its place in the order, to deliver it again."""
        self.in_flight.pop(message.seq, None)
        self._bytes += message.size
        if not any(other.seq < message.seq for other in self._ready):
            self._ready.appendleft(message)
            return
        ordered = sorted([*self._ready, message], key=lambda other: other.seq)
        self._ready = deque(ordered)

    def discard(self, ids: Container[str]) -> set[str]:
        """Remove waiting messages that were dropped on disk; return the ids of those here."""
        dropped = {message.id for message in self._ready if message.id in ids}
        if dropped:
            kept = [message for message in self._ready if message.id not in dropped]
            self._ready = deque(kept)
            self._bytes = sum(message.size for message in kept)
        return dropped
