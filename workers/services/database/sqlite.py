"""A SQLite file: a thread that writes, threads that read, by the driver of the standard library."""

import asyncio
import contextlib
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, event, exc

from garrison.ipc import PermanentFailure
from garrison.workers.sqlite.files import checkpoint_pages, is_damage, set_modes, sync_folder
from garrison.workers.sqlite.opening import NEEDS_OPERATOR

from . import backup, documents, migrate
from .engine import Operation, run_all

T = TypeVar("T")

READERS = 4  # threads
BUSY_S = 5.0  # for another process that writes the file
STEPS = 10_000  # of SQLite's machine between looks at the deadline


class SqliteEngine:
    """A file that this process has open.

    Args:
        path: The file; its folder exists.
        statement_timeout: Seconds for an operation that reads, and for a batch that writes.
    """

    def __init__(self, path: Path, statement_timeout: float) -> None:
        self.path, self.name = path, f"the file {path}"
        self._timeout = statement_timeout
        self.has_pgvector = False
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            isolation_level="AUTOCOMMIT",
            connect_args={"timeout": BUSY_S, "check_same_thread": False},
            pool_size=READERS + 1,
            max_overflow=0,
            json_serializer=documents.encode,
            json_deserializer=documents.decode,
        )
        event.listen(self._engine, "connect", self._configure)
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._writer = ThreadPoolExecutor(1, "write")

    async def read(self, operation: Operation[T]) -> T:
        return await self._run(self._readers, lambda connection: operation(connection))

    async def write(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        return await self._run(
            self._writer, lambda connection: run_all(connection, operations, "BEGIN IMMEDIATE")
        )

    async def committed(self, transaction: str) -> bool:
        """Return False: a commit is never uncertain, as the file has no connection to lose."""
        return False

    async def migrate(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writer, self._open)

    async def backup(self, path: Path) -> int:
        await asyncio.to_thread(backup.create_file, path)
        try:
            return await self._run(
                self._readers, lambda connection: backup.write(connection, path), math.inf
            )
        finally:
            await asyncio.to_thread(backup.discard, path)

    async def close(self) -> None:
        """Close the file; what runs is waited for."""
        for executor in (self._readers, self._writer):
            await asyncio.to_thread(executor.shutdown)
        await asyncio.to_thread(self._engine.dispose)

    def _open(self) -> None:
        try:
            self.path.touch(mode=0o600)
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # one migration at a time
                try:
                    migrate.upgrade(connection, self.name)
                    connection.exec_driver_sql("COMMIT")
                except BaseException:
                    connection.exec_driver_sql("ROLLBACK")
                    raise
            set_modes(self.path)
            sync_folder(self.path.parent)
        except (exc.DBAPIError, OSError) as error:
            self._explain(error)
            raise

    def _explain(self, error: exc.DBAPIError | OSError) -> None:
        """Raise PermanentFailure where a retry cannot help."""
        cause: BaseException = getattr(error, "orig", None) or error
        text = f"{self.path} cannot be opened: {cause}"
        if is_damage(cause):
            raise PermanentFailure(
                f"{text}. Put a backup in its place, or move it and its -wal file away, then start "
                f"the service again"
            ) from error
        is_denied = isinstance(cause, IsADirectoryError | PermissionError)
        if is_denied or getattr(cause, "sqlite_errorname", "").startswith(NEEDS_OPERATOR):
            raise PermanentFailure(
                f"{text}. Correct the folder's owner or mode, then start the service again"
            ) from error

    def _configure(self, driver: sqlite3.Connection, record: Any) -> None:
        driver.execute("PRAGMA synchronous = FULL")
        driver.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages(self.path)}")
        driver.execute("PRAGMA secure_delete = ON")  # what is forgotten is not in the file
        guard = record.info["guard"] = Guard()
        driver.set_progress_handler(guard.is_over, STEPS)

    async def _run(
        self,
        executor: ThreadPoolExecutor,
        work: Callable[[Connection], T],
        timeout: float | None = None,
    ) -> T:
        """Run work in a thread; a cancelled read is interrupted, a write is not."""
        cancelled = threading.Event()

        def run() -> T:
            with self._engine.connect() as connection:
                guard: Guard = connection.info["guard"]
                guard.deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
                guard.cancelled = cancelled
                try:
                    return work(connection)
                finally:
                    guard.deadline = float("inf")

        future = asyncio.get_running_loop().run_in_executor(executor, run)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if executor is self._readers:
                cancelled.set()
                future.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise


class Guard:
    """Ends what runs on a connection, once its time is over or its caller is gone."""

    deadline = float("inf")
    cancelled: threading.Event | None = None

    def is_over(self) -> bool:
        """Return True to interrupt the statement that runs."""
        return time.monotonic() > self.deadline or (
            self.cancelled is not None and self.cancelled.is_set()
        )
