"""What is said in rooms to which nobody has listened yet: bounded queues. Pure.

Sizes are characters.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterator
from typing import NamedTuple


class Limits(NamedTuple):
    """How much may wait; past it, the oldest gives way."""

    rooms: int = 256  # where something waits, somebody listens or a line is being answered
    texts: int = 64  # in one room
    characters: int = 65_536  # in one room


class Room:
    """What waits in one room."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: deque[str] = deque()
        self._held: deque[str] = deque()
        self.users = 0  # listeners, and lines that are being answered
        self.answering = 0  # lines that are being answered

    def put(self, text: str) -> None:
        """Take a text. What comes while a line is being answered may be its answer: it is held."""
        queue = self._held if self.answering else self._waiting
        queue.append(text[: self._limits.characters])
        while len(queue) > self._limits.texts or sum(map(len, queue)) > self._limits.characters:
            queue.popleft()

    def answered(self, said: Collection[str]) -> None:
        """Take it that a line has its answer: what was said to it is not said a second time."""
        self._waiting = deque(text for text in self._waiting if text not in said)
        self._held = deque(text for text in self._held if text not in said)
        if not self.answering:
            held, self._held = self._held, deque()
            for text in held:
                self.put(text)

    def take(self) -> Iterator[str]:
        """Yield what waits, the oldest first; what was yielded waits no more."""
        while self._waiting:
            yield self._waiting.popleft()

    @property
    def empty(self) -> bool:
        """Tell whether it can be forgotten."""
        return not (self._waiting or self._held or self.users)


class Rooms:
    """The rooms in which there is something."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._rooms: OrderedDict[str, Room] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rooms)

    def enter(self, room_id: str) -> Room:
        """Return a room. Where they are too many, one that nobody uses gives way, else the one
        that was entered longest ago: who is in it keeps it, and hears nothing new."""
        room = self._rooms.setdefault(room_id, Room(self._limits))
        self._rooms.move_to_end(room_id)
        if len(self._rooms) > self._limits.rooms:
            others = [other for other in self._rooms if other != room_id]
            unused = (other for other in others if not self._rooms[other].users)
            del self._rooms[next(unused, others[0])]
        return room

    def leave(self, room_id: str) -> None:
        """Forget a room where there is nothing."""
        room = self._rooms.get(room_id)
        if room is not None and room.empty:
            del self._rooms[room_id]

    def holds(self, room_id: str, room: Room) -> bool:
        """Tell whether that is still the room of this id."""
        return self._rooms.get(room_id) is room
