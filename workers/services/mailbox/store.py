"""A mailbox's file: SQLite, one thread that writes, many changes in one commit.

Each change is answered once its commit is on disk. A change that waits while another commit is
under way goes with the next one, so nobody waits for company. The thread ends with the store.
"""

import asyncio
import contextlib
import logging
import math
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from garrison.ipc import GarrisonError

from . import schema, wal

log = logging.getLogger(__name__)

T = TypeVar("T")
Change = Callable[[sqlite3.Cursor], Any]
Then = Callable[[Any], None]
Asked = tuple[Change, asyncio.Future[Any], int, Then | None]  # with the bytes that it takes

MOST_CHANGES = 256  # in one commit
MOST_WAITING = 16_384  # changes; posts beyond are refused
PAGE = 4096  # bytes
CHECKPOINT_PAGES = 1_000  # of the log, after which it is written back: 4 MiB, as SQLite has it
RESERVE = 16 * 1024 * 1024  # bytes set aside for deliveries on a full disk, at the most
SPARE = 16 * 1024 * 1024  # bytes of the mailbox's own bound that are kept for deliveries, likewise
FORGOTTEN = 64  # results that give way at once where there is no room
PATIENCE_S = 1.0  # between attempts to write what was delivered to a disk that is full
FULL = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_CANTOPEN"}


class MailboxFull(GarrisonError):
    """The message was not taken, for there is no room on the disk or in the mailbox."""


class Damaged(GarrisonError):
    """The file is no mailbox any more."""


class NewerFile(GarrisonError):
    """The file was written by a later version of garrison: nothing here may touch it."""


class Store:
    """The file.

    Args:
        path: Where it is.
        max_bytes: The most that it may take.

    Raises:
        Damaged: What is there cannot be read.
        NewerFile: It is a later version's.
        OSError, sqlite3.Error: It cannot be opened.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path, self._reserve = path, path.with_name(f"{path.name}.reserve")
        try:
            self._db = _opened(path, max_bytes)
        except sqlite3.OperationalError as error:
            if not _is_full(error):
                raise
            self._reserve.unlink(missing_ok=True)
            self._db = _opened(path, max_bytes)
        self._has_reserve = self._waited = False
        self._keep_reserve()
        self._log_most = 2 * _log_pages(path) * PAGE
        self._most_pages = (max_bytes - min(max_bytes // 8, SPARE)) // PAGE
        self._changes: deque[Asked] = deque()
        self._asked: list[Asked] = []  # in this turn of the loop; the loop's alone
        self._stirred = threading.Condition()
        self._closing = False
        self.commits = 0
        self._thread = threading.Thread(target=self._write, name="mailbox", daemon=True)

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; a loop takes the outcomes."""
        self._loop = loop
        self.failed: asyncio.Future[None] = loop.create_future()
        self._thread.start()

    def change(
        self,
        change: Callable[[sqlite3.Cursor], T],
        room: int = 0,
        then: Callable[[T], None] | None = None,
    ) -> asyncio.Future[T]:
        """Carry out a change; the future has its result once that is on disk.

        Args:
            change: Takes a cursor, within a transaction. It may be run again, after a rollback.
            room: The bytes that it adds, so it is refused where there is no room for them; 0 is
                never refused.
            then: What follows from it, with its result: in the order of the changes, also where
                whoever waited for it has left.

        Raises:
            MailboxFull: Too many changes wait.
        """
        if room and len(self._changes) + len(self._asked) >= MOST_WAITING:
            raise MailboxFull(f"{MOST_WAITING:,} messages wait to be written already")
        if self._closing and room:
            raise MailboxFull("the mailbox is closing")
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closing:
            return future  # its task is cancelled with the service's others
        if not self._asked:
            self._loop.call_soon(self._hand_over)  # all that one turn of the loop asks for
        self._asked.append((change, future, room, then))
        return future

    def _hand_over(self) -> None:
        with self._stirred:
            self._changes.extend(self._asked)
            self._asked.clear()
            self._stirred.notify()

    def end(self) -> None:
        """Take no more changes; what waits is still written."""
        self._closing = True
        self._hand_over()

    def close(self) -> None:
        """Return when all is written, and the file is closed; it blocks, and comes after `end`."""
        self._thread.join()

    # --- the thread ---------------------------------------------------------------------------

    def _write(self) -> None:
        try:
            while batch := self._next():
                outcomes = self._committed(batch)
                self.commits += 1
                self._loop.call_soon_threadsafe(_settle, batch, outcomes)
            self._db.close()
        except BaseException as error:  # noqa: BLE001 (the service must hear of it)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    def _next(self) -> list[Asked]:
        with self._stirred:
            while not self._changes and not self._closing:
                self._stirred.wait()
            many = min(len(self._changes), MOST_CHANGES)
            return [self._changes.popleft() for _ in range(many)]

    def _committed(self, batch: list[Asked]) -> list[Any]:
        """Return each change's result, or its error, after they are on disk."""
        if not self._has_reserve:  # what was used up comes back before new messages are taken
            self._give_back()
            self._keep_reserve()
            self._waited = self._waited and not self._has_reserve
        problem = self._problem(sum(room for _, _, room, _ in batch))
        if not problem:
            try:
                return self._transaction([change for change, _, _, _ in batch])
            except sqlite3.OperationalError as error:
                if not _is_full(error):
                    raise
                problem = str(error)
        full = MailboxFull(f"{self._path.parent} has no room left for it: {problem}")
        rest = [change for change, _, room, _ in batch if not room]
        if rest:
            refused = [one for one in batch if one[2]]
            self._loop.call_soon_threadsafe(_settle, refused, [full] * len(refused))
        done = iter(self._in_reserve(rest) if rest else [])
        return [full if room else next(done) for _, _, room, _ in batch]

    def _problem(self, room: int) -> str:
        """Return why so many bytes cannot be taken."""
        if not room:
            return ""
        if not self._has_reserve:
            return "the reserve for deliveries is used up"
        needed = 2 * room + self._log_most  # it is written twice: into the log, then in its place
        if self._free() < needed:
            self._give_back()
            if (free := self._free()) < needed:
                return f"the disk has {free:,} bytes left"
        most, cursor = self._most_pages - room // PAGE, self._db.cursor()
        while schema.used(cursor) > most:
            if not self._transaction([lambda at: schema.forget_results(at, FORGOTTEN)])[0]:
                return "max_bytes is reached"
        return ""

    def _free(self) -> float:
        """Return how many bytes the disk has left; some file systems do not say."""
        found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize if found.f_blocks else math.inf

    def _in_reserve(self, changes: list[Change]) -> list[Any]:
        """Carry out changes that take no room to speak of, if need be in the space that is kept.

        On a disk that has not even that, it tries until there is room, or the store closes.
        """
        while True:
            try:
                return self._transaction(changes)
            except sqlite3.OperationalError as error:
                if not _is_full(error):
                    raise
                if self._has_reserve:
                    self._reserve.unlink(missing_ok=True)
                    self._has_reserve = False
                elif error.sqlite_errorname != "SQLITE_FULL" or self._closing:
                    raise
                elif not self._results_gave_way():
                    self._wait_for_room(error)
            with contextlib.suppress(sqlite3.OperationalError):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _results_gave_way(self) -> bool:
        """Make room within the mailbox's own bound; False where that is not what is full."""
        with contextlib.suppress(sqlite3.OperationalError):
            if schema.used(self._db.cursor()) > self._most_pages:
                return bool(self._transaction([lambda at: schema.forget_results(at, FORGOTTEN)])[0])
        return False

    def _wait_for_room(self, problem: Exception) -> None:
        """Refuse what was posted meanwhile, and wait a while: another fills the disk."""
        if not self._waited:
            log.error("mail.no_room file=%s error=%s", self._path, problem)
        self._waited = True
        with self._stirred:
            self._stirred.wait_for(lambda: self._closing, PATIENCE_S)
            refused = [one for one in self._changes if one[2]]
            self._changes = deque(one for one in self._changes if not one[2])
        full = MailboxFull(f"{self._path.parent} has no room left for it: {problem}")
        self._loop.call_soon_threadsafe(_settle, refused, [full] * len(refused))

    def _transaction(self, changes: list[Change]) -> list[Any]:
        """Return each change's result, or the error that is its own; all the others are on disk."""
        failed: dict[int, Exception] = {}
        cursor = self._db.cursor()
        while True:
            cursor.execute("BEGIN IMMEDIATE")
            place, outcomes = -1, list[Any]()
            try:
                for place, change in enumerate(changes):
                    outcomes.append(failed[place] if place in failed else change(cursor))
                place = -1
                cursor.execute("COMMIT")
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):
                    cursor.execute("ROLLBACK")
                if place < 0 or not _is_its_own(error):
                    raise
                failed[place] = error
            else:
                return outcomes

    def _give_back(self) -> None:
        """Return to the disk what delivered messages have left empty in the file."""
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA incremental_vacuum").fetchall()
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _keep_reserve(self) -> None:
        """Set space aside: an eighth of the disk, up to the most."""
        try:
            found = os.statvfs(self._path.parent)
            size = max(min(RESERVE, found.f_blocks * found.f_frsize // 8), PAGE)
            file = os.open(self._reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, size)
            finally:
                os.close(file)
            self._has_reserve = True
        except OSError:
            self._reserve.unlink(missing_ok=True)


def _settle(batch: list[Asked], outcomes: list[Any]) -> None:
    for (_, future, _, then), outcome in zip(batch, outcomes, strict=True):
        is_error = isinstance(outcome, Exception)
        if then is not None and not is_error:
            then(outcome)
        if future.done():  # who asked has gone, or was told already
            continue
        if is_error:
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _is_its_own(error: BaseException) -> TypeGuard[Exception]:
    """Tell whether an error is that of one change, and the file has nothing to do with it."""
    if isinstance(error, sqlite3.DatabaseError):
        name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
        return name.startswith(("SQLITE_ERROR", "SQLITE_TOOBIG", "SQLITE_CONSTRAINT"))
    return isinstance(error, Exception)


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorname", "") in FULL


def _opened(path: Path, max_bytes: int) -> sqlite3.Connection:
    """Return the open file, made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _look_at(path)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    pages = _log_pages(path)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # this process alone; no file for sharing
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        db.execute(f"PRAGMA journal_size_limit = {2 * pages * PAGE}")
        db.execute(f"PRAGMA max_page_count = {max(max_bytes // PAGE, 64)}")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > schema.FORMAT:
            raise NewerFile(f"{path} was written by a later version (format {version})")
        problems = [row[0] for row in db.execute("PRAGMA quick_check(3)")]
        if problems != ["ok"]:
            raise Damaged("; ".join(map(str, problems))[:300])
        with contextlib.suppress(sqlite3.OperationalError):  # on a full disk: later
            # A new log has nothing of what a power cut tore, which might pass for damage.
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        db.executescript(schema.SCHEMA)
        if version != schema.FORMAT:
            db.execute(f"PRAGMA user_version = {schema.FORMAT}")
        path.chmod(0o600)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # its name, too, outlasts a power cut
        finally:
            os.close(folder)
    except sqlite3.DatabaseError as error:
        db.close()
        if isinstance(error, sqlite3.OperationalError) and _is_full(error):
            raise
        if getattr(error, "sqlite_errorname", "") in {"SQLITE_CORRUPT", "SQLITE_NOTADB"}:
            raise Damaged(str(error)) from error
        raise
    except BaseException:
        db.close()
        raise
    return db


def _look_at(path: Path) -> None:
    """Raise Damaged where SQLite would take what is left for a good file, and go on."""
    log_file = path.with_name(f"{path.name}-wal")
    is_empty = not path.exists() or not path.stat().st_size
    kept = log_file.read_bytes() if log_file.exists() and not is_empty else b""
    if is_empty and log_file.exists() and log_file.stat().st_size:
        raise Damaged("it is empty, and its log is not")
    if is_empty and path.exists() and path.with_name(f"{path.name}.reserve").exists():
        raise Damaged("it is empty, and was not")
    if (lost := wal.lost_commits(kept)) > 1:
        raise Damaged(f"{lost} commits of its log lie behind a part that cannot be read")


def _log_pages(path: Path) -> int:
    """Return after how many pages of the log it is written back; few on a small disk."""
    found = os.statvfs(path.parent)
    return max(min(CHECKPOINT_PAGES, found.f_blocks * found.f_frsize // PAGE // 32), 8)


def quarantine(path: Path) -> Path:
    """Move a damaged file, and what belongs to it, out of the way; return where it is now."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number, target = 0, path.with_name(f"{path.name}.damaged-{stamp}")
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}{suffix}").rename(f"{target}{suffix}")
    return target
