"""The file `memory.db`: what is on disk when, and how much the file holds.

What other services store is on disk when they get an answer. The messages that the agent remembers
itself are written at once, so that they outlast its process, and are on disk within a second:
an answer does not wait for the disk once more.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from garrison.workers.sqlite.store import OnDisk, SqliteStore

from . import schema
from .schema import Count

T = TypeVar("T")

FILE = "memory.db"
SYNC_S = 1.0  # within which everything that was written is on disk
SPARE = 64 * 1024 * 1024  # bytes of the file for indexes, and for what is removed later


class MemoryStore(SqliteStore):
    """The file `memory.db`."""

    name = "memory"
    tables = schema.TABLES
    version = schema.VERSION
    syncs = False

    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__(path, 2 * max_bytes + SPARE)
        self._counts: dict[str, Count] = {}
        self.committed(self._db.cursor())
        self._timer: asyncio.TimerHandle | None = None

    def count(self, table: str) -> Count:
        """Return how much a table holds."""
        return self._counts[table]

    def committed(self, cursor: sqlite3.Cursor) -> None:
        """Count what there is."""
        self._counts = schema.counts(cursor)

    def write(self, operation: Callable[[sqlite3.Cursor], T]) -> asyncio.Future[T]:
        """Run an operation; the future has its result once it is on disk."""
        on_disk: Callable[[sqlite3.Cursor], T] = OnDisk(operation)
        return self.execute(on_disk)

    def write_soon(self, operation: Callable[[sqlite3.Cursor], T]) -> asyncio.Future[T]:
        """Run an operation; the future has its result once it is written, which is on disk within
        `SYNC_S`."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SYNC_S, self._sync)
        return self.execute(operation)

    def begin_close(self) -> None:
        """Accept no further operations; pending ones are still written."""
        if self._timer is not None:
            self._timer.cancel()
        super().begin_close()

    def _sync(self) -> None:
        self._timer = None
        self.write(_touch).add_done_callback(_retrieve)


def _touch(cursor: sqlite3.Cursor) -> None:
    """Write something: a commit without a change does not sync the ones before it."""
    cursor.execute("UPDATE counts SET rows = rows WHERE name = 'memories'")


def _retrieve(done: "asyncio.Future[None]") -> None:
    if not done.cancelled():
        done.exception()  # of a full disk: the next write has it too
