"""`DatabaseAdapter`: the methods of a database of memories, people, rooms, tasks and cached values.

The service of type `database` implements them all; without one, the agent implements those of
memories, tasks and the cache, in a file of its own. Times are seconds since the epoch, except in a
`Task`, where they are datetimes with a time zone.

Every record belongs to an agent. `agent_id` is filled in by the caller's worker with the NAME of
its agent, empty in a host without agents; the database refuses another agent's. A service that
belongs to no agent names one, where the host has any.
"""

from typing import Any, Protocol

from ..content import Memory
from .people_adapter import People, Places
from .records import Entity, Log, Room
from .tasks import Task


class Memories(Protocol):
    """Memories: a table is any name, such as "messages" or "facts".

    Every method raises CallError where the call to the database fails.
    """

    async def create_memory(
        self,
        memory: Memory,
        table_name: str = "messages",
        unique: bool = False,
        agent_id: str | None = None,
    ) -> str:
        """Store a memory; return its id. A stored memory with the same id is kept unchanged."""
        ...

    async def create_memories(
        self, memories: list[Memory], table_name: str = "messages", agent_id: str | None = None
    ) -> list[str]:
        """Store memories at once, all or none; return their ids."""
        ...

    async def get_memory_by_id(self, memory_id: str, agent_id: str | None = None) -> Memory | None:
        """Return a memory, or None."""
        ...

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
        """Return memories, newest first.

        Args:
            table_name: The table.
            room_id: Only of this room.
            world_id: Only of this world.
            entity_id: Only of this sender.
            count: At most so many.
            start: Only from this time on.
            end: Only up to this time.
            unique: Only those whose `unique` has this value.
            offset: Leave out so many of the newest.
            before: Only those older than the memory with this id: the last one of a page begins
                the next. It stays right while memories are added.
            agent_id: Of this agent; None is the caller's.
        """
        ...

    async def get_memories_by_ids(
        self, ids: list[str], table_name: str | None = None, agent_id: str | None = None
    ) -> list[Memory]:
        """Return the stored memories among these ids."""
        ...

    async def get_memories_by_room_ids(
        self,
        room_ids: list[str],
        *,
        table_name: str = "messages",
        limit: int | None = None,
        agent_id: str | None = None,
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
        entity_id: str | None = None,
        model: str = "",
        agent_id: str | None = None,
    ) -> list[Memory]:
        """Return the memories most similar to a vector, each with its `similarity`.

        Args:
            embedding: A vector. It is compared with those of its length.
            table_name: The table.
            match_threshold: Lowest similarity, -1 to 1.
            count: At most so many.
            room_id: Only of this room.
            entity_id: Only of this sender.
            model: Only vectors of this model, as `metadata["embedding_model"]` of their memories.
            agent_id: Of this agent; None is the caller's.
        """
        ...

    async def update_memory(self, memory: Memory, agent_id: str | None = None) -> bool:
        """Replace the memory with the same id; return False if there is none."""
        ...

    async def delete_memory(self, memory_id: str, agent_id: str | None = None) -> None:
        """Delete a memory."""
        ...

    async def delete_many_memories(self, ids: list[str], agent_id: str | None = None) -> None:
        """Delete several memories."""
        ...

    async def delete_all_memories(
        self, room_id: str, table_name: str = "messages", agent_id: str | None = None
    ) -> None:
        """Delete all memories of a room."""
        ...

    async def count_memories(
        self,
        room_id: str | None = None,
        unique: bool = False,
        table_name: str = "messages",
        agent_id: str | None = None,
    ) -> int:
        """Return the number of memories."""
        ...


class Tasks(Protocol):
    """Tasks, and the leases of those that run."""

    async def create_task(self, task: Task, agent_id: str | None = None) -> str:
        """Store a task; return its id. A stored task with the same id is kept unchanged."""
        ...

    async def get_task(self, task_id: str, agent_id: str | None = None) -> Task | None:
        """Return a task, or None."""
        ...

    async def get_tasks(
        self, params: dict[str, Any] | None = None, agent_id: str | None = None
    ) -> list[Task]:
        """Return the tasks that match.

        Args:
            params: Field to value, or to a comparison such as `{"$lte": now}`, with `$eq`, `$ne`,
                `$lt`, `$lte`, `$gt`, `$gte` or `$in`. A task matches `tags` if it has all of them.
                Fields may be written as in elizaOS: `roomId`, `scheduledFor`. `limit` and `offset`
                page through them in the order of their creation.
            agent_id: Of this agent; None is the caller's.

        Raises:
            ValueError: The query is invalid, or more than 10,000 tasks match without a `limit`.
        """
        ...

    async def get_tasks_by_name(self, name: str, agent_id: str | None = None) -> list[Task]:
        """Return the tasks of a name."""
        ...

    async def update_task(
        self,
        task_id: str,
        task: dict[str, Any],
        if_status: str | None = None,
        agent_id: str | None = None,
    ) -> bool:
        """Change the given fields of a task; return whether it did.

        `id`, `agent_id` and the lease's fields stay as they are. A `status` other than "running"
        ends the lease.

        Args:
            task_id: Which one.
            task: Field to its new value.
            if_status: Only if the task has this status: of several callers, one gets True.
            agent_id: Of this agent; None is the caller's.

        Raises:
            LookupError: There is no such task.
            ValueError: There is no such field, or a value has the wrong type.
        """
        ...

    async def delete_task(self, task_id: str, agent_id: str | None = None) -> None:
        """Delete a task."""
        ...

    async def claim_tasks(
        self,
        *,
        owner: str,
        lease: float,
        limit: int = 1,
        names: list[str] | None = None,
        agent_id: str | None = None,
    ) -> list[Task]:
        """Claim due tasks for a runner: the earliest first, each for one runner alone.

        Due is a task with the tag `queue` which is pending and whose `scheduled_for` has passed by
        the database's clock, or which runs under a lease that has ended. A claimed task is
        `running`, with a new `lease`.

        Args:
            owner: The runner. What an earlier process of the same owner held is not due for that.
            lease: Seconds until others may claim them.
            limit: At most so many.
            names: Only tasks of these names; None is all.
            agent_id: Of this agent; None is the caller's, "*" is every agent's, which only a
                service that belongs to none may ask for.
        """
        ...

    async def renew_lease(
        self, task_id: str, lease: str, seconds: float, agent_id: str | None = None
    ) -> bool:
        """Have a lease end `seconds` from now; False if another runner has the task by now."""
        ...

    async def settle_task(
        self, task_id: str, lease: str, task: dict[str, Any], agent_id: str | None = None
    ) -> bool:
        """Change fields of a task that the caller holds, and give up its lease.

        Without a new `status` the task is pending again.

        Returns False, and changes nothing, if the lease is not the task's any more: a runner that
        was taken for dead cannot undo what its successor did.
        """
        ...

    async def release_leases(self, owner: str, agent_id: str | None = None) -> int:
        """Make pending again what an owner's former process held; return how many those were."""
        ...


class Cache(Protocol):
    """Values by key."""

    async def get_cache(self, key: str, agent_id: str | None = None) -> Any:
        """Return the value of a key, or None."""
        ...

    async def set_cache(
        self, key: str, value: Any, ttl: float | None = None, agent_id: str | None = None
    ) -> bool:
        """Store a value, for `ttl` seconds or for good; return whether it was stored."""
        ...

    async def delete_cache(self, key: str, agent_id: str | None = None) -> bool:
        """Delete a key; return whether it existed."""
        ...


class Logs(Protocol):
    """What happened: the use of models and the like."""

    async def create_log(self, log: Log, agent_id: str | None = None) -> str:
        """Store a log entry; return its id."""
        ...

    async def get_logs(
        self,
        *,
        entity_id: str | None = None,
        room_id: str | None = None,
        type: str | None = None,
        count: int | None = None,
        offset: int = 0,
        agent_id: str | None = None,
    ) -> list[Log]:
        """Return log entries, newest first, at most 10,000."""
        ...

    async def delete_log(self, log_id: str, agent_id: str | None = None) -> None:
        """Delete a log entry."""
        ...


class OtherNames(Protocol):
    """elizaOS's other names and forms of methods above."""

    async def create_entity(self, entity: Entity, agent_id: str | None = None) -> bool:
        """Store an entity; False if its id exists."""
        ...

    async def get_entity_by_id(self, entity_id: str, agent_id: str | None = None) -> Entity | None:
        """Return an entity with its components, or None."""
        ...

    async def get_entity_by_ids(
        self, ids: list[str], include_components: bool = False, agent_id: str | None = None
    ) -> list[Entity]:
        """Return the entities that exist among these ids."""
        ...

    async def create_room(self, room: Room, agent_id: str | None = None) -> str:
        """Store a room; return its id. One with the same id is kept unchanged."""
        ...

    async def get_room(self, room_id: str, agent_id: str | None = None) -> Room | None:
        """Return a room, or None."""
        ...

    async def get_rooms(self, world_id: str, agent_id: str | None = None) -> list[Room]:
        """Return the rooms of a world."""
        ...

    async def add_participant(
        self, entity_id: str, room_id: str, agent_id: str | None = None
    ) -> bool:
        """Have an entity take part in a room."""
        ...

    async def get_rooms_for_participant(
        self, entity_id: str, agent_id: str | None = None
    ) -> list[str]:
        """Return the ids of the rooms in which an entity takes part."""
        ...

    async def log(
        self,
        *,
        type: str,
        body: dict[str, Any],
        entity_id: str = "",
        room_id: str = "",
        agent_id: str | None = None,
    ) -> None:
        """Store a log entry."""
        ...


class DatabaseAdapter(Memories, Tasks, Cache, People, Places, Logs, OtherNames, Protocol):
    """All of them."""
