"""The statements of vectors, and the search among them.

With pgvector the server searches. Elsewhere each table's vectors are kept in memory: a search first
reads those that were written since, by this host or another one, and drops those whose memories are
gone. Sizes are bytes.
"""

import asyncio
import functools
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from garrison.workers import Memory

from . import dialect
from .database import Database
from .tables import embeddings, memories, vector_versions
from .vector_data import packed, text_of

if TYPE_CHECKING:
    from .vector_table import VectorTable

Key = tuple[str, str]  # memory and model

log = logging.getLogger(__name__)

MODEL = "embedding_model"  # of a memory's metadata: whose vector it has
CHANGED = ("table_name", "data", "version", "written_at")
CHUNK = 5_000  # vectors that one read loads
EXTRA = 10  # vectors that a search looks at besides, for those that are gone


class Search(NamedTuple):
    """What is searched."""

    agent: str
    table: str
    vector: list[float]
    most: int
    threshold: float
    room_id: str | None = None
    entity_id: str | None = None
    model: str | None = None


class CachedTable:
    """The vectors of a table, and the lock of those who use them."""

    def __init__(self, table: "VectorTable") -> None:
        self.table = table
        self.lock = asyncio.Lock()
        self.is_too_large = False  # for the cache: each search reads it in parts


class VectorStore:
    """Vectors of memories.

    Args:
        database: Where they are.
        cache_bytes: Of vectors in memory, at most.
    """

    def __init__(self, database: Database, cache_bytes: int) -> None:
        self._database, self._cache_bytes = database, cache_bytes
        self._cached: OrderedDict[tuple[str, str, int], CachedTable] = OrderedDict()

    # --- statements, in a transaction of the memories ------------------------------------------

    def put(self, connection: Connection, agent: str, table: str, items: Sequence[Memory]) -> None:
        """Store the vectors of memories."""
        by_dimension: dict[int, list[Memory]] = {}
        for memory in items:
            if memory.embedding:
                by_dimension.setdefault(len(memory.embedding), []).append(memory)
        for dimension, group in by_dimension.items():
            first = self._next_version(connection, (agent, table, dimension), len(group))
            rows = [
                self._row(agent, table, memory, first + number)
                for number, memory in enumerate(group)
            ]
            connection.execute(self._upsert(connection), rows if len(rows) > 1 else rows[0])

    def _row(self, agent: str, table: str, memory: Memory, version: int) -> dict[str, Any]:
        assert memory.embedding is not None
        row = {
            "agent_id": agent,
            "memory_id": memory.id,
            "dimension": len(memory.embedding),
            "model": model_of(memory),
            "table_name": table,
            "data": packed(memory.embedding),
            "version": version,
            "written_at": time.time(),
        }
        if self._database.engine.has_pgvector:
            row["vector_text"] = text_of(memory.embedding)
        return row

    def _upsert(self, connection: Connection) -> sa.Insert:
        if self._database.engine.has_pgvector:
            table = dialect.server_embeddings
            return dialect.upsert(connection.dialect.name, table, *CHANGED, "vector")
        return dialect.upsert(connection.dialect.name, embeddings, *CHANGED)

    def drop(self, connection: Connection, agent: str, ids: Sequence[str]) -> None:
        """Delete the vectors of memories."""
        connection.execute(
            sa.delete(embeddings).where(
                embeddings.c.agent_id == agent, embeddings.c.memory_id.in_(ids)
            )
        )

    def latest(self, connection: Connection, agent: str, ids: Sequence[str]) -> dict[str, bytes]:
        """Return the vector of each memory that was written last."""
        found: dict[str, bytes] = {}
        for part in dialect.parts(ids, dialect.IDS_MOST):
            query = (
                sa.select(embeddings.c.memory_id, embeddings.c.data)
                .where(embeddings.c.agent_id == agent, embeddings.c.memory_id.in_(part))
                .order_by(embeddings.c.written_at)
            )
            found |= {row.memory_id: row.data for row in connection.execute(query)}
        return found

    def _next_version(self, connection: Connection, key: tuple[str, str, int], count: int) -> int:
        """Return the first of `count` new versions; until the commit, others wait for theirs.

        Versions therefore become visible in their order, and a reader misses none.
        """
        if self._database.engine.has_pgvector:
            return 0
        row = dict(zip(("agent_id", "table_name", "dimension"), key, strict=True))
        statement = _count_up(connection.dialect.name)
        last: int = connection.execute(statement, row | {"version": count}).scalar_one()
        return last - count + 1

    # --- the search ---------------------------------------------------------------------------

    async def nearest(self, search: Search) -> list[tuple[float, str]]:
        """Return the similarity and the id of the nearest memories that exist."""
        if self._database.engine.has_pgvector:
            return await self._database.read(functools.partial(_by_server, search))
        key = (search.agent, search.table, len(search.vector))
        cached = self._cached.get(key)
        if cached is None:
            cached = self._cached[key] = CachedTable(_new_table(len(search.vector)))
        self._cached.move_to_end(key)
        async with cached.lock:
            if not cached.is_too_large:
                await self._refresh(search, cached)
            if cached.is_too_large:
                return await self._in_parts(search)
            return await self._in_memory(search, cached.table)

    def forget(self, agent: str, ids: Sequence[str]) -> None:
        """Drop the vectors of deleted memories; without it, searches do as they meet them."""
        for key, cached in self._cached.items():
            if key[0] == agent and not cached.lock.locked():
                cached.table.remove_memories(ids)

    async def _in_memory(self, search: Search, table: "VectorTable") -> list[tuple[float, str]]:
        most = search.most + EXTRA
        while True:
            ranked = await asyncio.to_thread(_nearest, table, search, most)
            keys = {key for _, key in ranked}
            there = await self._database.read(functools.partial(_existing, search, keys))
            table.remove(keys - there)
            found = _once([pair for pair in ranked if pair[1] in there], search.most)
            if len(found) == search.most or len(ranked) < most:
                return found
            most *= 2  # some were deleted since, or are of one memory

    async def _in_parts(self, search: Search) -> list[tuple[float, str]]:
        """Search a table that the cache has no room for."""
        version, best = 0, list[tuple[float, str]]()
        while True:
            rows = await self._database.read(functools.partial(_changed, search, version))
            if not rows:
                return best
            version = rows[-1].version
            part = _new_table(len(search.vector))
            await asyncio.to_thread(part.put, rows)
            ranked = await asyncio.to_thread(_nearest, part, search, len(part))
            known = [(similarity, (memory_id, "")) for similarity, memory_id in best]
            ranked = sorted([*ranked, *known], key=lambda pair: -pair[0])
            best = _once(ranked, search.most)

    async def _refresh(self, search: Search, cached: CachedTable) -> None:
        """Read the vectors that were written since."""
        while True:
            since = functools.partial(_changed, search, cached.table.version)
            rows = await self._database.read(since)
            if rows:
                await asyncio.to_thread(cached.table.put, rows)
                self._enforce_limit(cached)
            if len(rows) < CHUNK or cached.is_too_large:
                return

    def _enforce_limit(self, used: CachedTable) -> None:
        total = sum(cached.table.size for cached in self._cached.values())
        for key, cached in list(self._cached.items()):
            if total > self._cache_bytes and cached is not used:
                total -= cached.table.size
                del self._cached[key]
        if total > self._cache_bytes:
            used.is_too_large = True
            used.table = _new_table(used.table.dimension)
            log.warning("vectors.uncached bytes=%d most=%d", total, self._cache_bytes)


@functools.cache
def _count_up(name: str) -> sa.Executable:
    made = dialect.insert_of(name, vector_versions)
    return made.on_conflict_do_update(
        index_elements=["agent_id", "table_name", "dimension"],
        set_={"version": vector_versions.c.version + made.excluded.version},
    ).returning(vector_versions.c.version)


def _new_table(dimension: int) -> "VectorTable":
    from .vector_table import VectorTable  # imports numpy

    return VectorTable(dimension)


def _nearest(table: "VectorTable", search: Search, most: int) -> list[tuple[float, Key]]:
    return table.nearest(
        search.vector, most, search.threshold, search.room_id, search.entity_id, search.model
    )


def _once(ranked: Sequence[tuple[float, Key]], most: int) -> list[tuple[float, str]]:
    """Return each memory once, by its nearest vector."""
    best: dict[str, float] = {}
    for similarity, (memory_id, _) in ranked:
        best.setdefault(memory_id, similarity)
    found = [(similarity, memory_id) for memory_id, similarity in best.items()]
    return found[: max(most, 0)]


def model_of(memory: Memory) -> str:
    """Return the model that a memory's vector is of, as its metadata names it."""
    model = memory.metadata.get(MODEL, "")
    return model if isinstance(model, str) else str(model)


def _changed(search: Search, version: int, connection: Connection) -> list[Any]:
    """Return the vectors of a table that were written after a version."""
    from .vector_table import VectorRow

    query = (
        sa.select(
            embeddings.c.memory_id,
            embeddings.c.model,
            memories.c.room_id,
            memories.c.entity_id,
            embeddings.c.version,
            embeddings.c.data,
        )
        .join_from(embeddings, memories, _same_memory(embeddings))
        .where(*_of_table(search, embeddings), embeddings.c.version > version)
        .order_by(embeddings.c.version)
        .limit(CHUNK)
    )
    return [VectorRow(*row) for row in connection.execute(query)]


def _existing(search: Search, keys: set[Key], connection: Connection) -> set[Key]:
    """Return which of these vectors are stored."""
    found: set[Key] = set()
    for part in dialect.parts(list({memory_id for memory_id, _ in keys}), dialect.IDS_MOST):
        query = sa.select(embeddings.c.memory_id, embeddings.c.model).where(
            embeddings.c.agent_id == search.agent,  # with the next two: its key, not its index
            embeddings.c.memory_id.in_(part),
            embeddings.c.dimension == len(search.vector),
        )
        found |= {(row.memory_id, row.model) for row in connection.execute(query)}
    return found & keys


def _by_server(search: Search, connection: Connection) -> list[tuple[float, str]]:
    """Have pgvector search."""
    if not any(search.vector) or search.most <= 0:
        return []
    table = dialect.server_embeddings
    vector = dialect.vector(text_of(search.vector))
    distance: sa.Label[float] = table.c.vector.op("<=>", return_type=sa.Double())(vector).label(
        "distance"
    )
    query = (
        sa.select(distance, table.c.memory_id)
        .where(*_of_table(search, table), table.c.vector.is_not(None))
        .order_by(distance)
        .limit(3 * search.most)  # a memory may have several vectors
    )
    if search.model is not None:
        query = query.where(table.c.model == search.model)
    if search.room_id is not None or search.entity_id is not None:
        query = query.join(memories, _same_memory(table))
        if search.room_id is not None:
            query = query.where(memories.c.room_id == search.room_id)
        if search.entity_id is not None:
            query = query.where(memories.c.entity_id == search.entity_id)
    found: dict[str, float] = {}
    for row in connection.execute(query):
        similarity = 1 - row.distance  # of a vector of zeros: not a number, which is no match
        if similarity >= search.threshold:
            found.setdefault(row.memory_id, similarity)
    return [(similarity, memory_id) for memory_id, similarity in found.items()][: search.most]


def _of_table(search: Search, table: sa.Table) -> list[sa.ColumnElement[bool]]:
    return [
        table.c.agent_id == search.agent,
        table.c.table_name == search.table,
        table.c.dimension == len(search.vector),
    ]


def _same_memory(table: sa.Table) -> sa.ColumnElement[bool]:
    return (memories.c.agent_id == table.c.agent_id) & (memories.c.id == table.c.memory_id)


os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy reads it once; one thread is enough
