"""The statements of retention: what is older than its table keeps it is deleted, in small parts."""

import time

import sqlalchemy as sa
from sqlalchemy import Connection

from . import dialect
from .database import Database
from .tables import cache, embeddings, logs, memories, tasks, usage

PART = 500  # rows that one transaction deletes
ENDED = ("done", "failed")  # statuses of tasks that will not run again


class RetentionStore:
    """What is old, of all agents."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
