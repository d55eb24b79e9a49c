"""The methods of `DatabaseAdapter`, in the process's memory, bounded.

The data is lost when the process ends. A service of type `database` replaces it.
"""

import asyncio
import functools
import uuid
from typing import Any

import msgspec

from garrison.workers import Memory, Service, Task, as_memory, idempotent

from .config import Config
from .memory_store import Memories, nearest, select
from .tasks import Cache, Tasks


class MemoryDatabase(Service):
    """Memories, tasks and a cache, until the process ends."""

    config: Config

    def _open_database(self) -> None:
        config = self.config
        self._memories = Memories(config.memories_per_room, config.memories, config.memory_bytes)
        self._tasks = Tasks(config.tasks, config.task_bytes)
        self._cache: Cache[str] = Cache(config.cache, config.cache_bytes)

    # --- memories ---------------------------------------------------------------------------

    async def create_memory(
        self, memory: Memory, table_name: str = "messages", unique: bool = False
    ) -> str:
        """Store a memory; return its id. An existing memory with this id is not changed."""
        memory = as_memory(memory)
        if unique:
            memory = msgspec.structs.replace(memory, unique=True)
        self._memories.add(memory, table_name)
        return memory.id

    @idempotent
    async def get_memory_by_id(self, memory_id: str) -> Memory | None:
        """Return a memory; None if it does not exist."""
        return self._memories.get(memory_id)

    @idempotent
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
        found = self._memories.of(table_name, room_id)
        return select(found, entity_id=entity_id, start=start, end=end, unique=unique, count=count)

    @idempotent
    async def get_memories_by_ids(
        self, ids: list[str], table_name: str | None = None
    ) -> list[Memory]:
        """Return the memories that exist."""
        found = [self._memories.get(memory_id) for memory_id in dict.fromkeys(ids)]
        return [
            memory
            for memory in found
            if memory is not None
            and (table_name is None or self._memories.table_of(memory.id) == table_name)
        ]

    @idempotent
    async def get_memories_by_room_ids(
        self, room_ids: list[str], *, table_name: str = "messages", limit: int | None = None
    ) -> list[Memory]:
        """Return memories of several rooms, the newest first."""
        found = [
            memory
            for room_id in dict.fromkeys(room_ids)
            for memory in self._memories.of(table_name, room_id)
        ]
        found.sort(key=lambda memory: -memory.created_at)
        return select(found, count=limit)

    @idempotent
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
        among = self._memories.of(table_name, room_id)
        search = functools.partial(nearest, among, embedding, match_threshold, count)
        return await asyncio.to_thread(search)  # a search must not delay answers

    async def update_memory(self, memory: Memory) -> bool:
        """Replace the memory with the same id; False if there is none."""
        return self._memories.replace(memory)

    @idempotent
    async def delete_memory(self, memory_id: str) -> None:
        """Delete a memory."""
        self._memories.remove(memory_id)

    @idempotent
    async def delete_many_memories(self, ids: list[str]) -> None:
        """Delete memories."""
        for memory_id in ids:
            self._memories.remove(memory_id)

    @idempotent
    async def delete_all_memories(self, room_id: str, table_name: str = "messages") -> None:
        """Delete all memories of a room in one table."""
        self._memories.remove_room(table_name, room_id)

    @idempotent
    async def count_memories(
        self, room_id: str | None = None, unique: bool = False, table_name: str = "messages"
    ) -> int:
        """Return the number of memories."""
        return len(select(self._memories.of(table_name, room_id), unique=unique))

    # --- tasks ------------------------------------------------------------------------------

    async def create_task(self, task: Task) -> str:
        """Store a task; return its id."""
        task = msgspec.structs.replace(task, id=task.id or str(uuid.uuid4()))
        self._tasks.put(task)
        return task.id

    @idempotent
    async def get_task(self, task_id: str) -> Task | None:
        """Return a task; None if it does not exist."""
        return self._tasks.get(task_id)

    @idempotent
    async def get_tasks(self, params: dict[str, Any] | None = None) -> list[Task]:
        """Return the tasks that match a query; see `DatabaseAdapter`."""
        return self._tasks.matching(params or {})

    @idempotent
    async def get_tasks_by_name(self, name: str) -> list[Task]:
        """Return the tasks with a name."""
        return self._tasks.matching({"name": name})

    async def update_task(self, task_id: str, task: dict[str, Any]) -> None:
        """Change fields of a task."""
        self._tasks.change(task_id, task)

    @idempotent
    async def delete_task(self, task_id: str) -> None:
        """Delete a task."""
        self._tasks.remove(task_id)

    # --- cache ------------------------------------------------------------------------------

    @idempotent
    async def get_cache(self, key: str) -> Any:
        """Return the value of a key; None if there is none."""
        value = self._cache.get(key)
        return None if value is None else msgspec.msgpack.decode(value)

    @idempotent
    async def set_cache(self, key: str, value: Any) -> bool:
        """Store a value; False if it is larger than the whole cache may be."""
        return self._cache.put(key, msgspec.msgpack.encode(value))

    @idempotent
    async def delete_cache(self, key: str) -> bool:
        """Delete a key; False if it did not exist."""
        return self._cache.remove(key)
