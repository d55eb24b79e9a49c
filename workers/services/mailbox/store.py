"""The mailbox's file: what is written when there is room, when there is none, and after damage.

The result of an operation arrives once its commit is on disk; see `workers.sqlite.writer`.
"""

import asyncio
import contextlib
import functools
import itertools
import logging
import math
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from garrison.ipc import GarrisonError
from garrison.workers.sqlite.files import PAGE, checkpoint_pages, is_disk_full, quarantine
from garrison.workers.sqlite.writer import (
    Batch,
    Operation,
    WriterThread,
    is_statement_error,
    run_transaction,
)

from . import damage, rebuild, schema
from .checksums import DamagedIndex, DamagedRow
from .file import FULL_CHECK, Damaged, is_damaged_file, open_database

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_PENDING = 16_384  # operations; further posts are rejected
RESERVE = 16 * 1024 * 1024  # bytes; disk space that is allocated for deliveries on a full disk
SPARE = 16 * 1024 * 1024  # bytes of `max_bytes` that are kept free for deliveries
RESULTS_CLEARED = 64  # results deleted at a time when there is no room
SCANNED = 1_000  # messages verified in one transaction
MAX_RECOVERIES = 3  # of the file, for one batch of operations
RETRY_S = 1.0  # between attempts to write on a full disk


class MailboxFull(GarrisonError):
    """The message was rejected: no room on the disk or within `max_bytes`. Post it again later."""


class Store:
    """The mailbox's file.

    Args:
        path: The file.
        max_bytes: Its maximum size.

    Attributes:
        path: The file.

    Raises:
        NewerFile: A later version wrote it.
        OSError, sqlite3.Error: It cannot be opened.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self._reserve = path, path.with_name(f"{path.name}.reserve")
        self._max_bytes = max_bytes
        self._has_reserve = self._no_room_logged = False
        self._writer = WriterThread("mailbox", self._commit, lambda: self._db.close())
        self._db = self._with_room(self._open)
        self._scan()
        (seq,) = self._run_now([schema.last_seq])
        self.next_seq = itertools.count(seq + 1).__next__  # for operations
        self._allocate_reserve()
        self._max_log_bytes = 2 * checkpoint_pages(path) * PAGE
        self._max_pages = (max_bytes - min(max_bytes // 8, SPARE)) // PAGE

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the writer thread; results are delivered on the loop."""
        self._writer.start(loop)
        self.failed = self._writer.failed

    def execute(
        self,
        operation: Callable[[sqlite3.Cursor], T],
        size: int = 0,
        callback: Callable[[T], None] | None = None,
        patient: bool = False,
    ) -> asyncio.Future[T]:
        """Run an operation in a transaction; the future has its result once that is on disk.

        Args:
            operation: Takes a cursor. It may run again after a rollback.
            size: Bytes that it adds. It is rejected if there is no room; 0 is never rejected.
            callback: Called with the result, in the order of the operations, even if the future
                was cancelled.
            patient: It can wait a moment to share the commit of others.

        Raises:
            MailboxFull: Too many operations are pending.
        """
        if size and len(self._writer) >= MAX_PENDING:
            raise MailboxFull(f"{MAX_PENDING:,} messages already wait to be written")
        if size and self._writer.closing:
            raise MailboxFull("the mailbox is closing")
        return self._writer.execute(operation, size, callback, patient)

    def begin_close(self) -> None:
        """Accept no further operations; pending ones are still written."""
        self._writer.begin_close()

    def wait_closed(self) -> None:
        """Block until everything is written and the file is closed; call `begin_close` first."""
        self._writer.wait_closed()

    # --- the writer thread --------------------------------------------------------------------

    def _commit(self, batch: Batch) -> list[Any]:
        """Return each operation's result or error, once they are on disk."""
        for left in reversed(range(MAX_RECOVERIES)):
            try:
                return self._commit_or_reject(batch)
            except (sqlite3.DatabaseError, DamagedIndex) as error:
                if not left or not is_damaged_file(error):
                    raise
                self._recover(error)
        raise AssertionError

    def _commit_or_reject(self, batch: Batch) -> list[Any]:
        if not self._has_reserve:  # restore it before new messages are accepted
            self._shrink_file()
            self._allocate_reserve()
            self._no_room_logged = self._no_room_logged and not self._has_reserve
        problem = self._space_problem(sum(request.size for request in batch))
        if not problem:
            try:
                return self._transaction([request.operation for request in batch])
            except sqlite3.OperationalError as error:
                if not is_disk_full(error):
                    raise
                problem = str(error)
        full = self._full_error(problem)
        sizeless = [request.operation for request in batch if not request.size]
        if sizeless:  # which may take long: reject the others now
            rejected = [request for request in batch if request.size]
            self._writer.resolve_early(rejected, full)
        results = iter(self._commit_without_room(sizeless) if sizeless else [])
        return [full if request.size else next(results) for request in batch]

    def _full_error(self, problem: object) -> MailboxFull:
        return MailboxFull(f"{self.path.parent} has no room for the message: {problem}")

    def _space_problem(self, size: int) -> str:
        """Return why there is no room for a number of bytes; "" if there is."""
        if not size:
            return ""
        if not self._has_reserve:
            return "the reserve for deliveries is used up"
        needed = 2 * size + self._max_log_bytes  # written twice: to the log, then to the file
        if self._free_bytes() < needed:
            self._shrink_file()
            if (free := self._free_bytes()) < needed:
                return f"the disk has {free:,} bytes left"
        limit, cursor = self._max_pages - size // PAGE, self._db.cursor()
        while schema.used_pages(cursor) > limit:
            if not self._clear_results():
                return "max_bytes is reached"
        return ""

    def _free_bytes(self) -> float:
        """Return the free disk space; infinite if the file system does not report it."""
        found = os.statvfs(self.path.parent)
        return found.f_bavail * found.f_frsize if found.f_blocks else math.inf

    def _clear_results(self) -> bool:
        """Delete the oldest results; False if there were none."""
        return bool(self._transaction([lambda at: schema.clear_results(at, RESULTS_CLEARED)])[0])

    # --- a damaged file -----------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        """Open the file; of a damaged one, what can be read is carried into a new file."""
        try:
            return open_database(self.path, self._max_bytes)
        except Damaged as error:
            self._salvage(error)
        try:
            return open_database(self.path, self._max_bytes)
        except Damaged as error:
            self._log_damage(rebuild.Carried(quarantine(self.path), 0, 0, []), error)
        return open_database(self.path, self._max_bytes)

    def _recover(self, problem: Exception) -> None:
        """Replace a file that was found damaged in use, and open the new one."""
        self._with_room(functools.partial(self._salvage, problem))
        self._db.close()  # its files have other names now: it writes nothing to them
        self._db = self._with_room(self._open)

    def _with_room(self, action: Callable[[], T]) -> T:
        """Do something that needs room: use the reserve, then wait until there is room."""
        while True:
            try:
                return action()
            except (sqlite3.OperationalError, OSError) as error:
                if not is_disk_full(error):
                    raise
                if self._reserve.exists():
                    self._reserve.unlink()
                    self._has_reserve = False
                elif self._writer.closing or not self._writer.is_alive:
                    raise
                else:
                    self._wait_for_room(error)

    def _salvage(self, problem: Exception) -> None:
        try:
            carried = rebuild.salvage(self.path)
        except (sqlite3.OperationalError, OSError):  # no room
            raise
        except Exception:
            # The mailbox must start, whatever is in the file; the file itself is kept.
            log.exception("mail.not_salvaged file=%s", self.path)
            carried = rebuild.Carried(quarantine(self.path), 0, 0, [])
        self._log_damage(carried, problem)

    def _log_damage(self, carried: rebuild.Carried, problem: Exception) -> None:
        log.error(
            "mail.damaged file=%s set_aside=%s error=%s messages=%d keys=%d damaged=%d",
            self.path,
            carried.kept,
            problem,
            carried.messages,
            carried.keys,
            len(carried.damaged),
        )
        for line in rebuild.names(carried.damaged):
            log.error("mail.damaged_message %s", line)

    def _scan(self) -> None:
        """Verify every row before the first delivery, unless the file is large."""
        after = 0 if self.path.stat().st_size <= FULL_CHECK else -1
        while after >= 0:
            (last,) = self._run_now(
                [functools.partial(damage.scan, after=after, most=SCANNED, with_index=False)]
            )
            after = last or -1
        self._run_now([damage.scan_keys, schema.get_subscriptions])

    def _run_now(self, operations: list[Operation]) -> list[Any]:
        """Run operations before the writer thread does.

        Raises:
            Exception: The first error of an operation.
        """
        try:
            outcomes = self._transaction(operations)
        except (sqlite3.DatabaseError, DamagedIndex) as error:
            if not is_damaged_file(error):
                raise
            self._recover(error)
            outcomes = self._transaction(operations)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return outcomes

    # --- on a full disk -----------------------------------------------------------------------

    def _commit_without_room(self, operations: list[Operation]) -> list[Any]:
        """Run operations that need almost no space, in the reserve if necessary.

        If the reserve is used up as well, retry until there is room or the store closes.
        """
        while True:
            try:
                return self._transaction(operations)
            except sqlite3.OperationalError as error:
                if not is_disk_full(error):
                    raise
                if self._has_reserve:
                    self._reserve.unlink(missing_ok=True)
                    self._has_reserve = False
                elif error.sqlite_errorname != "SQLITE_FULL" or self._writer.closing:
                    raise
                elif not self._results_made_room():
                    self._wait_for_room(error)
            with contextlib.suppress(sqlite3.OperationalError):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _results_made_room(self) -> bool:
        """Delete results if `max_bytes` is reached; False if the disk itself is full."""
        with contextlib.suppress(sqlite3.OperationalError):
            if schema.used_pages(self._db.cursor()) > self._max_pages:
                return self._clear_results()
        return False

    def _wait_for_room(self, problem: Exception) -> None:
        """Wait before the next attempt, then reject the posts that arrived meanwhile."""
        if not self._no_room_logged:
            log.error("mail.no_room file=%s error=%s", self.path, problem)
        self._no_room_logged = True
        self._writer.wait_and_reject(RETRY_S, self._full_error(problem))

    def _shrink_file(self) -> None:
        """Return the file's empty pages to the disk."""
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA incremental_vacuum").fetchall()
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _allocate_reserve(self) -> None:
        """Allocate the reserve: an eighth of the disk, at most `RESERVE`."""
        try:
            found = os.statvfs(self.path.parent)
            size = max(min(RESERVE, found.f_blocks * found.f_frsize // 8), PAGE)
            file = os.open(self._reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, size)
            finally:
                os.close(file)
            self._has_reserve = True
        except OSError:
            self._reserve.unlink(missing_ok=True)

    # --- one transaction ----------------------------------------------------------------------

    def _transaction(self, operations: list[Operation]) -> list[Any]:
        """Return each operation's result, or the error that it raised; all others are on disk."""
        while True:
            try:
                return run_transaction(self._db, operations, _is_operation_error)
            except DamagedRow as error:
                self._set_aside(error)

    def _set_aside(self, error: DamagedRow) -> None:
        """Take a damaged row out of its table, in a transaction of its own.

        Raises:
            DamagedIndex: The row is intact.
            sqlite3.Error: It cannot be written.
        """
        cursor = self._db.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            name = damage.set_aside(cursor, error)
            cursor.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                cursor.execute("ROLLBACK")
            raise
        log.error("mail.damaged_row file=%s set_aside=%s", self.path, name)


def _is_operation_error(error: BaseException) -> bool:
    """Return True if the error comes from one operation and not from the file."""
    if isinstance(error, DamagedRow) or is_damaged_file(error):
        return False
    return is_statement_error(error)
