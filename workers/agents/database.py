"""`DatabaseAdapter`: the methods of a database of memories, tasks and cached values; `Task`.

The service of type `database` implements them; without one, the agent does, in its own memory.
Times are seconds since the epoch, except in a `Task`, where they are datetimes with a time zone.
"""

from datetime import datetime
from typing import Any, Protocol

import msgspec

from .content import Memory


class Task(msgspec.Struct, kw_only=True):
    """Work for a later time, once or repeatedly."""

    name: str
    id: str = ""
    description: str = ""
    status: str = "pending"  # "pending", "running", "done", "failed"
    scheduled_for: datetime | None = None  # with a time zone; None is now
    tags: list[str] = []  # "queue": wait for its time; "repeat": keep it afterwards
    metadata: dict[str, Any] = {}
    room_id: str = ""
    world_id: str = ""
    entity_id: str = ""


class DatabaseAdapter(Protocol):
    """Memories, tasks and a cache. A table is any name: "messages", "facts" …

    Every method raises CallError where the call to the database fails.
    """

    async def create_memory(
        self, memory: Memory, table_name: str = "messages", unique: bool = False
    ) -> str:
        """Store a memory; return its id. A stored memory with the same id is kept unchanged."""
        ...

    async def get_memory_by_id(self, memory_id: str) -> Memory | None:
        """Return a memory, or None."""
        ...

    async def get_memories(
        self,
        *,
        table_name: str = "messages",
        room_id: str | None = None,
        entity_id: str | None = None,
        count: int | None = None,
        start: float | None = None,
        end: float | None = None,
        unique: bool | None = None,
    ) -> list[Memory]:
        """Return memories, newest first.

        Args:
            table_name: The table.
            room_id: Only of this room.
            entity_id: Only of this sender.
            count: At most so many.
            start: Only from this time on.
            end: Only up to this time.
            unique: Only those whose `unique` has this value.
        """
        ...

    async def get_memories_by_ids(
        self, ids: list[str], table_name: str | None = None
    ) -> list[Memory]:
        """Return the stored memories among these ids."""
        ...

    async def get_memories_by_room_ids(
        self, room_ids: list[str], *, table_name: str = "messages", limit: int | None = None
    ) -> list[Memory]:
        """Return memories of several rooms, newest first, at most `limit`."""
        ...

    async def search_memories(
        self,
        embedding: list[float],
        *,
        table_name: str = "messages",
        match_threshold: float = 0.0,
        count: int = 10,
        room_id: str | None = None,
    ) -> list[Memory]:
        """Return the memories most similar to a vector, each with its `similarity`.

        Args:
            embedding: A vector of the length of those stored.
            table_name: The table.
            match_threshold: Lowest similarity, -1 to 1.
            count: At most so many.
            room_id: Only of this room.
        """
        ...

    async def update_memory(self, memory: Memory) -> bool:
        """Replace the memory with the same id; return False if there is none."""
        ...

    async def delete_memory(self, memory_id: str) -> None:
        """Delete a memory."""
        ...

    async def delete_many_memories(self, ids: list[str]) -> None:
        """Delete several memories."""
        ...

    async def delete_all_memories(self, room_id: str, table_name: str = "messages") -> None:
        """Delete all memories of a room."""
        ...

    async def count_memories(
        self, room_id: str | None = None, unique: bool = False, table_name: str = "messages"
    ) -> int:
        """Return the number of memories."""
        ...

    async def create_task(self, task: Task) -> str:
        """Store a task; return its id."""
        ...

    async def get_task(self, task_id: str) -> Task | None:
        """Return a task, or None."""
        ...

    async def get_tasks(self, params: dict[str, Any] | None = None) -> list[Task]:
        """Return the tasks that match.

        Args:
            params: Field to value, or to a comparison such as `{"$lte": now}`, with `$eq`, `$ne`,
                `$lt`, `$lte`, `$gt`, `$gte` or `$in`. A task matches `tags` if it has all of them.
        """
        ...

    async def get_tasks_by_name(self, name: str) -> list[Task]:
        """Return the tasks of a name."""
        ...

    async def update_task(self, task_id: str, task: dict[str, Any]) -> None:
        """Change the given fields of a task."""
        ...

    async def delete_task(self, task_id: str) -> None:
        """Delete a task."""
        ...

    async def get_cache(self, key: str) -> Any:
        """Return the value of a key, or None."""
        ...

    async def set_cache(self, key: str, value: Any) -> bool:
        """Store a value under a key; return whether it was stored."""
        ...

    async def delete_cache(self, key: str) -> bool:
        """Delete a key; return whether it existed."""
        ...
