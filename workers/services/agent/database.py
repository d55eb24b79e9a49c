"""The methods of `DatabaseAdapter` that the agent has: memories, tasks, cached values.

They are in the agent's file, unless a service of type `database` is configured: then each of them
is that service's, so that there is one place that answers.
"""

import asyncio
import logging
from typing import Any

from garrison.workers import DatabaseAdapter, Memory, Service, Task, TaskQuery, idempotent
from garrison.workers.sqlite.opening import open_or_explain
from garrison.workers.sqlite.store import StoreFull

from .config import Config
from .memory.file_database import FileDatabase
from .memory.handover import HandOver
from .memory.memory_rows import Wanted
from .memory.store import FILE, MemoryStore
from .memory.task_rows import ANY_AGENT, Claim

log = logging.getLogger(__name__)

PRUNE_S = 60.0  # between deletions of what has expired


class AgentDatabase(Service):
    """Memories, tasks and cached values, which outlast the process."""

    config: Config
    _database: FileDatabase

    async def _start_database(self) -> None:
        """Open the file.

        Raises:
            PermanentFailure: A later version wrote it, or it may not be opened.
            RuntimeError: It cannot be opened now.
        """
        config, path = self.config, self.runtime.data_folder / FILE
        most = config.memory_bytes + config.task_bytes + config.cache_bytes
        store = await asyncio.to_thread(
            open_or_explain, path, self.runtime.name, lambda: MemoryStore(path, most)
        )
        store.start(asyncio.get_running_loop())
        self._database = FileDatabase(store, config)
        self.spawn(_watch(store), FILE, essential=True)
        self.every(PRUNE_S, self._prune_database, while_paused=True)
        if self.service_type == "agent":
            self.spawn(HandOver(self.runtime, store).run(), "handover", essential=True)

    async def _stop_database(self) -> None:
        """Write what is pending, and close the file."""
        self._database.store.begin_close()
        await asyncio.to_thread(self._database.store.wait_closed)

    async def _prune_database(self) -> None:
        try:
            await self._database.prune()
        except StoreFull as error:  # later
            log.warning("memory.not_pruned error=%s", error)

    def _database_health(self) -> dict[str, int]:
        """Return how much the file holds."""
        store = self._database.store
        memories = store.count("memories")
        return {
            "memories": memories.rows,
            "memory_bytes": memories.bytes,
            "tasks": store.count("tasks").rows,
        }

    def _elsewhere(self) -> DatabaseAdapter | None:
        """Return the database that is used in place of the file, if one is configured."""
        if self.service_type == "database" or not self.runtime.has_database:
            return None
        return self.runtime.database_adapter

    def _agent(self, wanted: str | None, *, any_agent: bool = False) -> str:
        """Return the agent whose records a call means: the caller's own, unless it names one.

        Args:
            wanted: The agent that it names.
            any_agent: Whether "*" stands for all of them.

        Raises:
            PermissionError: They are not the caller's, or are not kept here.
        """
        caller, own = self.runtime.caller, self.runtime.agent
        of_caller = caller.agent if caller is not None else ""
        agent = (of_caller or own) if wanted is None else wanted
        if caller is not None and of_caller not in {"", agent}:
            raise PermissionError(
                f"{caller.name} belongs to {of_caller}, and may not use the records of {agent!r}"
            )
        if own not in {"", agent} and not (any_agent and agent == ANY_AGENT and not of_caller):
            raise PermissionError(
                f"{self.runtime.name} has the records of {own} alone, not of {agent!r}"
            )
        return agent

    # --- memories ---------------------------------------------------------------------------

    async def create_memory(
        self,
        memory: Memory,
        table_name: str = "messages",
        unique: bool = False,
        agent_id: str | None = None,
    ) -> str:
        """Store a memory; return its id. An existing memory with this id is not changed."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.create_memory(memory, table_name, unique, agent_id=agent)
        return await self._database.create_memory(memory, table_name, unique, agent)

    async def create_memories(
        self, memories: list[Memory], table_name: str = "messages", agent_id: str | None = None
    ) -> list[str]:
        """Store memories at once, all or none; return their ids."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.create_memories(memories, table_name, agent_id=agent)
        return await self._database.create_memories(memories, table_name, agent)

    @idempotent
    async def get_memory_by_id(self, memory_id: str, agent_id: str | None = None) -> Memory | None:
        """Return a memory; None if it does not exist."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.get_memory_by_id(memory_id, agent_id=agent)
        return await self._database.get_memory_by_id(memory_id, agent)

    @idempotent
    async def get_memories(
        self,
        *,
        table_name: str = "messages",
        room_id: str | None = None,
        world_id: str | None = None,
        entity_id: str | None = None,
        count: int | None = None,
        start: float | None = None,
        end: float | None = None,
        unique: bool | None = None,
        offset: int = 0,
        before: str | None = None,
        agent_id: str | None = None,
    ) -> list[Memory]:
        """Return memories, the newest first; see `DatabaseAdapter`."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            given: dict[str, Any] = {
                "room_id": room_id,
                "world_id": world_id,
                "entity_id": entity_id,
                "count": count,
                "start": start,
                "end": end,
                "unique": unique,
                "offset": offset or None,  # a database of an author's own may know less
                "before": before,
            }
            named = {name: value for name, value in given.items() if value is not None}
            return await other.get_memories(table_name=table_name, **named, agent_id=agent)
        wanted = Wanted(
            agent=agent,
            table=table_name,
            rooms=None if room_id is None else [room_id],
            world=world_id,
            entity=entity_id,
            start=start,
            end=end,
            unique=unique,
            before=before,
        )
        return await self._database.get_memories(wanted, count, offset)

    @idempotent
    async def get_memories_by_ids(
        self, ids: list[str], table_name: str | None = None, agent_id: str | None = None
    ) -> list[Memory]:
        """Return the memories that exist."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.get_memories_by_ids(ids, table_name, agent_id=agent)
        return await self._database.get_memories_by_ids(ids, table_name, agent)

    @idempotent
    async def get_memories_by_room_ids(
        self,
        room_ids: list[str],
        *,
        table_name: str = "messages",
        limit: int | None = None,
        agent_id: str | None = None,
    ) -> list[Memory]:
        """Return memories of several rooms, the newest first."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.get_memories_by_room_ids(
                room_ids, table_name=table_name, limit=limit, agent_id=agent
            )
        return await self._database.get_memories(
            Wanted(agent=agent, table=table_name, rooms=room_ids), limit
        )

    @idempotent
    async def search_memories(
        self,
        embedding: list[float],
        *,
        table_name: str = "messages",
        match_threshold: float = 0.0,
        count: int = 10,
        room_id: str | None = None,
        entity_id: str | None = None,
        model: str = "",
        agent_id: str | None = None,
    ) -> list[Memory]:
        """Return the memories nearest to a vector, each with its `similarity`."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            given = {"room_id": room_id, "entity_id": entity_id, "model": model or None}
            named: dict[str, Any] = {name: one for name, one in given.items() if one is not None}
            return await other.search_memories(
                embedding,
                table_name=table_name,
                match_threshold=match_threshold,
                count=count,
                **named,
                agent_id=agent,
            )
        wanted = Wanted(
            agent=agent,
            table=table_name,
            rooms=None if room_id is None else [room_id],
            entity=entity_id,
            model=model,
        )
        return await self._database.search_memories(embedding, wanted, match_threshold, count)

    async def update_memory(self, memory: Memory, agent_id: str | None = None) -> bool:
        """Replace the memory with the same id; False if there is none."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.update_memory(memory, agent_id=agent)
        return await self._database.update_memory(memory, agent)

    @idempotent
    async def delete_memory(self, memory_id: str, agent_id: str | None = None) -> None:
        """Delete a memory."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            await other.delete_memory(memory_id, agent_id=agent)
        else:
            await self._database.delete_memories([memory_id], agent)

    @idempotent
    async def delete_many_memories(self, ids: list[str], agent_id: str | None = None) -> None:
        """Delete memories."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            await other.delete_many_memories(ids, agent_id=agent)
        else:
            await self._database.delete_memories(ids, agent)

    @idempotent
    async def delete_all_memories(
        self, room_id: str, table_name: str = "messages", agent_id: str | None = None
    ) -> None:
        """Delete all memories of a room in one table."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            await other.delete_all_memories(room_id, table_name, agent_id=agent)
        else:
            await self._database.delete_all_memories(room_id, table_name, agent)

    @idempotent
    async def count_memories(
        self,
        room_id: str | None = None,
        unique: bool = False,
        table_name: str = "messages",
        agent_id: str | None = None,
    ) -> int:
        """Return the number of memories."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.count_memories(room_id, unique, table_name, agent_id=agent)
        rooms = None if room_id is None else [room_id]
        wanted = Wanted(agent=agent, table=table_name, rooms=rooms, unique=unique or None)
        return await self._database.count_memories(wanted)

    # --- tasks ------------------------------------------------------------------------------

    async def create_task(self, task: Task, agent_id: str | None = None) -> str:
        """Store a task; return its id."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.create_task(task, agent_id=agent)
        return await self._database.create_task(task, agent)

    @idempotent
    async def get_task(self, task_id: str, agent_id: str | None = None) -> Task | None:
        """Return a task; None if it does not exist."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.get_task(task_id, agent_id=agent)
        return await self._database.get_task(task_id, agent)

    @idempotent
    async def get_tasks(
        self, params: dict[str, Any] | None = None, agent_id: str | None = None
    ) -> list[Task]:
        """Return the tasks that match a query; see `DatabaseAdapter`."""
        query = TaskQuery.parse(params)
        agent = self._agent(query.agent_id if agent_id is None else agent_id)
        if (other := self._elsewhere()) is not None:
            return await other.get_tasks(params, agent_id=agent)
        return await self._database.get_tasks(query, agent)

    @idempotent
    async def get_tasks_by_name(self, name: str, agent_id: str | None = None) -> list[Task]:
        """Return the tasks with a name."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.get_tasks_by_name(name, agent_id=agent)
        return await self._database.get_tasks(TaskQuery.parse({"name": name}), agent)

    async def update_task(
        self,
        task_id: str,
        task: dict[str, Any],
        if_status: str | None = None,
        agent_id: str | None = None,
    ) -> bool:
        """Change fields of a task, if it has a status; return whether it had."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            status = {} if if_status is None else {"if_status": if_status}
            return await other.update_task(task_id, task, **status, agent_id=agent)
        return await self._database.update_task(task_id, task, if_status, agent)

    @idempotent
    async def delete_task(self, task_id: str, agent_id: str | None = None) -> None:
        """Delete a task."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            await other.delete_task(task_id, agent_id=agent)
        else:
            await self._database.delete_task(task_id, agent)

    async def claim_tasks(
        self,
        *,
        owner: str,
        lease: float,
        limit: int = 1,
        names: list[str] | None = None,
        agent_id: str | None = None,
    ) -> list[Task]:
        """Claim due tasks for a runner; see `DatabaseAdapter`."""
        agent, other = self._agent(agent_id, any_agent=True), self._elsewhere()
        if other is not None:
            return await other.claim_tasks(
                owner=owner, lease=lease, limit=limit, names=names, agent_id=agent
            )
        claim = Claim(agent=agent, owner=owner, lease=lease, limit=limit, names=names)
        return await self._database.claim_tasks(claim)

    @idempotent
    async def renew_lease(
        self, task_id: str, lease: str, seconds: float, agent_id: str | None = None
    ) -> bool:
        """Have a lease end `seconds` from now; False if another runner has the task by now."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.renew_lease(task_id, lease, seconds, agent_id=agent)
        return await self._database.renew_lease(task_id, lease, seconds, agent)

    async def settle_task(
        self, task_id: str, lease: str, task: dict[str, Any], agent_id: str | None = None
    ) -> bool:
        """Change fields of a task that the caller holds, and give up its lease."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.settle_task(task_id, lease, task, agent_id=agent)
        return await self._database.settle_task(task_id, lease, task, agent)

    @idempotent
    async def release_leases(self, owner: str, agent_id: str | None = None) -> int:
        """Make pending again what an owner's former process held; return how many those were."""
        agent, other = self._agent(agent_id, any_agent=True), self._elsewhere()
        if other is not None:
            return await other.release_leases(owner, agent_id=agent)
        return await self._database.release_leases(owner, agent)

    # --- cache ------------------------------------------------------------------------------

    @idempotent
    async def get_cache(self, key: str, agent_id: str | None = None) -> Any:
        """Return the value of a key; None if there is none."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.get_cache(key, agent_id=agent)
        return await self._database.get_cache(key, agent)

    @idempotent
    async def set_cache(
        self, key: str, value: Any, ttl: float | None = None, agent_id: str | None = None
    ) -> bool:
        """Store a value; False if it is larger than the whole cache may be."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            times = {} if ttl is None else {"ttl": ttl}
            return await other.set_cache(key, value, **times, agent_id=agent)
        return await self._database.set_cache(key, value, ttl, agent)

    @idempotent
    async def delete_cache(self, key: str, agent_id: str | None = None) -> bool:
        """Delete a key; False if it did not exist."""
        agent, other = self._agent(agent_id), self._elsewhere()
        if other is not None:
            return await other.delete_cache(key, agent_id=agent)
        return await self._database.delete_cache(key, agent)


async def _watch(store: MemoryStore) -> None:
    """Crash if the file cannot be written: the next start checks it again."""
    await store.failed
