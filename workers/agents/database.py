"""`DatabaseAdapter`: what is asked of whoever keeps memories and tasks.

A service of type `database` answers these calls; where there is none, the agent does, from its own
memory. Times are seconds since the epoch, or datetimes where they stand in a `Task`.
"""

from datetime import datetime
from typing import Any, Protocol

import msgspec

from .content import Memory


class Task(msgspec.Struct, kw_only=True):
    """Something to be done later, or again and again."""

    name: str
    id: str = ""
    description: str = ""
    status: str = "pending"  # "pending", "running", "done", "failed"
    scheduled_for: datetime | None = None  # with a time zone; None is at once
    tags: list[str] = []  # "queue" has it wait for its time, "repeat" keeps it afterwards
    metadata: dict[str, Any] = {}
    room_id: str = ""
    world_id: str = ""
    entity_id: str = ""


class DatabaseAdapter(Protocol):
    """Memories, tasks and a cache. Tables are names: "messages", "facts" …"""

    async def create_memory(
        self, memory: Memory, table_name: str = "messages", unique: bool = False
    ) -> str:
        """Keep a memory; return its id. One whose id is there already is left as it is."""
        ...

    async def get_memory_by_id(self, memory_id: str) -> Memory | None:
        """Return a memory."""
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
        """Return memories, the newest first."""
        ...

    async def get_memories_by_ids(
        self, ids: list[str], table_name: str | None = None
    ) -> list[Memory]:
        """Return those that are there."""
        ...

    async def get_memories_by_room_ids(
        self, room_ids: list[str], *, table_name: str = "messages", limit: int | None = None
    ) -> list[Memory]:
        """Return memories of several rooms, the newest first."""
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
        """Return the memories nearest to a vector, each with its `similarity`."""
        ...

    async def update_memory(self, memory: Memory) -> bool:
        """Put a memory in the place of the one with its id; False where there is none."""
        ...

    async def delete_memory(self, memory_id: str) -> None:
        """Forget a memory."""
        ...

    async def delete_many_memories(self, ids: list[str]) -> None:
        """Forget memories."""
        ...

    async def delete_all_memories(self, room_id: str, table_name: str = "messages") -> None:
        """Forget all of a room."""
        ...

    async def count_memories(
        self, room_id: str | None = None, unique: bool = False, table_name: str = "messages"
    ) -> int:
        """Return how many there are."""
        ...

    async def create_task(self, task: Task) -> str:
        """Keep a task; return its id."""
        ...

    async def get_task(self, task_id: str) -> Task | None:
        """Return a task."""
        ...

    async def get_tasks(self, params: dict[str, Any] | None = None) -> list[Task]:
        """Return the tasks whose fields are as asked.

        Args:
            params: A field to a value, or to a comparison, `{"$lte": now}`: `$eq $ne $lt $lte $gt
                $gte $in`. `tags` wants all of them to be there.
        """
        ...

    async def get_tasks_by_name(self, name: str) -> list[Task]:
        """Return the tasks of that name."""
        ...

    async def update_task(self, task_id: str, task: dict[str, Any]) -> None:
        """Change fields of a task."""
        ...

    async def delete_task(self, task_id: str) -> None:
        """Forget a task."""
        ...

    async def get_cache(self, key: str) -> Any:
        """Return what was kept under a key, else None."""
        ...

    async def set_cache(self, key: str, value: Any) -> bool:
        """Keep a value under a key."""
        ...

    async def delete_cache(self, key: str) -> bool:
        """Forget what is under a key."""
        ...
