"""A SQLite file, read by threads: read only for the library, and checked by its authorizer.

Each call has a connection of a pool, and a guard that ends its statement. Durations are seconds.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from garrison.ipc import RetryLater

from .authorizer import allows
from .parameters import STATEMENT_MOST
from .results import Column, Executed, Piece, Result, Rows, SqlError, as_bytes
from .schema import ColumnInfo, ForeignKey, Schema, Table, bounded
from .source import BATCH, Bounds, Statement

T = TypeVar("T")

STEPS = 1000  # of SQLite's machine between looks at the deadline
BUSY_S = 2.0  # for another process that writes the file
PATTERN_MOST = 1000  # characters of a LIKE or GLOB, which take quadratic time
AGAIN_S = 1.0
NOT_ALLOWED = "a query only reads, and no statement attaches a file or ends its transaction"
LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED")
AWAY = ("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_NOMEM")


class Guard:
    """Ends what runs on a connection, and says what may run."""

    def __init__(self) -> None:
        self.deadline = 0.0
        self.cancelled = threading.Event()
        self.write = False
        self.own = False  # a statement of this module's

    def is_over(self) -> bool:
        """Return True to interrupt the statement that runs."""
        return time.monotonic() > self.deadline or self.cancelled.is_set()

    def decide(
        self, action: int, first: str | None, second: str | None, _: str | None, __: str | None
    ) -> int:
        """Return SQLite's code for whether something is allowed."""
        if self.own or allows(action, first, second, self.write):
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY


class SqliteSource:
    """A file.

    Args:
        path: The file.
        write: Whether `execute` is allowed.
        pool: Threads, each with a connection of its own while it works.
        size: Bytes of a value at most.
    """

    dialect = "SQLite"
    numbered = False

    def __init__(self, path: Path, write: bool, pool: int, size: int) -> None:
        self._path, self._write, self._size = path, write, size
        self._threads = ThreadPoolExecutor(pool, "sql")

    async def query(self, statement: Statement, bounds: Bounds) -> Result:
        def work(connection: sqlite3.Connection, guard: Guard) -> Result:
            began = time.monotonic()
            cursor = _run(connection, statement)
            if cursor.description is None:
                raise SqlError("it returns no rows: only queries are run here", kind="refused")
            rows = Rows(bounds.rows, bounds.size)
            for row in cursor:
                if not rows.add(row):
                    break
            took = time.monotonic() - began
            return Result(_columns(cursor), rows.found, rows.is_cut, took)

        return await self._in_thread(work, bounds.seconds)

    async def stream(self, statement: Statement, bounds: Bounds) -> AsyncGenerator[Piece, None]:
        loop = asyncio.get_running_loop()
        guard = Guard()
        opened = contextlib.ExitStack()
        executor = ThreadPoolExecutor(1, "sql-stream")  # it lasts as long as its reader reads

        def begin() -> sqlite3.Cursor:
            guard.deadline = time.monotonic() + bounds.seconds
            connection = opened.enter_context(self._connection(guard))
            cursor = _run(connection, statement)
            if cursor.description is None:
                raise SqlError("it returns no rows: only queries are run here", kind="refused")
            return cursor

        def more(cursor: sqlite3.Cursor) -> list[list[Any]]:
            guard.deadline = time.monotonic() + bounds.seconds
            rows = Rows(BATCH, bounds.size)
            for row in cursor.fetchmany(BATCH):
                if not rows.add(row):
                    raise SqlError("its rows are larger than `size`", kind="size")
            return rows.found

        try:
            cursor = await loop.run_in_executor(executor, self._explained(begin, bounds.seconds))
            while True:
                work = self._explained(lambda: more(cursor), bounds.seconds)
                rows = await loop.run_in_executor(executor, work)
                if not rows:
                    break
                yield Piece(_columns(cursor), rows)
        finally:
            guard.cancelled.set()
            executor.submit(opened.close)
            executor.shutdown(wait=False)

    async def execute(self, statement: Statement, bounds: Bounds) -> Executed:
        def work(connection: sqlite3.Connection, guard: Guard) -> Executed:
            began = time.monotonic()
            with _transaction(connection, guard):
                cursor = _run(connection, statement)
                for _ in cursor:  # RETURNING: it has to be read to the end
                    pass
                changed = max(cursor.rowcount, 0)
            return Executed(changed, time.monotonic() - began)

        return await self._in_thread(work, bounds.seconds, write=True)

    async def schema(self, name: str, bounds: Bounds) -> Schema:
        def work(connection: sqlite3.Connection, guard: Guard) -> Schema:
            return bounded(name, self.dialect, _tables(connection))

        return await self._in_thread(work, bounds.seconds)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    # --- parts of these ---------------------------------------------------------------------

    async def _in_thread(
        self,
        work: Callable[[sqlite3.Connection, Guard], T],
        seconds: float,
        write: bool = False,
    ) -> T:
        """Run work with a connection in a thread; where its caller leaves, it is interrupted."""
        guard = Guard()

        def run() -> T:
            guard.deadline = time.monotonic() + seconds
            guard.write = write
            with self._connection(guard) as connection:
                return work(connection, guard)

        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, self._explained(run, seconds))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            guard.cancelled.set()
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    @contextlib.contextmanager
    def _connection(self, guard: Guard) -> Iterator[sqlite3.Connection]:
        """Yield a connection; opening one takes less than looking after those that are open."""
        mode = "rw" if guard.write else "ro"
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=BUSY_S,
            check_same_thread=False,
            cached_statements=0,
        )
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute(f"PRAGMA query_only = {'OFF' if guard.write else 'ON'}")
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(self._size, STATEMENT_MOST * 4))
            connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN_MOST)
            connection.set_progress_handler(guard.is_over, STEPS)
            connection.set_authorizer(guard.decide)
            yield connection
        finally:
            connection.close()

    def _explained(self, work: Callable[[], T], seconds: float) -> Callable[[], T]:
        def run() -> T:
            try:
                return work()
            except sqlite3.Error as error:
                raise meaning(error, seconds) from error
            except (OverflowError, UnicodeError, ValueError) as error:
                raise SqlError(f"a parameter does not fit: {error}", kind="parameters") from error

        return run


def meaning(error: sqlite3.Error, seconds: float) -> Exception:
    """Return what an error of the library means for a caller."""
    name = getattr(error, "sqlite_errorname", "") or ""
    text = str(error)
    if name == "SQLITE_INTERRUPT":
        return SqlError(f"it took longer than {seconds:g} s", kind="time", code=name)
    if name == "SQLITE_TOOBIG":
        return SqlError("a value or the statement is larger than `size`", kind="size", code=name)
    if name == "SQLITE_AUTH" or "not authorized" in text or "prohibited" in text:
        return SqlError(f"{text}: {NOT_ALLOWED}", kind="refused", code=name)
    if name.startswith("SQLITE_READONLY"):
        return SqlError("the database is read only here", kind="refused", code=name)
    if name.startswith(LOCKED):
        return RetryLater(AGAIN_S, f"another process holds the database: {text}")
    if name.startswith(AWAY):
        return RetryLater(AGAIN_S * 5, f"the file cannot be read: {text}")
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError) and not name:
        kind = "statement" if "one statement" in text else "parameters"
        return SqlError(text, kind=kind)
    return SqlError(text, kind="statement", code=name)


def _run(connection: sqlite3.Connection, statement: Statement) -> sqlite3.Cursor:
    values = [_value(value) for value in statement.values]
    return connection.execute(statement.sql, values)


def _value(value: Any) -> Any:
    value = as_bytes(value)
    if isinstance(value, list | dict):
        raise ValueError("SQLite takes no lists and no mappings")
    return value


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, guard: Guard) -> Iterator[None]:
    """Run what is within it in a transaction; statements of a caller cannot end it."""

    def own(sql: str) -> None:
        guard.own = True
        try:
            connection.execute(sql)
        finally:
            guard.own = False

    own("BEGIN IMMEDIATE")
    try:
        yield
        own("COMMIT")
    except BaseException:
        guard.deadline = time.monotonic() + BUSY_S  # for the way back
        guard.cancelled.clear()
        with contextlib.suppress(sqlite3.Error):
            own("ROLLBACK")
        raise


def _columns(cursor: sqlite3.Cursor) -> list[Column]:
    return [Column(str(one[0])) for one in cursor.description or ()]


def _tables(connection: sqlite3.Connection) -> Iterator[Table]:
    """Yield the tables and views, by name."""
    query = (
        "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') "
        "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    )
    for name, kind in connection.execute(query).fetchall():
        quoted = '"' + name.replace('"', '""') + '"'
        columns = [
            ColumnInfo(column, type_name or "", not not_null, bool(key))
            for _, column, type_name, not_null, _, key, hidden in connection.execute(
                f"PRAGMA table_xinfo({quoted})"
            )
            if hidden != 1
        ]
        keys: dict[int, ForeignKey] = {}
        for number, _, table, column, referenced, *_ in connection.execute(
            f"PRAGMA foreign_key_list({quoted})"
        ):
            key = keys.setdefault(number, ForeignKey([], table, []))
            key.columns.append(column)
            key.referenced += [referenced] if referenced else []
        yield Table(name, kind, columns, list(keys.values()))
