"""Texts that wait in a room until a listener takes them: bounded queues. Pure.

Sizes are characters.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterator

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """How much may wait; beyond it, the oldest is dropped."""

    rooms: int = 256  # with waiting texts, listeners, or a line that is being answered
    persons: int = 1_024  # rooms of which it is known who writes
    texts: int = 64  # in one room
    characters: int = 65_536  # in one room


class Room:
    """The texts that wait in one room."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: deque[str] = deque()
        self._held: deque[str] = deque()
        self.users = 0  # listeners, and lines that are being answered
        self.answering = 0  # lines that are being answered

    def put(self, text: str) -> None:
        """Add a text. During the answering of a line it is held: it may be the answer itself."""
        queue = self._held if self.answering else self._waiting
        queue.append(text[: self._limits.characters])
        while len(queue) > self._limits.texts or sum(map(len, queue)) > self._limits.characters:
            queue.popleft()

    def drop_answers(self, answers: Collection[str]) -> None:
        """Drop the answers to a line, which its reply contains; release the texts held for it."""
        self._waiting = deque(text for text in self._waiting if text not in answers)
        self._held = deque(text for text in self._held if text not in answers)
        if not self.answering:
            held, self._held = self._held, deque()
            for text in held:
                self.put(text)

    def take(self) -> Iterator[str]:
        """Remove and yield the waiting texts, the oldest first."""
        while self._waiting:
            yield self._waiting.popleft()

    @property
    def waiting(self) -> list[str]:
        """Return the waiting texts, the oldest first."""
        return list(self._waiting)

    @property
    def is_unused(self) -> bool:
        """Return True if the room can be discarded."""
        return not (self._waiting or self._held or self.users)


class Rooms:
    """The rooms in use, and who writes in them where that was stated."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._rooms: OrderedDict[str, Room] = OrderedDict()
        self._persons: OrderedDict[str, str] = OrderedDict()  # by room, also of unused ones

    def __len__(self) -> int:
        return len(self._rooms)

    def enter(self, room_id: str) -> Room:
        """Return a room, creating it if necessary.

        Beyond the limit another room is discarded: one without users, or else the one entered
        longest ago. Its users keep their object, but receive nothing further.
        """
        room = self._rooms.setdefault(room_id, Room(self._limits))
        self._rooms.move_to_end(room_id)
        if len(self._rooms) > self._limits.rooms:
            others = [other for other in self._rooms if other != room_id]
            unused = (other for other in others if not self._rooms[other].users)
            del self._rooms[next(unused, others[0])]
        return room

    def note_person(self, room_id: str, person: str) -> None:
        """Note who writes in a room; beyond the limit the oldest note is dropped."""
        self._persons[room_id] = person
        self._persons.move_to_end(room_id)
        if len(self._persons) > self._limits.persons:
            self._persons.popitem(last=False)

    def person(self, room_id: str) -> str:
        """Return who writes in a room; empty if that was not stated."""
        return self._persons.get(room_id, "")

    def leave(self, room_id: str) -> None:
        """Discard a room if it is unused."""
        room = self._rooms.get(room_id)
        if room is not None and room.is_unused:
            del self._rooms[room_id]

    def items(self) -> list[tuple[str, Room]]:
        """Return the rooms with their ids."""
        return list(self._rooms.items())

    def holds(self, room_id: str, room: Room) -> bool:
        """Return True if the object is still the room of this id."""
        return self._rooms.get(room_id) is room
