"""The statements of the cache: values by key, until they expire."""

import time
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from . import dialect
from .database import Database
from .documents import identifier
from .tables import cache

BATCH = 500  # rows that one statement deletes


class CacheStore:
    """Values by agent and key.

    Args:
        database: Where they are.
        entries: Values at most, of all agents; the oldest are deleted.
    """

    def __init__(self, database: Database, entries: int) -> None:
        self._database, self._entries = database, entries

    async def get(self, agent: str, key: str) -> Any:
        """Return the value of a key; None if there is none, or it has expired."""
        query = sa.select(cache.c.value).where(
            cache.c.agent_id == agent,
            cache.c.key == key,
            cache.c.expires_at.is_(None) | (cache.c.expires_at > time.time()),
        )
        value = await self._database.read(lambda connection: connection.execute(query).scalar())
        return None if value is None else msgspec.msgpack.decode(value)

    async def set(self, agent: str, key: str, value: Any, ttl: float | None) -> bool:
        """Store a value for some seconds, or for good."""
        now = time.time()
        changed = {
            "value": msgspec.msgpack.encode(value),
            "expires_at": None if ttl is None else now + ttl,
            "written_at": now,
        }
        row = {"agent_id": agent, "key": identifier(key, "key"), **changed}

        def put(connection: Connection) -> bool:
            connection.execute(
                dialect.insert(connection, cache)
                .values(row)
                .on_conflict_do_update(index_elements=["agent_id", "key"], set_=changed)
            )
            return True

        return await self._database.write(put)

    async def delete(self, agent: str, key: str) -> bool:
        """Delete a key; return whether it existed."""
        statement = sa.delete(cache).where(
            cache.c.agent_id == agent,
            cache.c.key == key,
        )
        return await self._database.write(
            lambda connection: connection.execute(statement).rowcount > 0
        )

    async def prune(self) -> int:
        """Delete some of the expired values, and of the oldest beyond the limit; return how many.

        Call it again while it deletes some.
        """

        def prune(connection: Connection) -> int:
            expired = sa.select(cache.c.agent_id, cache.c.key).where(
                cache.c.expires_at <= time.time()
            )
            deleted = _delete(connection, expired)
            excess = (
                connection.execute(sa.select(sa.func.count()).select_from(cache)).scalar_one()
                - self._entries
            )
            if excess > 0:
                oldest = sa.select(cache.c.agent_id, cache.c.key).order_by(cache.c.written_at)
                deleted += _delete(connection, oldest, excess)
            return deleted

        return await self._database.write(prune)


def _delete(connection: Connection, chosen: sa.Select[*tuple[Any, ...]], most: int = BATCH) -> int:
    rows = connection.execute(chosen.limit(min(most, BATCH))).all()
    for row in rows:
        connection.execute(
            sa.delete(cache).where(cache.c.agent_id == row.agent_id, cache.c.key == row.key)
        )
    return len(rows)
