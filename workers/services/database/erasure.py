"""The statements that find and delete what all agents keep of a person.

A memory states its source; one without is the person's whose id it has. Rows of other tables state
none. What was forgotten is noted by a hash, so that a restored database forgets it again.
"""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from garrison.ipc import Tombstones

from . import dialect
from .database import Database
from .memories import MemoryStore
from .tables import (
    cache,
    components,
    entities,
    logs,
    memories,
    participants,
    relationships,
    tasks,
    tombstones,
    usage,
)

ROWS = 500  # of one operation
FOREVER = float("inf")
SUMS = ("requests", "tokens_in", "tokens_out")  # of the table `usage`

# Each table besides the memories, and its columns that hold the id of a person.
OF_PERSONS = {
    components: ("entity_id", "source_entity_id"),
    relationships: ("source_entity_id", "target_entity_id"),
    participants: ("entity_id",),
    logs: ("entity_id",),
    tasks: ("entity_id",),
    entities: ("id",),  # last: without it the person has no name
}

Counts = dict[str, int]


class Whose(NamedTuple):
    """A person, and until when what was stored of them is meant."""

    source: str | None  # None: of any row that has the id
    person: str
    until: float = FOREVER


class MemoryKey(NamedTuple):
    """Where a memory is."""

    agent: str
    table: str
    room: str
    id: str


class ErasureStore:
    """What is kept of persons, of all agents.

    Args:
        database: Where it is.
        memory_store: Deletes memories with their vectors.
    """

    def __init__(self, database: Database, memory_store: MemoryStore) -> None:
        self._database, self._memories = database, memory_store

    async def forget(self, whose: Whose) -> Counts:
        """Delete everything of a person; return how many rows of each table."""
        counts = {"memories": await self._forget_memories(whose)}
        for table, columns in OF_PERSONS.items():
            counts[str(table.name)] = await self._repeat(
                _deletion(table, _is_of(table, columns, whose))
            )
        counts["usage"] = await self._repeat(_anonymizing(whose))
        counts["cached values"] = await self._forget_cached(whose.person)
        return counts

    async def export(self, whose: Whose) -> AsyncIterator[dict[str, Any]]:
        """Yield everything of a person, row by row; `store` is the table."""
        after: MemoryKey | None = None
        while keys := await self._memory_keys(whose, after):
            for agent in dict.fromkeys(key.agent for key in keys):
                ids = [key.id for key in keys if key.agent == agent]
                ids += await self._answers([key for key in keys if key.agent == agent])
                for memory in await self._memories.by_ids(agent, ids):
                    yield {"store": "memories", "memory": memory}
            after = keys[-1]
        for table, columns in {**OF_PERSONS, usage: ("entity_id",)}.items():
            query = sa.select(table).where(_is_of(table, columns, whose))
            async for row in self._rows(query, table):
                yield {"store": str(table.name), **row}

    async def apply(self, known: Tombstones) -> Counts:
        """Delete again what was forgotten and is there, if the database did not hear of it yet.

        A restored database has the tombstones that it had then.
        """
        applied = await self._database.read(_applied)
        if all(applied.get(key) == at for key, at in known.forgotten.items()):
            return {}
        counts: Counts = {}
        for whose in await self._forgotten(known):
            for name, count in (await self.forget(whose)).items():
                counts[name] = counts.get(name, 0) + count

        def note(connection: Connection) -> None:
            for key, at in known.forgotten.items():
                statement = dialect.insert(connection, tombstones).values(
                    agent_id="", source="", person=key, at=at
                )
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["agent_id", "source", "person"], set_={"at": at}
                    )
                )

        await self._database.write(note)
        return counts

    async def sweep(self) -> None:
        """Empty the log of a SQLite file; what was deleted is overwritten in the file itself."""

        def sweep(connection: Connection) -> None:
            if dialect.is_postgres(connection):
                return
            connection.exec_driver_sql("COMMIT")
            try:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
            finally:
                connection.exec_driver_sql("BEGIN IMMEDIATE")

        await self._database.write(sweep)

    # --- memories ---------------------------------------------------------------------------

    async def _forget_memories(self, whose: Whose) -> int:
        """Delete a person's memories, and the answers to them."""
        count = 0
        while keys := await self._memory_keys(whose):
            for agent in dict.fromkeys(key.agent for key in keys):
                own = [key for key in keys if key.agent == agent]
                ids = [*await self._answers(own), *(key.id for key in own)]
                await self._memories.delete(agent, ids)
                count += len(ids)
        return count

    async def _memory_keys(self, whose: Whose, after: MemoryKey | None = None) -> list[MemoryKey]:
        c = memories.c
        query = sa.select(c.agent_id, c.table_name, c.room_id, c.id)
        query = query.where(_is_of(memories, ("entity_id",), whose))
        if whose.source is not None:
            query = query.where(c.source.in_({"", whose.source}))
        if after is not None:
            query = query.where(sa.tuple_(c.agent_id, c.id) > (after.agent, after.id))
        query = query.order_by(c.agent_id, c.id).limit(ROWS)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [MemoryKey(*row) for row in rows]

    async def _answers(self, keys: Sequence[MemoryKey]) -> list[str]:
        """Return the ids of the memories that answer these, which are of one agent."""
        ids, found = {key.id for key in keys}, dict[str, None]()
        c = memories.c
        for agent, table, room in dict.fromkeys(key[:3] for key in keys):
            query = sa.select(c.id).where(
                c.agent_id == agent,
                c.table_name == table,
                c.room_id == room,
                c.content["in_reply_to"].as_string().in_(ids),
            )

            def read(connection: Connection, query: Any = query) -> list[str]:
                return list(connection.execute(query).scalars())

            found |= dict.fromkeys(await self._database.read(read))
        return [one for one in found if one not in ids]

    # --- other tables -----------------------------------------------------------------------

    async def _repeat(self, delete: Callable[[Connection], int]) -> int:
        """Run an operation until it finds no more rows; return how many there were."""
        total = 0
        while count := await self._database.write(delete):
            total += count
        return total

    async def _forget_cached(self, person: str) -> int:
        """Delete the cached values whose key has the id as a word of its own."""
        word = re.compile(rf"(?<![0-9A-Za-z]){re.escape(person)}(?![0-9A-Za-z])")

        def delete(connection: Connection) -> int:
            query = sa.select(cache.c.agent_id, cache.c.key).where(
                cache.c.key.contains(person, autoescape=True)
            )
            found = [row for row in connection.execute(query) if word.search(row.key)]
            for agent, key in found:
                connection.execute(
                    sa.delete(cache).where(cache.c.agent_id == agent, cache.c.key == key)
                )
            return len(found)

        return await self._database.write(delete)

    async def _rows(self, query: sa.Select[Any], table: sa.Table) -> AsyncIterator[dict[str, Any]]:
        keys = list(table.primary_key.columns)
        after: tuple[Any, ...] | None = None
        while True:
            page = query.order_by(*keys).limit(ROWS)
            if after is not None:
                page = page.where(sa.tuple_(*keys) > after)

            def read(connection: Connection, page: Any = page) -> list[Any]:
                return list(connection.execute(page).mappings().all())

            rows = await self._database.read(read)
            for row in rows:
                yield {str(key): value for key, value in row.items()}
            if len(rows) < ROWS:
                return
            after = tuple(rows[-1][key.name] for key in keys)

    async def _forgotten(self, known: Tombstones) -> list[Whose]:
        """Return the persons of the database who were forgotten."""
        pairs = dict[tuple[str, str], None]()

        def read(connection: Connection) -> None:
            c = memories.c
            for row in connection.execute(sa.select(c.source, c.entity_id).distinct()):
                pairs[row[0], row[1]] = None
            for table, columns in OF_PERSONS.items():
                for name in columns:
                    for (person,) in connection.execute(sa.select(table.c[name]).distinct()):
                        pairs["", person] = None

        await self._database.read(read)
        found = [(pair, known.time_of(*pair)) for pair in pairs if pair[1]]
        return [Whose(pair[0], pair[1], at) for pair, at in found if at is not None]


def _is_of(table: sa.Table, columns: Sequence[str], whose: Whose) -> ColumnElement[bool]:
    mine = sa.or_(*(table.c[name] == whose.person for name in columns))
    if whose.until == FOREVER or "created_at" not in table.c:
        return mine
    return mine & (table.c.created_at <= whose.until)


def _deletion(table: sa.Table, condition: ColumnElement[bool]) -> Callable[[Connection], int]:
    """Return the operation that deletes some rows."""
    keys = list(table.primary_key.columns)
    some = sa.select(*keys).where(condition).limit(ROWS)

    def delete(connection: Connection) -> int:
        rows = connection.execute(some).all()
        for row in rows:
            mine = sa.and_(*(key == value for key, value in zip(keys, row, strict=True)))
            connection.execute(sa.delete(table).where(mine))
        return len(rows)

    return delete


def _anonymizing(whose: Whose) -> Callable[[Connection], int]:
    """Return the operation that adds a person's use of models to that of no one."""
    keys = [key.name for key in usage.primary_key.columns]
    some = sa.select(usage).where(usage.c.entity_id == whose.person).limit(ROWS)

    def anonymize(connection: Connection) -> int:
        rows = connection.execute(some).mappings().all()
        for row in rows:
            mine = sa.and_(*(usage.c[key] == row[key] for key in keys))
            connection.execute(sa.delete(usage).where(mine))
            statement = dialect.insert(connection, usage).values({**row, "entity_id": ""})
            sums: dict[str, Any] = {name: usage.c[name] + statement.excluded[name] for name in SUMS}
            cost = sa.func.coalesce(usage.c.cost, 0) + statement.excluded.cost
            sums["cost"] = sa.func.coalesce(cost, usage.c.cost)
            connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=sums))
        return len(rows)

    return anonymize


def _applied(connection: Connection) -> dict[str, float]:
    rows = connection.execute(sa.select(tombstones.c.person, tombstones.c.at))
    return {row.person: row.at for row in rows}
