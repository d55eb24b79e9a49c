"""Retention: what is older than its table keeps it is deleted, in small parts.

Durations are seconds.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

import sqlalchemy as sa
from sqlalchemy import Connection

from garrison.ipc import DeclaredError

from . import dialect
from .database import Database
from .tables import cache, embeddings, logs, memories, tasks, usage

log = logging.getLogger(__name__)

PART = 500  # rows that one transaction deletes
PAUSE_S = 0.05  # between parts, for others who write
PERIOD_S = 600.0  # between two sweeps
ENDED = ("done", "failed")  # statuses of tasks that will not run again


class RetentionStore:
    """What is old, of all agents.

    Args:
        database: Where it is.
        retention: Table to the age at which its rows are deleted; 0 keeps them.
    """

    def __init__(self, database: Database, retention: Mapping[str, float]) -> None:
        self._database = database
        self._ages = {table: age for table, age in retention.items() if age > 0}
        self.deleted = 0  # rows since the start

    async def run(self, on_deleted: Callable[[int], None]) -> None:
        """Delete what is old, now and in each period.

        Args:
            on_deleted: Called with the number of rows since the start, after a sweep that deleted
                some.
        """
        while True:
            if await self.sweep():
                on_deleted(self.deleted)
            await asyncio.sleep(PERIOD_S)

    async def sweep(self) -> int:
        """Delete what is old; return how many rows. What a lost server leaves is for the next."""
        before = self.deleted
        for table, age in self._ages.items():
            rows = 0
            try:
                while deleted := await self.delete_part(table, age):
                    rows += deleted
                    self.deleted += deleted
                    await asyncio.sleep(PAUSE_S)
            except (DeclaredError, TimeoutError) as error:
                log.warning("database.retention_failed table=%s error=%s", table, error)
            if rows:
                log.info("database.retention table=%s deleted=%d age_s=%g", table, rows, age)
        return self.deleted - before

    async def delete_part(self, table: str, age: float) -> int:
        """Delete some of what is older than `age` seconds; return how many rows.

        Args:
            table: "logs", "tasks", "cache", "usage", or a table of memories.
            age: Seconds since a row was written; for a task, since it ended.
        """
        before = time.time() - age
        match table:
            case "logs":
                return await self._delete(logs, logs.c.created_at < before)
            case "tasks":
                ended = tasks.c.status.in_(ENDED)
                return await self._delete(tasks, sa.and_(ended, tasks.c.updated_at < before))
            case "cache":
                return await self._delete(cache, cache.c.written_at < before)
            case "usage":
                day = time.strftime("%Y-%m-%d", time.gmtime(before))
                return await self._delete(usage, usage.c.day < day)
            case _:
                of_table = memories.c.table_name == table
                return await self._delete(
                    memories, sa.and_(of_table, memories.c.created_at < before)
                )

    async def _delete(self, table: sa.Table, old: sa.ColumnElement[bool]) -> int:
        keys = list(table.primary_key.columns)

        def delete(connection: Connection) -> int:
            query = sa.select(*keys).where(old).limit(PART)
            if dialect.is_postgres(connection):  # other hosts may delete at the same time
                query = query.with_for_update(skip_locked=True)
            rows = [tuple(row) for row in connection.execute(query)]
            if not rows:
                return 0
            if table is memories:
                vectors = sa.tuple_(embeddings.c.agent_id, embeddings.c.memory_id)
                connection.execute(sa.delete(embeddings).where(vectors.in_(rows)))
            connection.execute(sa.delete(table).where(sa.tuple_(*keys).in_(rows)))
            return len(rows)

        return await self._database.write(delete)
