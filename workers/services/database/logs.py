"""The statements of log entries: what happened, such as the use of a model."""

import time
from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy import Connection

from garrison.workers import Log

from . import dialect
from .database import Database
from .rows import new_id, record_of, row_of
from .tables import logs

RESULT_MOST = 10_000  # entries of one answer


class LogStore:
    """Log entries by agent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, agent: str, log: Log) -> str:
        """Store an entry unless its id exists; return the id."""
        row = row_of(logs, agent, log) | {"id": new_id(log.id)}

        def create(connection: Connection) -> None:
            statement = dialect.insert(connection, logs).on_conflict_do_nothing()
            connection.execute(statement, row | {"created_at": log.created_at or time.time()})

        await self._database.write(create)
        return str(row["id"])

    async def select(
        self, agent: str, where: Mapping[str, str | None], count: int | None, offset: int
    ) -> list[Log]:
        """Return entries, newest first.

        Args:
            agent: Whose they are.
            where: Column to value; None is any value.
            count: At most so many, and never more than `RESULT_MOST`.
            offset: Leave out so many of the newest.
        """
        query = sa.select(logs).where(logs.c.agent_id == agent)
        for name, value in where.items():
            if value is not None:
                query = query.where(logs.c[name] == value)
        query = query.order_by(logs.c.created_at.desc(), logs.c.id.desc())
        most = RESULT_MOST if count is None else min(max(count, 0), RESULT_MOST)
        query = query.limit(most).offset(max(offset, 0) or None)
        return await self._database.read(
            lambda connection: [record_of(Log, row) for row in connection.execute(query).mappings()]
        )

    async def delete(self, agent: str, log_id: str) -> None:
        """Delete an entry."""
        statement = sa.delete(logs).where(logs.c.agent_id == agent, logs.c.id == log_id)
        await self._database.write(lambda connection: connection.execute(statement).rowcount)
