"""The statements of memories."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row

from garrison.workers import Content, Memory

from . import dialect
from .database import Database
from .documents import identifier
from .tables import embeddings, memories
from .vector_data import unpacked
from .vectors import Search, VectorStore

COLUMNS = [column for column in memories.c if column.name not in {"source", "table_name"}]


class MemoryStore:
    """Memories by agent, table and room."""

    def __init__(self, database: Database, vectors: VectorStore) -> None:
        self._database, self._vectors = database, vectors

    async def create(self, agent: str, table: str, items: Sequence[Memory]) -> None:
        """Store memories, all or none; those whose id exists are left as they are."""
        identifier(table, "table_name")
        rows = [row_of(agent, table, memory) for memory in items]

        def create(connection: Connection) -> None:
            statement = dialect.insert_new(connection.dialect.name, memories)
            new = [
                memory
                for row, memory in zip(rows, items, strict=True)
                if connection.execute(statement, row).rowcount
            ]
            self._vectors.put(connection, agent, table, new)

        if rows:
            await self._database.write(create)

    async def by_ids(
        self, agent: str, ids: Sequence[str], table: str | None = None
    ) -> list[Memory]:
        """Return the memories that exist, in the order of their ids."""

        def read(connection: Connection) -> list[Memory]:
            found: dict[str, Memory] = {}
            for part in dialect.parts(list(dict.fromkeys(ids)), dialect.IDS_MOST):
                query = _query(agent, table).where(memories.c.id.in_(part))
                found |= {memory.id: memory for memory in self._load(connection, query)}
            return [found[one] for one in dict.fromkeys(ids) if one in found]

        return await self._database.read(read)

    async def select(
        self,
        agent: str,
        table: str,
        *,
        equal: Mapping[str, str | None] = {},
        room_ids: Sequence[str] | None = None,
        unique: bool | None = None,
        start: float | None = None,
        end: float | None = None,
        before: str | None = None,
        offset: int = 0,
        count: int | None = None,
    ) -> list[Memory]:
        """Return the memories that match, newest first; see `DatabaseAdapter.get_memories`."""
        query = _query(agent, table)
        for name, value in equal.items():
            if value is not None:
                query = query.where(memories.c[name] == value)
        if room_ids is not None:
            query = query.where(memories.c.room_id.in_(room_ids))
        if unique is not None:
            query = query.where(memories.c.unique == unique)
        if start is not None:
            query = query.where(memories.c.created_at >= start)
        if end is not None:
            query = query.where(memories.c.created_at <= end)
        place = sa.tuple_(memories.c.created_at, memories.c.id)
        if before is not None:
            last = sa.select(memories.c.created_at, memories.c.id).where(
                memories.c.agent_id == agent, memories.c.id == before
            )
            query = query.where(place < last.scalar_subquery())
        query = query.order_by(memories.c.created_at.desc(), memories.c.id.desc())
        query = query.limit(None if count is None else max(count, 0)).offset(max(offset, 0) or None)
        return await self._database.read(lambda connection: self._load(connection, query))

    async def update(self, agent: str, memory: Memory) -> bool:
        """Replace a memory and its vector; False if there is none."""

        def update(connection: Connection) -> bool:
            here = (memories.c.agent_id == agent) & (memories.c.id == memory.id)
            old = connection.execute(
                sa.select(memories.c.table_name, memories.c.content).where(here)
            ).one_or_none()
            if old is None:
                return False
            row = row_of(agent, old.table_name, memory)
            connection.execute(sa.update(memories).where(here).values(row))
            if not memory.embedding or old.content != row["content"]:
                self._vectors.drop(
                    connection, agent, [memory.id]
                )  # they are of what it said before
            self._vectors.put(connection, agent, old.table_name, [memory])
            return True

        return await self._database.write(update)

    async def delete(self, agent: str, ids: Sequence[str]) -> None:
        """Delete memories and their vectors."""

        def delete(connection: Connection) -> None:
            for part in dialect.parts(ids, dialect.IDS_MOST):
                connection.execute(
                    sa.delete(memories).where(memories.c.agent_id == agent, memories.c.id.in_(part))
                )
                self._vectors.drop(connection, agent, part)

        await self._database.write(delete)
        self._vectors.forget(agent, ids)

    async def delete_room(self, agent: str, table: str, room_id: str) -> None:
        """Delete the memories of a room in one table."""

        def delete(connection: Connection) -> None:
            here = (
                (memories.c.agent_id == agent)
                & (memories.c.table_name == table)
                & (memories.c.room_id == room_id)
            )
            connection.execute(
                sa.delete(embeddings).where(
                    embeddings.c.agent_id == agent,
                    embeddings.c.memory_id.in_(sa.select(memories.c.id).where(here)),
                )
            )
            connection.execute(sa.delete(memories).where(here))

        await self._database.write(delete)

    async def search(self, agent: str, *rest: Any) -> list[Memory]:
        """Return the nearest memories, each with its similarity; arguments as of `Search`."""
        ranked = await self._vectors.nearest(Search(agent, *rest))
        there = {one.id: one for one in await self.by_ids(agent, [pair[1] for pair in ranked])}
        return [
            msgspec.structs.replace(there[memory_id], similarity=similarity)
            for similarity, memory_id in ranked
            if memory_id in there
        ]

    def _load(self, connection: Connection, query: sa.Select[Any]) -> list[Memory]:
        """Return the memories of a query, with their vectors."""
        rows = connection.execute(query).all()
        vectors = dict[str, bytes]()
        if rows:
            vectors = self._vectors.latest(connection, rows[0].agent_id, [row.id for row in rows])
        return [memory_of(row, vectors.get(row.id)) for row in rows]

    async def count(self, agent: str, table: str, room_id: str | None, unique: bool) -> int:
        """Return the number of memories."""
        query = sa.select(sa.func.count()).where(
            memories.c.agent_id == agent, memories.c.table_name == table
        )
        if room_id is not None:
            query = query.where(memories.c.room_id == room_id)
        if unique:
            query = query.where(memories.c.unique)
        return await self._database.read(lambda connection: connection.execute(query).scalar_one())


def row_of(agent: str, table: str, memory: Memory) -> dict[str, Any]:
    """Return a memory as a row."""
    return {
        "agent_id": identifier(agent, "agent_id"),
        "id": identifier(memory.id, "id"),
        "table_name": table,
        "room_id": identifier(memory.room_id, "room_id"),
        "world_id": identifier(memory.world_id, "world_id"),
        "entity_id": identifier(memory.entity_id, "entity_id"),
        "source": identifier(memory.content.source, "source"),
        "content": msgspec.to_builtins(memory.content, builtin_types=(bytes,)),
        "metadata": memory.metadata,
        "unique": memory.unique,
        "created_at": memory.created_at,
    }


def memory_of(row: Row[Any], vector: bytes | None) -> Memory:
    """Return a row as a memory."""
    return Memory(
        content=msgspec.convert(row.content, Content),
        id=row.id,
        entity_id=row.entity_id,
        agent_id=row.agent_id,
        created_at=row.created_at,
        embedding=None if vector is None else unpacked(vector),
        room_id=row.room_id,
        world_id=row.world_id,
        unique=row.unique,
        metadata=row.metadata,
    )


def _query(agent: str, table: str | None) -> sa.Select[Any]:
    query = sa.select(*COLUMNS).where(memories.c.agent_id == agent)
    return query if table is None else query.where(memories.c.table_name == table)
