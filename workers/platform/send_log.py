"""The send log: a SQLite file of what a platform has sent, and of its positions in streams.

The result of an operation arrives once it is on disk; see `workers.sqlite.writer`. Rows of finished
sends are dropped when they are older than `keep`, or when there are more than `SENDS_MOST`, the
oldest first; unfinished ones are never dropped.
"""

import asyncio
import functools
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from garrison.ipc import GarrisonError
from garrison.workers.sqlite.files import is_disk_full, quarantine, sync_folder
from garrison.workers.sqlite.opening import NewerFile, configure, connect
from garrison.workers.sqlite.writer import (
    Batch,
    Operation,
    WriterThread,
    is_statement_error,
    run_transaction,
)

from .clocks import read_clocks
from .decision import SendState, advanced

log = logging.getLogger(__name__)

T = TypeVar("T")

FILE = "platform.db"
FORMAT = 1
MAX_PENDING = 16_384  # operations; further ones are refused
SENDS_MOST = 1_000_000  # rows
MAX_BYTES = 1 << 30
CURSORS_MOST = 100_000  # streams; of more, those that moved last are kept
DROPPED = 500  # rows in one transaction
CLEAN_S = 600.0  # between looks for rows to drop
LOST_S = 8 * 86_400.0  # after the log was lost, a send of former days may be missing in it

SCHEMA = """
CREATE TABLE sends (
    id TEXT NOT NULL, part INTEGER NOT NULL, channel TEXT NOT NULL, state TEXT NOT NULL,
    wall REAL NOT NULL, boot TEXT NOT NULL, uptime REAL NOT NULL,
    theirs TEXT NOT NULL, cut INTEGER NOT NULL, own REAL NOT NULL,
    PRIMARY KEY (id, part)
) WITHOUT ROWID;
CREATE INDEX finished ON sends (own) WHERE state <> 'sending';
CREATE INDEX by_theirs ON sends (theirs) WHERE theirs <> '';
CREATE TABLE cursors (
    stream TEXT PRIMARY KEY, position TEXT NOT NULL, moved INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE clock (
    one INTEGER PRIMARY KEY, own REAL NOT NULL, wall REAL NOT NULL, boot TEXT NOT NULL,
    uptime REAL NOT NULL, lost REAL
);
"""


class LogFull(GarrisonError):
    """Nothing was written: too much waits, or the disk is full. Try again later."""


class Row(NamedTuple):
    """One part of an answer in the log."""

    part: int
    state: SendState
    wall: float  # when `deliver` was to be called
    boot: str
    uptime: float
    theirs: str  # the platform's id; of a refused one, the reason
    cut: int  # the `max_length` that its text was split at; 0: none


class SendLog:
    """The file.

    Args:
        folder: The service's data folder.
        keep: Seconds for which the rows of finished sends are kept.

    Raises:
        OSError, sqlite3.Error: It cannot be opened.
    """

    def __init__(self, folder: Path, keep: float) -> None:
        self.path, self._keep = folder / FILE, keep
        self._clean_at = 0.0
        self.lost = False
        self.opened = read_clocks()  # sends of an earlier process ended before
        self._db = self._open()
        self._writer = WriterThread("send log", self._commit, lambda: self._db.close())
        self.cursors: dict[str, str] = dict(
            self._db.execute("SELECT stream, position FROM cursors ORDER BY moved")
        )

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the writer thread; results arrive on the loop."""
        self._writer.start(loop)
        self.failed = self._writer.failed

    def begin_close(self) -> None:
        """Accept no further operations; pending ones are still written."""
        self._writer.begin_close()

    def wait_closed(self) -> None:
        """Block until everything is written; call `begin_close` first."""
        self._writer.wait_closed()

    # --- operations ---------------------------------------------------------------------------

    def rows(self, send: str) -> "asyncio.Future[list[Row]]":
        """Return the rows of an answer's parts."""
        return self._execute(functools.partial(_rows, send))

    def begin(
        self, send: str, part: int, channel: str, cut: int
    ) -> "asyncio.Future[tuple[float, str, float]]":
        """Record that `deliver` is to be called for a part; return the time that was recorded."""
        now = read_clocks()
        values = (send, part, channel, SendState.SENDING.value, *now, "", cut, self._own(now))

        def write(at: sqlite3.Cursor) -> tuple[float, str, float]:
            at.execute("INSERT OR REPLACE INTO sends VALUES (?,?,?,?,?,?,?,?,?,?)", values)
            return now

        return self._execute(write)

    def end(
        self, send: str, part: int, channel: str, cut: int, state: SendState, theirs: str = ""
    ) -> "asyncio.Future[None]":
        """Record the outcome of a part."""
        now = read_clocks()
        values = (send, part, channel, state.value, *now, theirs, cut, self._own(now))

        def write(at: sqlite3.Cursor) -> None:
            at.execute(
                "INSERT INTO sends VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id, part) DO UPDATE "
                "SET state = excluded.state, theirs = excluded.theirs",
                values,
            )

        return self._execute(write)

    def forget(self, send: str, part: int) -> "asyncio.Future[None]":
        """Remove a part that was surely not sent."""

        def write(at: sqlite3.Cursor) -> None:
            at.execute("DELETE FROM sends WHERE id = ? AND part = ?", (send, part))

        return self._execute(write)

    def move(self, stream: str, position: str) -> "asyncio.Future[None]":
        """Save the position in a stream."""

        def write(at: sqlite3.Cursor) -> None:
            at.execute(
                "INSERT OR REPLACE INTO cursors SELECT ?, ?, coalesce(max(moved), 0) + 1 "
                "FROM cursors",
                (stream, position),
            )

        return self._execute(write)

    def run(self, operation: Callable[[sqlite3.Cursor], T]) -> "asyncio.Future[T]":
        """Run an operation of another module."""
        return self._execute(operation)

    def _execute(self, operation: Callable[[sqlite3.Cursor], T]) -> "asyncio.Future[T]":
        if self._writer.closing or len(self._writer) >= MAX_PENDING:
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            future.set_exception(LogFull(f"{self.path}: too much waits to be written"))
            return future
        return self._writer.execute(operation)

    # --- in the writer thread -----------------------------------------------------------------

    def _commit(self, batch: Batch) -> list[Any]:
        """Return the result of each operation; on a full disk, an error for each."""
        outcomes = self._transaction([request.operation for request in batch])
        self._clean()
        return outcomes

    def _transaction(self, operations: list[Operation]) -> list[Any]:
        try:
            return run_transaction(self._db, operations, is_statement_error)
        except sqlite3.OperationalError as error:
            if not is_disk_full(error):
                raise
            log.error("platform.no_room file=%s error=%s", self.path, error)
            return [LogFull(f"{self.path} cannot be written: {error}")] * len(operations)

    def _clean(self) -> None:
        """Drop what is older than it need be, some rows at a time."""
        now = read_clocks()
        own = self._own(now)
        if own < self._clean_at:
            return
        drop = functools.partial(_drop, before=own - self._keep)
        (dropped, _) = self._transaction([drop, functools.partial(_set_clock, own, now)])
        self._clean_at = own + (1.0 if dropped == DROPPED else CLEAN_S)

    # --- its time -----------------------------------------------------------------------------

    def _set_up_clock(self, db: sqlite3.Connection, is_lost: bool) -> None:
        """Continue the log's own time, in which the age of rows is counted."""
        now = read_clocks()
        found = db.execute("SELECT own, wall, boot, uptime, lost FROM clock").fetchone()
        own, lost = 0.0, None
        if found is not None:
            own, *before, lost = found
            own += advanced(tuple(before), now)
        if is_lost:
            lost = own
        try:
            db.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?, ?, ?)", (own, *now, lost))
        except sqlite3.OperationalError as error:
            if found is None or is_lost or not is_disk_full(error):
                raise
            log.error("platform.no_room file=%s error=%s", self.path, error)  # `_clean` writes it
        self.lost = lost is not None and own - lost < LOST_S
        self._offset = own - now[2]

    def _own(self, now: tuple[float, str, float]) -> float:
        return self._offset + now[2]

    # --- opening ------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        """Open the file; a damaged one is set aside. Note where a log was lost."""
        used = self.path.with_name(f"{FILE}.used")
        is_lost = used.exists() and not self.path.exists()
        try:
            db = _connect(self.path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            kept = quarantine(self.path)
            log.error("platform.damaged file=%s set_aside=%s error=%s", self.path, kept, error)
            db, is_lost = _connect(self.path), True
        if is_lost:
            log.error("platform.log_lost file=%s: earlier sends are not known", self.path)
        self._set_up_clock(db, is_lost)
        used.touch(0o600)
        sync_folder(self.path.parent)
        return db


def _set_clock(own: float, now: tuple[float, str, float], at: sqlite3.Cursor) -> None:
    at.execute("UPDATE clock SET own = ?, wall = ?, boot = ?, uptime = ?", (own, *now))


def _rows(send: str, at: sqlite3.Cursor) -> list[Row]:
    found = at.execute(
        "SELECT part, state, wall, boot, uptime, theirs, cut FROM sends WHERE id = ? ORDER BY part",
        (send,),
    )
    return [Row(part, SendState(state), *rest) for part, state, *rest in found]


def _drop(at: sqlite3.Cursor, before: float) -> int:
    """Drop some finished rows that are too old or too many; return how many."""
    (count,) = at.execute("SELECT count(*) FROM sends").fetchone()
    surplus = max(count - SENDS_MOST, 0)
    at.execute(
        "DELETE FROM sends WHERE (id, part) IN (SELECT id, part FROM sends WHERE "
        "state <> 'sending' AND own < ? ORDER BY own LIMIT ?)",
        (float("inf") if surplus else before, min(surplus, DROPPED) or DROPPED),
    )
    dropped = at.rowcount
    at.execute(
        "DELETE FROM cursors WHERE moved <= (SELECT max(moved) FROM cursors) - ?", (CURSORS_MOST,)
    )
    return dropped


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def prepare(db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > FORMAT:
            raise NewerFile(
                f"{path} was written by a later version (format {version}); run that one, or move "
                "the file away: then answers that were under way may be sent twice"
            )
        configure(db, path, MAX_BYTES)
        if version == 0:
            db.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version = {FORMAT};COMMIT;")
        problems = [row[0] for row in db.execute("PRAGMA quick_check(1)")]
        if problems != ["ok"]:
            raise sqlite3.DatabaseError(str(problems[0]))

    return connect(path, prepare)[0]
