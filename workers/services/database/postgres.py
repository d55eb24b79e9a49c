"""A PostgreSQL server, by asyncpg."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, exc
from sqlalchemy.ext.asyncio import create_async_engine

from garrison.ipc import PermanentFailure

from . import documents, migrate, pgvector
from .engine import Operation, run_all

T = TypeVar("T")

INVALID_VALUE = "22023"  # SQLSTATE of a transaction that was never begun, as far as it knows
OLDEST = (13,)  # version of PostgreSQL, for `pg_xact_status`
CONNECT_S = 5.0
REPLY_S = 5.0  # beyond statement_timeout, for a server that has stopped to answer
LOCK = 7_236_014_461_270_117  # any number: the advisory lock of those who migrate
SSL = {"disable": False, "allow": "allow", "prefer": "prefer", "require": "require"}


class PostgresEngine:
    """A pool of connections.

    Args:
        url: The server, with user and password.
        application: How the server's list of connections shows this service.
        pool: Connections at most.
        statement_timeout: Seconds for a statement.
        pgvector: Whether to use that where the server has it.
    """

    def __init__(
        self,
        url: sa.URL,
        application: str,
        pool: int,
        statement_timeout: float,
        pgvector: bool = True,
    ) -> None:
        self._wants_pgvector, self.has_pgvector = pgvector, False
        host = url.query.get("host") or url.host or "localhost"
        self.name = f"PostgreSQL at {host}:{url.port or 5432}, database {url.database}"
        arguments: dict[str, Any] = {
            "timeout": CONNECT_S,
            "command_timeout": statement_timeout + REPLY_S,
            "server_settings": {
                "application_name": application[:63],
                "statement_timeout": str(int(statement_timeout * 1000)),
                "idle_in_transaction_session_timeout": str(
                    int((statement_timeout + REPLY_S) * 1000)
                ),
            },
        }
        mode = url.query.get("sslmode")
        if mode is not None:  # libpq's word for asyncpg's `ssl`
            url = url.difference_update_query(["sslmode"])
            arguments["ssl"] = SSL.get(str(mode), str(mode))
        self._engine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            isolation_level="AUTOCOMMIT",
            connect_args=arguments,
            pool_size=pool,
            max_overflow=0,
            pool_timeout=statement_timeout,
            json_serializer=documents.encode,
            json_deserializer=documents.decode,
        )

    async def read(self, operation: Operation[T]) -> T:
        async with self._engine.connect() as connection:
            return await connection.run_sync(operation)

    async def write(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        async with self._engine.connect() as connection:
            return await connection.run_sync(run_all, operations, "BEGIN", _transaction_id)

    async def committed(self, transaction: str) -> bool:
        """Return whether a transaction took effect; the server knows those of some time."""

        def read(connection: Connection) -> str | None:
            query = sa.select(
                sa.func.pg_xact_status(sa.cast(sa.cast(transaction, sa.Text), _XactId))
            )
            status: str | None = connection.execute(query).scalar()
            return status

        try:
            status = await self.read(read)
        except exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", "") != INVALID_VALUE:
                raise
            return False  # "in the future": the server crashed before it had written any of it
        if status == "in progress":  # its process has not seen yet that the connection is lost
            raise ConnectionError(f"transaction {transaction} has not ended")
        return status == "committed"

    async def migrate(self) -> None:
        async with self._engine.connect() as connection:
            await connection.run_sync(self._migrate)

    def _migrate(self, connection: Connection) -> None:
        version = connection.dialect.server_version_info or OLDEST
        if version < OLDEST:
            raise PermanentFailure(
                f"{self.name} is version {version[0]}; it must be {OLDEST[0]} or later"
            )
        connection.exec_driver_sql("BEGIN")
        try:
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
            migrate.upgrade(connection, self.name)
            self.has_pgvector = self._wants_pgvector and pgvector.prepare(connection)
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            with contextlib.suppress(Exception):
                connection.exec_driver_sql("ROLLBACK")
            raise

    async def backup(self, path: Path) -> int:
        raise NotImplementedError(
            f"{self.name} is backed up by PostgreSQL's own program: pg_dump --format=custom"
        )

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(CONNECT_S):
                await self._engine.dispose()


class _XactId(sa.types.UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


def _transaction_id(connection: Connection) -> str | None:
    """Return the id of a transaction that has written something."""
    query = "SELECT pg_current_xact_id_if_assigned()::text"
    found: str | None = connection.exec_driver_sql(query).scalar()
    return found


def parse_url(text: str) -> sa.URL:
    """Return a URL of PostgreSQL.

    Raises:
        PermanentFailure: It is none; the text does not have it, for it may have a password.
    """
    try:
        url = sa.make_url(text)
    except (exc.ArgumentError, ValueError):
        url = None
    if url is None or url.get_backend_name() not in {"postgresql", "postgres"}:
        raise PermanentFailure(
            "`url` is no address of PostgreSQL; it looks like "
            "postgresql://user:password@host:5432/database. Leave it out for a SQLite file"
        )
    return url
