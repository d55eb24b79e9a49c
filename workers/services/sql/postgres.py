"""A PostgreSQL server, by asyncpg: the role is the limit, and a transaction that only reads.

A transaction that only reads can be left by SQL, so no statement of a caller runs that could be
followed by another one: it is prepared, must return rows, and what it leaves in the session is
discarded. Durations are seconds.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from garrison.ipc import RetryLater
from garrison.workers import load_library

from .outage import Outage
from .postgres_schema import read_tables
from .results import Column, Executed, Piece, Result, Rows, SqlError, as_parameter
from .schema import Schema, bounded
from .source import BATCH, Bounds, Statement

REQUIREMENT = "asyncpg>=0.31"
CONNECT_S = 3.0
REPLY_S = 1.0  # beyond the server's own limit, for a server that has stopped to answer
CLOSE_S = 5.0
IDLE_S = 60.0  # a connection without use is closed
READER_S = 300  # for a stream's reader to take the next rows; then the server ends its transaction
POWERS = ("pg_read_server_files", "pg_write_server_files", "pg_execute_server_program")
CHECK = """
SELECT bool_or(rolsuper), bool_or(rolreplication),
  string_agg(rolname, ', ') FILTER (WHERE rolname = ANY ($1::text[]))
FROM pg_roles WHERE pg_has_role(session_user, oid, 'MEMBER')
"""
LOST = ("08", "57P", "53300", "58")  # beginnings of SQLSTATEs
REFUSED = ("28", "3D000")
READ_ONLY = "25006"
CLIENT_DATA = "22000"  # the driver could not encode a value
DENIED = ("42501", "0L", "0P")


class PostgresSource:
    """A server.

    Args:
        url: With its password.
        password: The same, or one that replaces it; it is in no error.
        write: Whether `execute` is allowed.
        pool: Connections at most.
        application: How the server's list of connections shows this service.
        on_outage: Called with what is wrong with the server, and with None once it is over.
    """

    dialect = "PostgreSQL"
    numbered = True

    def __init__(
        self,
        url: str,
        password: str,
        write: bool,
        pool: int,
        application: str,
        on_outage: Callable[[str | None], None],
    ) -> None:
        self._library = load_library("asyncpg", REQUIREMENT)
        self._url, self._write, self._size = url, write, pool
        self._password = password or unquote(urlsplit(url).password or "")
        self._application = application[:63]
        self._pool: Any = None
        self._opening = asyncio.Lock()
        self._outage = Outage(on_outage)

    async def query(self, statement: Statement, bounds: Bounds) -> Result:
        async with self._reading(bounds.seconds) as connection:
            began = time.monotonic()
            prepared, values = await self._prepared(connection, statement)
            columns = _columns(prepared)
            rows = Rows(bounds.rows, bounds.size)
            cursor = await prepared.cursor(*values)
            more = True
            while more and (found := await cursor.fetch(min(BATCH, bounds.rows + 1))):
                more = all(rows.add(decoded(row, columns)) for row in found)
            return Result(columns, rows.found, rows.is_cut, time.monotonic() - began)

    async def stream(self, statement: Statement, bounds: Bounds) -> AsyncGenerator[Piece, None]:
        async with self._reading(bounds.seconds, waits=True) as connection:
            async with asyncio.timeout(bounds.seconds + REPLY_S):
                prepared, values = await self._prepared(connection, statement)
                columns = _columns(prepared)
                cursor = await prepared.cursor(*values)
            while True:
                async with asyncio.timeout(bounds.seconds + REPLY_S):
                    found = await cursor.fetch(BATCH)
                rows = Rows(BATCH, bounds.size)
                if not all(rows.add(decoded(row, columns)) for row in found):
                    raise SqlError("its rows are larger than `size`", kind="size")
                if not found:
                    return
                yield Piece(columns, rows.found)

    async def execute(self, statement: Statement, bounds: Bounds) -> Executed:
        async with self._connection(bounds.seconds) as connection:
            began = time.monotonic()
            async with connection.transaction():
                await connection.fetchval("SELECT 1")
                prepared = await connection.prepare(statement.sql)
                values = _values(statement, prepared)
                await prepared.fetch(*values)
                status = prepared.get_statusmsg()
                if not connection.is_in_transaction():
                    raise SqlError("a statement cannot end its transaction", kind="refused")
            return Executed(_changed(status), time.monotonic() - began)

    async def schema(self, name: str, bounds: Bounds) -> Schema:
        async with self._reading(bounds.seconds) as connection:
            return bounded(name, self.dialect, await read_tables(connection))

    async def close(self) -> None:
        if self._pool is not None:
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(CLOSE_S):
                    await self._pool.close()
            self._pool.terminate()

    # --- connections ------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _reading(self, seconds: float, waits: bool = False) -> AsyncIterator[Any]:
        """Yield a connection within a transaction that only reads."""
        async with self._connection(seconds, waits) as connection:
            await connection.execute("BEGIN READ ONLY")
            await connection.fetchval("SELECT 1")  # from now on it cannot be changed to write
            try:
                yield connection
            finally:
                await self._roll_back(connection)

    @contextlib.asynccontextmanager
    async def _connection(self, seconds: float, waits: bool = False) -> AsyncIterator[Any]:
        """Yield a connection; what fails on it is raised as it is meant for callers.

        Args:
            seconds: For all that is done with it.
            waits: Its user sets the limits itself, because it waits for others in between.
        """
        self._outage.check()
        pool, connection = await self._opened(), None
        try:
            connection = await self._acquired(pool, seconds)
            async with asyncio.timeout(None if waits else seconds + REPLY_S):
                yield connection
            self._outage.end()
        except (RetryLater, SqlError):
            raise
        except Exception as error:
            raise self._meaning(error, seconds, connection is not None) from error
        finally:
            if connection is not None:
                await self._release(pool, connection)

    async def _acquired(self, pool: Any, seconds: float) -> Any:
        """Return a connection; one that the server closed since it was used is replaced."""
        milliseconds = max(int(seconds * 1000), 1)
        is_last = False
        while True:
            connection = await pool.acquire(timeout=CONNECT_S)
            try:
                await connection.execute(f"SET statement_timeout = {milliseconds}", timeout=REPLY_S)
                return connection
            except BaseException as error:
                await self._release(pool, connection)
                if is_last or not self._is_lost(error):
                    raise
                is_last = True

    async def _roll_back(self, connection: Any) -> None:
        """End a transaction; a connection on which that fails is closed."""
        try:
            async with asyncio.timeout(REPLY_S):
                if not connection.is_closed() and connection.is_in_transaction():
                    await connection.execute("ROLLBACK")
        except Exception:  # noqa: BLE001 (what the connection was for has been done, or failed)
            connection.terminate()

    async def _release(self, pool: Any, connection: Any) -> None:
        """Return a connection to the pool; one that does not answer is closed."""
        try:
            await asyncio.shield(pool.release(connection, timeout=REPLY_S))
        except Exception:  # noqa: BLE001 (what the connection was for has been done, or failed)
            with contextlib.suppress(Exception):
                connection.terminate()

    async def _opened(self) -> Any:
        async with self._opening:
            if self._pool is None:
                self._pool = await self._library.create_pool(
                    self._url,
                    password=self._password or None,
                    min_size=0,
                    max_size=self._size,
                    max_inactive_connection_lifetime=IDLE_S,
                    init=self._check_role,
                    reset=_discard,
                    timeout=CONNECT_S,
                    statement_cache_size=0,  # DISCARD ALL ends prepared statements
                    server_settings={
                        "application_name": self._application,
                        "idle_in_transaction_session_timeout": str(READER_S * 1000),
                    },
                )
        return self._pool

    async def _check_role(self, connection: Any) -> None:
        """Refuse a role that no transaction can limit.

        Raises:
            SqlError: It is such a role.
        """
        is_super, replicates, powers = await connection.fetchrow(CHECK, list(POWERS))
        found = (
            ("is a superuser, or may become one", is_super),
            ("may replicate", replicates),
            (f"is a member of {powers}", powers),
        )
        what = next((text for text, holds in found if holds), "")
        if what:
            raise SqlError(
                f"its role {what}, which no limit holds: create a role that may only read what "
                "it should, and set that in `url`",
                kind="database",
            )

    # --- statements -------------------------------------------------------------------------

    async def _prepared(self, connection: Any, statement: Statement) -> tuple[Any, list[Any]]:
        """Return a prepared query and its values.

        Raises:
            SqlError: It returns no rows: it is no query, and may end the transaction.
        """
        prepared = await connection.prepare(statement.sql)
        if not prepared.get_attributes():
            raise SqlError("it returns no rows: only queries are run here", kind="refused")
        return prepared, _values(statement, prepared)

    def _meaning(self, error: Exception, seconds: float, connected: bool) -> Exception:
        """Return what an error of the library means for a caller; without the password."""
        state = getattr(error, "sqlstate", None) or ""
        text = self._redacted(error)
        library = self._library
        if state == "57014" or (isinstance(error, TimeoutError) and connected):
            return SqlError(f"it took longer than {seconds:g} s", kind="time", code=state)
        if state.startswith(REFUSED):
            advice = "correct the url or the password, then restart the service"
            return self._outage.begin(f"the server refuses the login: {text}: {advice}")
        if self._is_lost(error):
            return self._outage.begin(f"the server cannot be reached: {text}")
        if state == READ_ONLY:
            return SqlError("the database is read only here", kind="refused", code=state)
        if state.startswith(DENIED):
            return SqlError(f"it is not allowed here: {text}", kind="refused", code=state)
        if state == CLIENT_DATA or isinstance(error, library.InterfaceError):
            return SqlError(f"a parameter does not fit: {text}", kind="parameters")
        if isinstance(error, library.PostgresError):
            return SqlError(text, kind="statement", code=state)
        if isinstance(error, ValueError | TypeError | OverflowError):
            return SqlError(f"a parameter does not fit: {text}", kind="parameters")
        return error

    def _is_lost(self, error: BaseException) -> bool:
        """Return whether an error means that the server, or a connection to it, is gone."""
        state = getattr(error, "sqlstate", None) or ""
        is_closed = isinstance(error, self._library.InterfaceError) and "clos" in str(error)
        return is_closed or state.startswith(LOST) or isinstance(error, OSError)

    def _redacted(self, error: Exception) -> str:
        text = " ".join(str(error).split())[:500]
        if not text:
            is_late = isinstance(error, TimeoutError)
            text = f"no answer within {CONNECT_S:g} s" if is_late else type(error).__name__
        return text.replace(self._password, "[password]") if self._password else text


async def _discard(connection: Any) -> None:
    """Undo what a statement may have left in a session."""
    await connection.execute("DISCARD ALL")


def _columns(prepared: Any) -> list[Column]:
    return [Column(one.name, one.type.name) for one in prepared.get_attributes()]


def _values(statement: Statement, prepared: Any) -> list[Any]:
    """Return the values as the driver wants them.

    Raises:
        SqlError: There are more or fewer than the statement has, or one does not fit.
    """
    types = prepared.get_parameters()
    if len(types) != len(statement.values):
        text = f"the statement has {len(types)} parameters, not {len(statement.values)}"
        raise SqlError(text, kind="parameters")
    values = []
    for name, one, value in zip(statement.names, types, statement.values, strict=True):
        try:
            values.append(as_parameter(value, one.name))
        except ValueError as error:
            raise SqlError(f"parameter {name}: {error}", kind="parameters") from error
    return values


def decoded(row: Any, columns: list[Column]) -> list[Any]:
    """Return a row's values; JSON comes from the driver as text."""
    return [
        _json(value) if column.type in {"json", "jsonb"} else value
        for value, column in zip(row, columns, strict=True)
    ]


def _json(value: Any) -> Any:
    try:
        return msgspec.json.decode(value) if isinstance(value, str) else value
    except (msgspec.DecodeError, RecursionError):
        return value


def _changed(status: str) -> int:
    """Return how many rows a statement changed, from what the server says of it."""
    last = status.rpartition(" ")[2] if status else ""
    return int(last) if last.isdigit() else 0
