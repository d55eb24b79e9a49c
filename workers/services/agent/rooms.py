"""Who waits in which room: a room's messages one after the other, rooms side by side. Pure.

A room is there as long as a message of it is under way. Sizes are bytes.
"""

from collections import deque
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Room(NamedTuple):
    """A channel, and the NAME of the service that hears it."""

    source: str
    room_id: str


class Busy(Exception):
    """A message was not taken: too many wait already. Nothing was done with it; send it later."""


class Limits(NamedTuple):
    """How much may wait."""

    per_room: int  # messages
    in_all: int  # messages, of all rooms
    bytes: int  # of those messages
    rooms: int  # that have a message under way at the same time


class Waiting(NamedTuple, Generic[T]):
    """One message that waits for its turn."""

    work: T
    size: int


class Rooms(Generic[T]):
    """The messages that wait, by room."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rooms: dict[Room, deque[Waiting[T]]] = {}
        self.waiting = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._rooms)

    def arrive(self, room: Room, work: T, size: int) -> bool:
        """Take a message; True where its room was empty, so that it is its turn now.

        Raises:
            Busy: Too many wait, there or in all.
        """
        queue = self._rooms.get(room)
        if queue is None:
            if len(self._rooms) >= self._limits.rooms:
                raise Busy(f"{self._limits.rooms} rooms are being answered already")
            self._rooms[room] = deque()
            return True
        self._check(room, len(queue), size)
        queue.append(Waiting(work, size))
        self.waiting += 1
        self.bytes += size
        return False

    def _check(self, room: Room, there: int, size: int) -> None:
        limits = self._limits
        if there >= limits.per_room:
            raise Busy(f"{there} messages wait in room {room.room_id!r} of {room.source} already")
        if self.waiting >= limits.in_all:
            raise Busy(f"{self.waiting} messages wait in all rooms already")
        if self.bytes + size > limits.bytes:
            raise Busy(f"{self.bytes} bytes of messages wait already; {limits.bytes} may")

    def next(self, room: Room) -> T | None:
        """Return whose turn is next, after one has ended; None where the room is empty now."""
        queue = self._rooms[room]
        if not queue:
            del self._rooms[room]
            return None
        waiting = queue.popleft()
        self.waiting -= 1
        self.bytes -= waiting.size
        return waiting.work
