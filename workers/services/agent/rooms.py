"""Queues of messages by room: one message of a room at a time, rooms concurrently. Pure.

A room exists while one of its messages is in progress. Sizes are bytes.
"""

from collections import deque
from typing import Generic, NamedTuple, TypeVar

from garrison.workers import Busy

T = TypeVar("T")


class Room(NamedTuple):
    """A room_id, and the NAME of the service that it belongs to."""

    source: str
    room_id: str


class Limits(NamedTuple):
    """Limits of waiting messages."""

    per_room: int  # messages
    total: int  # messages of all rooms
    bytes: int  # of those messages
    rooms: int  # with a message in progress


class Waiting(NamedTuple, Generic[T]):
    """One waiting message."""

    work: T
    size: int


class Rooms(Generic[T]):
    """The waiting messages, by room."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rooms: dict[Room, deque[Waiting[T]]] = {}
        self.waiting = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._rooms)

    def add(self, room: Room, work: T, size: int) -> bool:
        """Add a message; True if its room was empty, so that it starts now.

        Raises:
            Busy: Too many wait, in the room or in total.
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

    def _check(self, room: Room, in_room: int, size: int) -> None:
        limits = self._limits
        if in_room >= limits.per_room:
            raise Busy(f"{in_room} messages wait in room {room.room_id!r} of {room.source} already")
        if self.waiting >= limits.total:
            raise Busy(f"{self.waiting} messages wait in all rooms already")
        if self.bytes + size > limits.bytes:
            raise Busy(f"{self.bytes} bytes of messages wait already; the limit is {limits.bytes}")

    def next(self, room: Room) -> T | None:
        """Return the room's next message after one has ended; None if the room is empty."""
        queue = self._rooms[room]
        if not queue:
            del self._rooms[room]
            return None
        waiting = queue.popleft()
        self.waiting -= 1
        self.bytes -= waiting.size
        return waiting.work
