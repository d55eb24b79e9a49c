"""A SQLite file beside its log: names, modes, what is set aside, and what an error means."""

import contextlib
import errno
import logging
import os
import sqlite3
import time
from pathlib import Path

log = logging.getLogger(__name__)

PAGE = 4096  # bytes
CHECKPOINT_PAGES = 1_000  # of the log, before it is written back: 4 MiB, SQLite's default
MAX_KEPT = 5  # damaged files; the oldest are deleted
COMPANIONS = ("-wal", "-shm", "-journal")
DISK_FULL = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_CANTOPEN"}
DAMAGE = (
    "SQLITE_CORRUPT",
    "SQLITE_NOTADB",
    "SQLITE_IOERR_READ",
    "SQLITE_IOERR_SHORT_READ",
    "SQLITE_IOERR_DATA",
    "SQLITE_IOERR_CORRUPTFS",
)


def quarantine(path: Path) -> Path:
    """Rename a damaged file and its log; return its new path."""
    target = path.with_name(f"{path.name}.{damaged_label(path)}")
    rename(path, target)
    remove_oldest(path)
    return target


def damaged_files(path: Path) -> list[Path]:
    """Return the kept damaged files of a path, the oldest first, without their logs."""
    found = path.parent.glob(f"{path.name}.damaged-*")
    names = {one.name for one in found}
    for suffix in COMPANIONS:
        names = {name.removesuffix(suffix) for name in names}
    return sorted(path.with_name(name) for name in names)


def set_modes(path: Path) -> None:
    """Make the file, its log and what is kept of it readable by their owner alone.

    SQLite creates a log with the mode of its file.
    """
    for file in path.parent.glob(f"{path.name}*"):
        if file.is_file() and not file.is_symlink() and file.stat().st_mode & 0o077:
            file.chmod(0o600)


def sync_folder(folder: Path) -> None:
    """Sync the folder, so that a file's name survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damaged_label(path: Path) -> str:
    return unused_label(path, time.strftime("damaged-%Y%m%dT%H%M%SZ", time.gmtime()))


def unused_label(path: Path, label: str) -> str:
    """Return a label under which nothing is kept, not even a log."""
    number, unused = 0, label
    while any(path.with_name(f"{path.name}.{unused}{end}").exists() for end in ("", *COMPANIONS)):
        number += 1
        unused = f"{label}-{number:03}"
    return unused


def rename(path: Path, target: Path) -> None:
    for suffix in (*COMPANIONS, ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}{suffix}").rename(f"{target}{suffix}")
    sync_folder(path.parent)


def remove_oldest(path: Path) -> None:
    for old in damaged_files(path)[:-MAX_KEPT]:
        for suffix in ("", *COMPANIONS):
            Path(f"{old}{suffix}").unlink(missing_ok=True)
        log.warning("file.damaged_removed file=%s most=%d", old, MAX_KEPT)


def checkpoint_pages(path: Path) -> int:
    """Return the number of log pages before a checkpoint; fewer on a small disk."""
    found = os.statvfs(path.parent)
    return max(min(CHECKPOINT_PAGES, found.f_blocks * found.f_frsize // PAGE // 32), 8)


def is_disk_full(error: Exception) -> bool:
    """Return True if there was no space to write."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return getattr(error, "sqlite_errorname", "") in DISK_FULL


def is_damage(error: BaseException) -> bool:
    """Return True if SQLite found the file damaged."""
    if not isinstance(error, sqlite3.Error):
        return False
    name = getattr(error, "sqlite_errorname", "")
    # The sqlite3 module itself raises the latter, for a text that is not UTF-8.
    return name.startswith(DAMAGE) or (not name and "decode" in str(error))


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file, or make it; readable by its owner alone. Raises OSError: it is as it was."""
    beside = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
