"""Memories of one process: by table and room, bounded, searchable. Pure. Sizes are bytes."""

import math
import operator
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from garrison.workers import Memory

Place = tuple[str, str]  # table and room_id

_encode = msgspec.msgpack.Encoder().encode


class StoredMemory(NamedTuple):
    """A memory, its table and room, and its size."""

    memory: Memory
    place: Place
    size: int


class Memories:
    """Memories by their ids.

    A full room drops its oldest memory. Beyond the total limits, the least recently used room drops
    its oldest.

    Args:
        max_per_room: Memories in one room of one table.
        max_count: Memories in total.
        max_bytes: Encoded size in total.
    """

    def __init__(self, max_per_room: int, max_count: int, max_bytes: int) -> None:
        self._max_per_room, self._max_count, self._max_bytes = max_per_room, max_count, max_bytes
        self._stored: dict[str, StoredMemory] = {}
        self._rooms: OrderedDict[Place, OrderedDict[str, None]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def rooms(self) -> int:
        """Return the number of rooms that have memories."""
        return len(self._rooms)

    def add(self, memory: Memory, table: str) -> bool:
        """Store a memory; False if its id exists already.

        Raises:
            ValueError: It is larger than the total limit.
        """
        if memory.id in self._stored:
            return False
        stored = self._checked(memory, (table, memory.room_id))
        self._insert(stored)
        self._enforce_limits(stored.place)
        return True

    def replace(self, memory: Memory) -> bool:
        """Replace the memory with the same id; False if there is none.

        Raises:
            ValueError: It is larger than the total limit.
        """
        old = self._stored.get(memory.id)
        if old is None:
            return False
        stored = self._checked(memory, (old.place[0], memory.room_id))
        if stored.place == old.place:
            self._stored[memory.id] = stored
            self.bytes += stored.size - old.size
            self._rooms.move_to_end(stored.place)
        else:
            self.remove(memory.id)
            self._insert(stored)
        self._enforce_limits(stored.place)
        return True

    def remove(self, memory_id: str) -> None:
        """Delete a memory, if it exists."""
        stored = self._stored.pop(memory_id, None)
        if stored is None:
            return
        self.bytes -= stored.size
        room = self._rooms[stored.place]
        del room[memory_id]
        if not room:
            del self._rooms[stored.place]

    def remove_room(self, table: str, room_id: str) -> None:
        """Delete all memories of a room in one table."""
        for memory_id in list(self._rooms.get((table, room_id), ())):
            self.remove(memory_id)

    def get(self, memory_id: str) -> Memory | None:
        """Return a memory; None if it does not exist."""
        stored = self._stored.get(memory_id)
        return None if stored is None else stored.memory

    def table_of(self, memory_id: str) -> str | None:
        """Return the table of a memory; None if it does not exist."""
        stored = self._stored.get(memory_id)
        return None if stored is None else stored.place[0]

    def of(self, table: str, room_id: str | None = None) -> list[Memory]:
        """Return the memories of a table or of one of its rooms, the newest first."""
        if room_id is None:
            found = [stored.memory for stored in self._stored.values() if stored.place[0] == table]
        else:
            place = (table, room_id)
            found = [self._stored[memory_id].memory for memory_id in self._rooms.get(place, ())]
            if found:
                self._rooms.move_to_end(place)
        found.reverse()
        return sorted(found, key=lambda memory: -memory.created_at)

    def _checked(self, memory: Memory, place: Place) -> StoredMemory:
        size = len(_encode(memory)) + len(_encode(place[0]))
        if size > self._max_bytes:
            raise ValueError(
                f"memory {memory.id} has {size} bytes; the limit for all is {self._max_bytes}"
            )
        return StoredMemory(memory, place, size)

    def _insert(self, stored: StoredMemory) -> None:
        self._stored[stored.memory.id] = stored
        self._rooms.setdefault(stored.place, OrderedDict())[stored.memory.id] = None
        self._rooms.move_to_end(stored.place)
        self.bytes += stored.size

    def _enforce_limits(self, place: Place) -> None:
        if len(self._rooms[place]) > self._max_per_room:
            self.remove(next(iter(self._rooms[place])))
        while len(self._stored) > self._max_count or self.bytes > self._max_bytes:
            self.remove(next(iter(next(iter(self._rooms.values())))))


def select(
    memories: Iterable[Memory],
    *,
    entity_id: str | None = None,
    start: float | None = None,
    end: float | None = None,
    unique: bool | None = None,
    count: int | None = None,
) -> list[Memory]:
    """Return the first `count` memories that match every given condition."""
    found = [
        memory
        for memory in memories
        if (entity_id is None or memory.entity_id == entity_id)
        and (start is None or memory.created_at >= start)
        and (end is None or memory.created_at <= end)
        and (not unique or memory.unique)
    ]
    return found if count is None else found[: max(count, 0)]


def nearest(
    memories: Iterable[Memory], embedding: list[float], threshold: float, count: int
) -> list[Memory]:
    """Return the memories with the highest cosine similarity, each with its `similarity`.

    Memories without a vector, with one of another length or of zeros are left out.
    """
    length = math.hypot(*embedding)
    found: list[tuple[float, Memory]] = []
    for memory in memories:
        other = memory.embedding
        if other is None or len(other) != len(embedding):
            continue
        lengths = length * math.hypot(*other)
        similarity = sum(map(operator.mul, embedding, other)) / lengths if lengths else 0.0
        if lengths and similarity >= threshold:
            found.append((similarity, memory))
    found.sort(key=lambda pair: -pair[0])
    return [
        msgspec.structs.replace(memory, similarity=similarity)
        for similarity, memory in found[: max(count, 0)]
    ]
