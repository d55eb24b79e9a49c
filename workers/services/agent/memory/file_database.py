"""The methods of `DatabaseAdapter` that the agent has itself, over the file `memory.db`.

Each takes the agent whose records it means. Memories are decoded, and vectors compared, where that
does not delay answers.
"""

import asyncio
import time
import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from garrison.workers import Memory, Task, TaskChanges, TaskQuery, as_memory

from ..config import Config
from . import cache_rows, memory_rows, schema, task_rows
from .memory_rows import Prepared, Row, Wanted, decoded
from .similarity import Search
from .store import MemoryStore

INLINE = 256  # memories that are decoded in the loop; more are in a thread
CHUNK = 500  # vectors read at a time: others read and write in between
SEARCHES = 2  # at the same time

_encode_value = msgspec.msgpack.Encoder().encode
_decode_value = msgspec.msgpack.Decoder().decode


class FileDatabase:
    """Memories, tasks and cached values in a file.

    Args:
        store: The file.
        config: For the bounds.
    """

    def __init__(self, store: MemoryStore, config: Config) -> None:
        self.store = store
        self._memories = memory_rows.Bounds(
            config.memories_per_room, config.memories, config.memory_bytes
        )
        self._tasks = task_rows.Bounds(config.tasks, config.task_bytes)
        self._cache = cache_rows.Bounds(config.cache, config.cache_bytes)
        self._searching = asyncio.Semaphore(SEARCHES)
        self.changes = 0  # of memories, by this process: what was read before may be out of date

    # --- memories ---------------------------------------------------------------------------

    def remember(self, memory: Memory, agent: str) -> "asyncio.Future[int]":
        """Store a message of a conversation; the future has a result once that outlasts the
        process.

        Raises:
            ValueError: It is larger than all together may be.
        """
        row, bounds = Prepared.of(memory, "messages", agent, self._memories), self._memories
        self.changes += 1
        return self.store.write_soon(lambda at: memory_rows.add(at, row, bounds))

    async def create_memory(
        self, memory: Memory, table_name: str, unique: bool, agent_id: str
    ) -> str:
        """Store a memory; return its id."""
        memory = as_memory(memory)
        if unique:
            memory = msgspec.structs.replace(memory, unique=True)
        return (await self.create_memories([memory], table_name, agent_id))[0]

    async def create_memories(
        self, memories: list[Memory], table_name: str, agent_id: str
    ) -> list[str]:
        """Store memories at once; return their ids."""
        memories, bounds = [as_memory(one) for one in memories], self._memories
        rows = [Prepared.of(one, table_name, agent_id, bounds) for one in memories]
        self.changes += 1
        await self.store.write(lambda at: [memory_rows.add(at, row, bounds) for row in rows])
        return [one.id for one in memories]

    async def get_memory_by_id(self, memory_id: str, agent_id: str) -> Memory | None:
        """Return a memory, or None."""
        found = await self.get_memories_by_ids([memory_id], None, agent_id)
        return found[0] if found else None

    async def get_memories(
        self, wanted: Wanted, count: int | None = None, offset: int = 0
    ) -> list[Memory]:
        """Return memories, the newest first."""
        return await _decoded(
            await self.store.execute(lambda at: memory_rows.find(at, wanted, count, offset))
        )

    async def get_memories_by_ids(
        self, ids: list[str], table_name: str | None, agent_id: str
    ) -> list[Memory]:
        """Return the memories that exist."""
        return await _decoded(
            await self.store.execute(
                lambda at: memory_rows.find_by_ids(at, agent_id, ids, table_name)
            )
        )

    async def search_memories(
        self, embedding: list[float], wanted: Wanted, threshold: float, count: int
    ) -> list[Memory]:
        """Return the memories that are most similar to a vector."""
        wanted = msgspec.structs.replace(wanted, dimension=len(embedding))
        search, after = Search(embedding, threshold, count), 0
        async with self._searching:
            while after >= 0:
                start = after
                rows = await self.store.execute(
                    lambda at: memory_rows.vectors(at, wanted, start, CHUNK)  # noqa: B023
                )
                await asyncio.to_thread(search.look_at, rows)
                after = rows[-1][0] if len(rows) == CHUNK else -1
        found = search.found
        numbers = [number for _, number in found]
        rows_found = await self.store.execute(lambda at: memory_rows.of_numbers(at, numbers))
        return [
            msgspec.structs.replace(decoded([row])[0], similarity=similarity)
            for (similarity, _), row in zip(found, rows_found, strict=True)
            if row is not None
        ]

    async def update_memory(self, memory: Memory, agent_id: str) -> bool:
        """Replace the memory with the same id; False if there is none."""
        row, bounds = Prepared.of(memory, "", agent_id, self._memories), self._memories
        self.changes += 1
        return await self.store.write(lambda at: memory_rows.replace(at, row, bounds))

    async def delete_memories(self, ids: list[str], agent_id: str) -> None:
        """Delete memories."""
        self.changes += 1
        await self.store.write(lambda at: memory_rows.remove(at, agent_id, ids))

    async def delete_all_memories(self, room_id: str, table_name: str, agent_id: str) -> None:
        """Delete all memories of a room in one table."""
        self.changes += 1
        await self.store.write(
            lambda at: memory_rows.remove_room(at, agent_id, table_name, room_id)
        )

    async def count_memories(self, wanted: Wanted) -> int:
        """Return the number of memories."""
        return await self.store.execute(lambda at: memory_rows.number(at, wanted))

    # --- tasks ------------------------------------------------------------------------------

    async def create_task(self, task: Task, agent_id: str) -> str:
        """Store a task; return its id."""
        now, bounds = time.time(), self._tasks
        task = msgspec.structs.replace(
            task,
            id=task.id or str(uuid.uuid4()),
            agent_id=agent_id,
            created_at=task.created_at or now,
            updated_at=task.updated_at or now,
            **TaskChanges.parse({"scheduled_for": task.scheduled_for}).fields,
        )
        await self.store.write(lambda at: task_rows.add(at, task, agent_id, bounds))
        return task.id

    async def get_task(self, task_id: str, agent_id: str) -> Task | None:
        """Return a task, or None."""
        return await self.store.execute(lambda at: task_rows.find(at, agent_id, task_id))

    async def get_tasks(self, query: TaskQuery, agent_id: str) -> list[Task]:
        """Return the tasks that a query wants."""
        return await self.store.execute(lambda at: task_rows.matching(at, agent_id, query))

    async def update_task(
        self, task_id: str, fields: dict[str, Any], if_status: str | None, agent_id: str
    ) -> bool:
        """Change fields of a task; return whether it did."""
        now, bounds = time.time(), self._tasks
        return await self.store.write(
            lambda at: task_rows.change(
                at, agent_id, task_id, fields, if_status=if_status, now=now, bounds=bounds
            )
        )

    async def delete_task(self, task_id: str, agent_id: str) -> None:
        """Delete a task."""
        await self.store.write(lambda at: task_rows.remove(at, agent_id, task_id))

    async def claim_tasks(self, claim: task_rows.Claim) -> list[Task]:
        """Claim due tasks for a runner."""
        bounds = self._tasks
        return await self.store.write(lambda at: task_rows.claim(at, claim, time.time(), bounds))

    async def renew_lease(self, task_id: str, lease: str, seconds: float, agent_id: str) -> bool:
        """Have a lease end later; False if it is not the task's any more."""
        until, bounds = time.time() + seconds, self._tasks
        return await self.store.write(
            lambda at: task_rows.renew(at, agent_id, task_id, lease, until, bounds)
        )

    async def settle_task(
        self, task_id: str, lease: str, fields: dict[str, Any], agent_id: str
    ) -> bool:
        """Change fields of a leased task, and end its lease."""
        now, bounds = time.time(), self._tasks
        return await self.store.write(
            lambda at: task_rows.settle(
                at, agent_id, task_id, lease, fields, now=now, bounds=bounds
            )
        )

    async def release_leases(self, owner: str, agent_id: str) -> int:
        """Make pending again what an owner's former process held."""
        now, bounds = time.time(), self._tasks
        return await self.store.write(
            lambda at: task_rows.release(at, agent_id, owner, now, bounds)
        )

    # --- cache ------------------------------------------------------------------------------

    async def get_cache(self, key: str, agent_id: str) -> Any:
        """Return the value of a key, or None."""
        now = time.time()
        value = await self.store.execute(lambda at: cache_rows.find(at, agent_id, key, now))
        return None if value is None else _decode_value(value)

    async def set_cache(self, key: str, value: Any, ttl: float | None, agent_id: str) -> bool:
        """Store a value; False if it is larger than the whole cache may be."""
        encoded, bounds = _encode_value(value), self._cache
        expires = None if ttl is None else time.time() + ttl
        return await self.store.write_soon(
            lambda at: cache_rows.put(at, agent_id, key, encoded, expires, bounds)
        )

    async def delete_cache(self, key: str, agent_id: str) -> bool:
        """Delete a key; return whether it existed."""
        now = time.time()
        return await self.store.write_soon(lambda at: cache_rows.remove(at, agent_id, key, now))

    # --- the file ---------------------------------------------------------------------------

    async def prune(self) -> None:
        """Delete cached values that have expired, and return empty pages to the disk."""
        now = time.time()
        while await self.store.execute(lambda at: cache_rows.remove_expired(at, now)):
            pass
        await self.store.execute(schema.vacuum)


async def _decoded(rows: Iterable[Row]) -> list[Memory]:
    found = list(rows)
    return decoded(found) if len(found) <= INLINE else await asyncio.to_thread(decoded, found)
