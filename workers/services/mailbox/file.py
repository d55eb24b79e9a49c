"""Open the mailbox's SQLite file, detect damage, and move a damaged file out of the way."""

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from garrison.ipc import GarrisonError

from . import schema, wal

PAGE = 4096  # bytes
CHECKPOINT_PAGES = 1_000  # of the log, before it is written back: 4 MiB, SQLite's default
DISK_FULL = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_CANTOPEN"}


class Damaged(GarrisonError):
    """The file is damaged; `quarantine` moves it out of the way."""


class NewerFile(GarrisonError):
    """A later version of garrison wrote the file. It is left as it is."""


def open_database(path: Path, max_bytes: int) -> sqlite3.Connection:
    """Open the file, or create it.

    Raises:
        Damaged: The file cannot be read.
        NewerFile: A later version wrote it.
        OSError, sqlite3.Error: It cannot be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_files(path)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        _configure(db, path, max_bytes)
        version = _check(db, path)
        with contextlib.suppress(sqlite3.OperationalError):  # on a full disk: later
            # An empty log has no frames torn by a power cut that could pass for damage later.
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        db.executescript(schema.SCHEMA)
        if version != schema.FORMAT:
            db.execute(f"PRAGMA user_version = {schema.FORMAT}")
        path.chmod(0o600)
        _sync_folder(path.parent)
    except sqlite3.DatabaseError as error:
        db.close()
        if isinstance(error, sqlite3.OperationalError) and is_disk_full(error):
            raise
        if getattr(error, "sqlite_errorname", "") in {"SQLITE_CORRUPT", "SQLITE_NOTADB"}:
            raise Damaged(str(error)) from error
        raise
    except BaseException:
        db.close()
        raise
    return db


def _configure(db: sqlite3.Connection, path: Path, max_bytes: int) -> None:
    pages = checkpoint_pages(path)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")  # one process only, so no shared-memory file
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in a new file
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_autocheckpoint = {pages}")
    db.execute(f"PRAGMA journal_size_limit = {2 * pages * PAGE}")
    db.execute(f"PRAGMA max_page_count = {max(max_bytes // PAGE, 64)}")


def _check(db: sqlite3.Connection, path: Path) -> int:
    """Return the file's format, 0 for a new file."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > schema.FORMAT:
        raise NewerFile(f"{path} was written by a later version (format {version})")
    problems = [row[0] for row in db.execute("PRAGMA quick_check(3)")]
    if problems != ["ok"]:
        raise Damaged("; ".join(map(str, problems))[:300])
    return int(version)


def _sync_folder(folder: Path) -> None:
    """Sync the folder, so that the file's name survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_files(path: Path) -> None:
    """Raise Damaged for damage that SQLite does not detect."""
    log_file = path.with_name(f"{path.name}-wal")
    is_empty = not path.exists() or not path.stat().st_size
    frames = log_file.read_bytes() if log_file.exists() and not is_empty else b""
    if is_empty and log_file.exists() and log_file.stat().st_size:
        raise Damaged("the file is empty, but its log is not")
    if is_empty and path.exists() and path.with_name(f"{path.name}.reserve").exists():
        raise Damaged("the file is empty, but it was used before")
    if (lost := wal.lost_commits(frames)) > 1:
        raise Damaged(f"{lost} commits of the log follow a part that cannot be read")


def checkpoint_pages(path: Path) -> int:
    """Return the number of log pages before a checkpoint; fewer on a small disk."""
    found = os.statvfs(path.parent)
    return max(min(CHECKPOINT_PAGES, found.f_blocks * found.f_frsize // PAGE // 32), 8)


def is_disk_full(error: sqlite3.Error) -> bool:
    """Return True if there was no space to write."""
    return getattr(error, "sqlite_errorname", "") in DISK_FULL


def quarantine(path: Path) -> Path:
    """Rename a damaged file and its logs; return the file's new path."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number, target = 0, path.with_name(f"{path.name}.damaged-{stamp}")
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}{suffix}").rename(f"{target}{suffix}")
    return target


def damaged_files(path: Path) -> list[Path]:
    """Return the quarantined files of a mailbox, without their logs."""
    found = path.parent.glob(f"{path.name}.damaged-*")
    return sorted(
        {one.with_name(one.name.removesuffix("-wal").removesuffix("-shm")) for one in found}
    )
