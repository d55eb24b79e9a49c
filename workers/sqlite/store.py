"""A SQLite file of one service's own: opening, writing in one thread, what is done about damage."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from garrison.ipc import GarrisonError

from . import pages, wal
from .files import is_damage, is_disk_full, quarantine, set_modes
from .opening import NewerFile, configure, connect
from .writer import Batch, Operation, WriterThread, is_statement_error, run_transaction

log = logging.getLogger(__name__)

T = TypeVar("T")


class StoreFull(GarrisonError):
    """There is no room: on the disk, or within the file's maximum size. Try again later."""


class StoreDamaged(GarrisonError):
    """The file is damaged. It was set aside; the next start begins a new one."""


class OnDisk:
    """An operation whose result waits for the disk, in a file where that is not the rule."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def __call__(self, cursor: sqlite3.Cursor) -> Any:
        return self._operation(cursor)


class SqliteStore:
    """One file, written by one thread.

    Args:
        path: The file.
        max_bytes: Its maximum size.

    Attributes:
        path: The file.
        set_aside: The file that was found damaged when it was opened, under its new name.

    Raises:
        NewerFile: A later version wrote it.
        OSError, sqlite3.Error: It cannot be opened.
    """

    name: ClassVar[str]  # of the thread, and of the events
    tables: ClassVar[str]  # SQL that creates those that are missing
    version: ClassVar[int]  # of the tables; a file of a later one is rejected
    syncs: ClassVar[bool] = True  # each commit; False: those with an `OnDisk` alone
    full: ClassVar[type[StoreFull]] = StoreFull

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.set_aside: Path | None = None
        try:
            self._db = self._open(max_bytes)
        except StoreDamaged as error:
            self.set_aside = self._quarantine(error)
            self._db = self._open(max_bytes)
        self._is_synced = True  # what commits do as it is set now
        self._writer = WriterThread(self.name, self._commit, lambda: self._db.close())

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the writer thread; results are delivered on the loop."""
        self._writer.start(loop)
        self.failed = self._writer.failed

    def execute(self, operation: Callable[[sqlite3.Cursor], T]) -> asyncio.Future[T]:
        """Run an operation in a transaction, in the order of the calls.

        Args:
            operation: Takes a cursor. It may run again after a rollback.

        Returns:
            A future that has the result once it is written. It raises `full` if there is no room,
            what the operation raises, and sqlite3.Error.
        """
        return self._writer.execute(operation)

    def begin_close(self) -> None:
        """Accept no further operations; pending ones are still written."""
        self._writer.begin_close()

    def wait_closed(self) -> None:
        """Block until everything is written and the file is closed; call `begin_close` first."""
        self._writer.wait_closed()

    def committed(self, cursor: sqlite3.Cursor) -> None:
        """Read what changes with each commit. It runs in the thread, before results arrive."""

    def _commit(self, batch: Batch) -> list[Any]:
        """Return each operation's result or error. It runs in the thread."""
        operations = [request.operation for request in batch]
        try:
            outcomes = self._run(operations)
        except sqlite3.DatabaseError as error:
            if is_disk_full(error):
                return [self._run_alone(one) for one in operations]
            if is_damage(error):
                self._db.close()
                self.set_aside = self._quarantine(error)
                raise StoreDamaged(f"{self.path} is damaged: {error}") from error
            raise
        return outcomes

    def _run(self, operations: Sequence[Operation]) -> list[Any]:
        self._set_sync(self.syncs or any(isinstance(one, OnDisk) for one in operations))
        outcomes = run_transaction(self._db, operations, _is_operation_error)
        self.committed(self._db.cursor())
        return outcomes

    def _run_alone(self, operation: Operation) -> Any:
        """Return an operation's result on a full disk: one that only reads needs no room."""
        try:
            return self._run([operation])[0]
        except sqlite3.DatabaseError as error:
            if is_disk_full(error):
                return self.full(f"{self.path} has no room: {error}")
            raise

    def _set_sync(self, wanted: bool) -> None:
        if wanted is not self._is_synced:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")
            self._is_synced = wanted

    def _quarantine(self, problem: Exception) -> Path:
        kept = quarantine(self.path)
        log.error("%s.damaged file=%s set_aside=%s error=%s", self.name, self.path, kept, problem)
        return kept

    # --- opening ------------------------------------------------------------------------------

    def _open(self, max_bytes: int) -> sqlite3.Connection:
        path = self.path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        set_modes(path)
        frames = pages.read_log(path)
        if frames and not path.stat().st_size:
            raise StoreDamaged("the file is empty, but its log is not")
        if lost := wal.lost_commits(frames):
            raise StoreDamaged(f"{lost} commits of the log follow a part that cannot be read")

        def prepare(db: sqlite3.Connection) -> None:
            number = self._check_format(db)
            if db.execute("PRAGMA page_count").fetchone() == (0,):  # in another file it is a write
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            configure(db, path, max_bytes)
            _check_pages(db)
            self._create_tables(db, number)

        try:
            return connect(path, prepare)[0]
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise StoreDamaged(str(error)) from error
            raise

    def _check_format(self, db: sqlite3.Connection) -> int:
        (number,) = db.execute("PRAGMA user_version").fetchone()
        if number > self.version:
            text = f"{self.path} was written by a later version (format {number})"
            raise NewerFile(text)
        return int(number)

    def _create_tables(self, db: sqlite3.Connection, number: int) -> None:
        """Create what is missing, in one transaction; it writes nothing where nothing is, for
        which a full disk would have no room."""
        version = "" if number == self.version else f"PRAGMA user_version = {self.version};"
        try:
            db.executescript(f"BEGIN; {self.tables} {version} COMMIT;")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def _is_operation_error(error: BaseException) -> bool:
    return not is_damage(error) and is_statement_error(error)


def _check_pages(db: sqlite3.Connection) -> None:
    problems = [row[0] for row in db.execute("PRAGMA quick_check(3)")]
    if problems != ["ok"]:
        raise StoreDamaged("; ".join(map(str, problems))[:300])
