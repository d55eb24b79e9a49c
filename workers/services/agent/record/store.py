"""The file of the record of answers: opening, writing in one thread, what is done about damage."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from garrison.ipc import GarrisonError
from garrison.workers.sqlite import pages, wal
from garrison.workers.sqlite.files import (
    PAGE,
    is_damage,
    is_disk_full,
    quarantine,
    set_modes,
)
from garrison.workers.sqlite.opening import NewerFile, configure, connect
from garrison.workers.sqlite.writer import (
    Batch,
    WriterThread,
    is_statement_error,
    run_transaction,
)

from . import schema

log = logging.getLogger(__name__)

T = TypeVar("T")

FILE = "answers.db"
SPARE = 16 * 1024 * 1024  # bytes of `max_bytes` that are kept free for answers in progress
MAX_PENDING = 16_384  # operations; further messages are rejected


class RecordFull(GarrisonError):
    """There is no room for the record: on the disk, or within `answers_bytes`. Try again later."""


class RecordDamaged(GarrisonError):
    """The file is damaged. It was set aside; the next start begins a new one."""


class AnswerStore:
    """The file `answers.db`.

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

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.set_aside: Path | None = None
        try:
            self._db = _open(path, max_bytes)
        except RecordDamaged as error:
            self.set_aside = _set_aside(path, error)
            self._db = _open(path, max_bytes)
        self._max_pages = (max_bytes - min(max_bytes // 8, SPARE)) // PAGE
        self._pages = schema.used_pages(self._db.cursor())
        self._writer = WriterThread("answers", self._commit, lambda: self._db.close())

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the writer thread; results are delivered on the loop."""
        self._writer.start(loop)
        self.failed = self._writer.failed

    @property
    def is_full(self) -> bool:
        """Return True if no further message is to be accepted."""
        return self._pages >= self._max_pages or len(self._writer) >= MAX_PENDING

    @property
    def bytes(self) -> int:
        """Return the size of what is stored."""
        return self._pages * PAGE

    def execute(self, operation: Callable[[sqlite3.Cursor], T]) -> asyncio.Future[T]:
        """Run an operation in a transaction, in the order of the calls.

        Args:
            operation: Takes a cursor. It may run again after a rollback.

        Returns:
            A future that has the result once it is on disk. It raises RecordFull if there is no
            room, `schema.UnreadableRecord`, and sqlite3.Error.
        """
        return self._writer.execute(operation)

    def begin_close(self) -> None:
        """Accept no further operations; pending ones are still written."""
        self._writer.begin_close()

    def wait_closed(self) -> None:
        """Block until everything is written and the file is closed; call `begin_close` first."""
        self._writer.wait_closed()

    def _commit(self, batch: Batch) -> list[Any]:
        """Return each operation's result or error. It runs in the thread."""
        operations = [request.operation for request in batch]
        try:
            outcomes = run_transaction(self._db, operations, _is_operation_error)
            self._pages = schema.used_pages(self._db.cursor())
        except sqlite3.DatabaseError as error:
            if is_disk_full(error):
                full = RecordFull(f"{self.path} has no room: {error}")
                return [full] * len(batch)
            if is_damage(error):
                self._db.close()
                self.set_aside = _set_aside(self.path, error)
                raise RecordDamaged(f"{self.path} is damaged: {error}") from error
            raise
        return outcomes


def _set_aside(path: Path, problem: Exception) -> Path:
    kept = quarantine(path)
    log.error("answers.damaged file=%s set_aside=%s error=%s", path, kept, problem)
    return kept


def _is_operation_error(error: BaseException) -> bool:
    return not is_damage(error) and is_statement_error(error)


def _open(path: Path, max_bytes: int) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    set_modes(path)
    frames = pages.read_log(path)
    if frames and not path.stat().st_size:
        raise RecordDamaged("the file is empty, but its log is not")
    if lost := wal.lost_commits(frames):
        raise RecordDamaged(f"{lost} commits of the log follow a part that cannot be read")

    def prepare(db: sqlite3.Connection) -> None:
        _check_format(db, path)
        if db.execute("PRAGMA page_count").fetchone() == (
            0,
        ):  # in another file it would be a write
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        configure(db, path, max_bytes)
        _check_pages(db)
        db.executescript(schema.SCHEMA)
        _set_format(db)

    try:
        return connect(path, prepare)[0]
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise RecordDamaged(str(error)) from error
        raise


def _check_format(db: sqlite3.Connection, path: Path) -> None:
    (number,) = db.execute("PRAGMA user_version").fetchone()
    if number > schema.FORMAT:
        raise NewerFile(f"{path} was written by a later version (format {number})")


def _set_format(db: sqlite3.Connection) -> None:
    """Note the format, if it is not there: a write, for which a full disk has no room."""
    (number,) = db.execute("PRAGMA user_version").fetchone()
    if number != schema.FORMAT:
        db.execute(f"PRAGMA user_version = {schema.FORMAT}")


def _check_pages(db: sqlite3.Connection) -> None:
    problems = [row[0] for row in db.execute("PRAGMA quick_check(3)")]
    if problems != ["ok"]:
        raise RecordDamaged("; ".join(map(str, problems))[:300])
