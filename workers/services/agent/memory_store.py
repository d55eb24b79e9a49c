"""Memories kept in a process: by table and room, bounded, searched. Pure; sizes are bytes."""

import math
import operator
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from garrison.workers import Memory

Place = tuple[str, str]  # a table and a room of it

_encode = msgspec.msgpack.Encoder().encode


class StoredMemory(NamedTuple):
    """A memory and where it is."""

    memory: Memory
    place: Place
    size: int


class Memories:
    """Memories by their ids.

    Where a room is full, its oldest gives way; where all are too many or too large, the oldest of
    the room that was least recently used.

    Args:
        per_room: So many memories in one room of one table.
        most: So many in all.
        most_bytes: So large in all, as they travel.
    """

    def __init__(self, per_room: int, most: int, most_bytes: int) -> None:
        self._per_room, self._most, self._most_bytes = per_room, most, most_bytes
        self._kept: dict[str, StoredMemory] = {}
        self._rooms: OrderedDict[Place, OrderedDict[str, None]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def rooms(self) -> int:
        """Return how many rooms have memories."""
        return len(self._rooms)

    def add(self, memory: Memory, table: str) -> bool:
        """Keep a memory; False where one of its id is there already.

        Raises:
            ValueError: It alone is larger than all may be.
        """
        if memory.id in self._kept:
            return False
        kept = self._made(memory, (table, memory.room_id))
        self._put(kept)
        self._make_room(kept.place)
        return True

    def replace(self, memory: Memory) -> bool:
        """Put a memory in the place of the one of its id; False where there is none.

        Raises:
            ValueError: It alone is larger than all may be.
        """
        old = self._kept.get(memory.id)
        if old is None:
            return False
        kept = self._made(memory, (old.place[0], memory.room_id))
        if kept.place == old.place:
            self._kept[memory.id] = kept
            self.bytes += kept.size - old.size
            self._rooms.move_to_end(kept.place)
        else:
            self.remove(memory.id)
            self._put(kept)
        self._make_room(kept.place)
        return True

    def remove(self, memory_id: str) -> None:
        """Forget a memory, if it is there."""
        kept = self._kept.pop(memory_id, None)
        if kept is None:
            return
        self.bytes -= kept.size
        room = self._rooms[kept.place]
        del room[memory_id]
        if not room:
            del self._rooms[kept.place]

    def remove_room(self, table: str, room_id: str) -> None:
        """Forget all of a room."""
        for memory_id in list(self._rooms.get((table, room_id), ())):
            self.remove(memory_id)

    def get(self, memory_id: str) -> Memory | None:
        """Return a memory."""
        kept = self._kept.get(memory_id)
        return None if kept is None else kept.memory

    def table_of(self, memory_id: str) -> str | None:
        """Return the table that a memory is in."""
        kept = self._kept.get(memory_id)
        return None if kept is None else kept.place[0]

    def of(self, table: str, room_id: str | None = None) -> list[Memory]:
        """Return the memories of a table, or of one room of it, the newest first."""
        if room_id is None:
            found = [kept.memory for kept in self._kept.values() if kept.place[0] == table]
        else:
            place = (table, room_id)
            found = [self._kept[memory_id].memory for memory_id in self._rooms.get(place, ())]
            if found:
                self._rooms.move_to_end(place)
        found.reverse()
        return sorted(found, key=lambda memory: -memory.created_at)

    def _made(self, memory: Memory, place: Place) -> StoredMemory:
        size = len(_encode(memory)) + len(_encode(place[0]))
        if size > self._most_bytes:
            raise ValueError(
                f"memory {memory.id} has {size} bytes; all together may have {self._most_bytes}"
            )
        return StoredMemory(memory, place, size)

    def _put(self, kept: StoredMemory) -> None:
        self._kept[kept.memory.id] = kept
        self._rooms.setdefault(kept.place, OrderedDict())[kept.memory.id] = None
        self._rooms.move_to_end(kept.place)
        self.bytes += kept.size

    def _make_room(self, place: Place) -> None:
        if len(self._rooms[place]) > self._per_room:
            self.remove(next(iter(self._rooms[place])))
        while len(self._kept) > self._most or self.bytes > self._most_bytes:
            self.remove(next(iter(next(iter(self._rooms.values())))))


def selected(
    memories: Iterable[Memory],
    *,
    entity_id: str | None = None,
    start: float | None = None,
    end: float | None = None,
    unique: bool | None = None,
    count: int | None = None,
) -> list[Memory]:
    """Return the first so many memories of a person, of a time, of those marked unique."""
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
    """Return the memories whose vectors point most where this one does, with `similarity`.

    A vector of another length, or of nothing but zeros, is near to nothing.
    """
    length = math.hypot(*embedding)
    found: list[tuple[float, Memory]] = []
    for memory in memories:
        other = memory.embedding
        if other is None or len(other) != len(embedding):
            continue
        both = length * math.hypot(*other)
        similarity = sum(map(operator.mul, embedding, other)) / both if both else 0.0
        if both and similarity >= threshold:
            found.append((similarity, memory))
    found.sort(key=lambda pair: -pair[0])
    return [
        msgspec.structs.replace(memory, similarity=similarity)
        for similarity, memory in found[: max(count, 0)]
    ]
