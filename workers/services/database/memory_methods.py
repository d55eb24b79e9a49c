"""The service's methods of memories; see `DatabaseAdapter`."""

from garrison.workers import Memory, as_memory, idempotent

from .methods import Methods
from .vector_data import check_dimension


class MemoryMethods(Methods):
    """Memories."""

    @idempotent
    async def create_memory(
        self,
        memory: Memory,
        table_name: str = "messages",
        unique: bool = False,
        agent_id: str | None = None,
    ) -> str:
        """Store a memory; return its id. A stored memory with the same id is kept unchanged."""
        agent = self._agent(agent_id)
        memory = as_memory(memory)
        if unique:
            memory.unique = True
        await self._stores.memories.create(agent, table_name, [memory])
        return memory.id

    @idempotent
    async def create_memories(
        self, memories: list[Memory], table_name: str = "messages", agent_id: str | None = None
    ) -> list[str]:
        """Store memories at once, all or none; return their ids."""
        agent = self._agent(agent_id)
        memories = [as_memory(memory) for memory in memories]
        await self._stores.memories.create(agent, table_name, memories)
        return [memory.id for memory in memories]

    @idempotent
    async def get_memory_by_id(self, memory_id: str, agent_id: str | None = None) -> Memory | None:
        """Return a memory, or None."""
        found = await self._stores.memories.by_ids(self._agent(agent_id), [memory_id])
        return found[0] if found else None

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
        """Return memories, newest first; `before` is the id of the last one of the page before."""
        return await self._stores.memories.select(
            self._agent(agent_id),
            table_name,
            equal={"room_id": room_id, "world_id": world_id, "entity_id": entity_id},
            unique=unique,
            start=start,
            end=end,
            before=before,
            offset=offset,
            count=count,
        )

    @idempotent
    async def get_memories_by_ids(
        self, ids: list[str], table_name: str | None = None, agent_id: str | None = None
    ) -> list[Memory]:
        """Return the stored memories among these ids."""
        return await self._stores.memories.by_ids(self._agent(agent_id), ids, table_name)

    @idempotent
    async def get_memories_by_room_ids(
        self,
        room_ids: list[str],
        *,
        table_name: str = "messages",
        limit: int | None = None,
        agent_id: str | None = None,
    ) -> list[Memory]:
        """Return memories of several rooms, newest first, at most `limit`."""
        agent = self._agent(agent_id)
        return await self._stores.memories.select(
            agent, table_name, room_ids=list(dict.fromkeys(room_ids)), count=limit
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
        """Return the memories most similar to a vector, each with its `similarity`."""
        agent = self._agent(agent_id)
        return await self._stores.memories.search(
            agent, table_name, embedding, count, match_threshold, room_id, entity_id, model or None
        )

    async def ensure_embedding_dimension(self, dimension: int) -> None:
        """Check that vectors of so many numbers can be stored; nothing else is needed for it."""
        check_dimension(dimension)

    @idempotent
    async def update_memory(self, memory: Memory, agent_id: str | None = None) -> bool:
        """Replace the memory with the same id; return False if there is none."""
        return await self._stores.memories.update(self._agent(agent_id), memory)

    @idempotent
    async def delete_memory(self, memory_id: str, agent_id: str | None = None) -> None:
        """Delete a memory."""
        await self._stores.memories.delete(self._agent(agent_id), [memory_id])

    @idempotent
    async def delete_many_memories(self, ids: list[str], agent_id: str | None = None) -> None:
        """Delete several memories."""
        await self._stores.memories.delete(self._agent(agent_id), ids)

    @idempotent
    async def delete_all_memories(
        self, room_id: str, table_name: str = "messages", agent_id: str | None = None
    ) -> None:
        """Delete all memories of a room."""
        await self._stores.memories.delete_room(self._agent(agent_id), table_name, room_id)

    @idempotent
    async def count_memories(
        self,
        room_id: str | None = None,
        unique: bool = False,
        table_name: str = "messages",
        agent_id: str | None = None,
    ) -> int:
        """Return the number of memories."""
        agent = self._agent(agent_id)
        return await self._stores.memories.count(agent, table_name, room_id, unique)
