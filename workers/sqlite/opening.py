"""Opening a SQLite file that one process uses, and what its operator must do where that fails."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from garrison.ipc import GarrisonError, PermanentFailure

from .files import PAGE, checkpoint_pages, set_modes, sync_folder

T = TypeVar("T")

# Errors that another attempt to open the file does not solve.
NEEDS_OPERATOR = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")


class NewerFile(GarrisonError):
    """A later version of garrison wrote the file. It is left as it is."""


def connect(path: Path, prepare: Callable[[sqlite3.Connection], T]) -> tuple[sqlite3.Connection, T]:
    """Open a file; return the connection, and what `prepare` returned.

    Args:
        path: The file.
        prepare: Configures and checks the file. It is closed if this raises.

    Raises:
        Exception: What `prepare` raised.
        OSError, sqlite3.Error: The file cannot be opened.
    """
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        # One process only: no shared-memory file, for which a full disk has no room.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        prepared = prepare(db)
        with contextlib.suppress(sqlite3.OperationalError):  # on a full disk: later
            # An empty log has no frames torn by a power cut that could pass for damage later.
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        set_modes(path)
        sync_folder(path.parent)
    except BaseException:
        db.close()
        raise
    return db, prepared


def configure(db: sqlite3.Connection, path: Path, max_bytes: int) -> None:
    """Have each commit on disk when it returns, and the file and its log within their bounds."""
    log_pages = checkpoint_pages(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_autocheckpoint = {log_pages}")
    db.execute(f"PRAGMA journal_size_limit = {2 * log_pages * PAGE}")
    db.execute(f"PRAGMA max_page_count = {max(max_bytes // PAGE, 64)}")


def open_or_explain(path: Path, service: str, open_file: Callable[[], T]) -> T:
    """Return what `open_file` returns; its errors state what an operator must do.

    Args:
        path: The file.
        service: Who uses it, as in "start the mailbox".
        open_file: Opens it.

    Raises:
        PermanentFailure: A later version wrote it, or it may not be opened.
        RuntimeError: It cannot be opened now.
    """
    try:
        return open_file()
    except NewerFile as error:
        raise PermanentFailure(str(error)) from error
    except (sqlite3.Error, OSError) as error:
        text = f"{path} cannot be opened: {error}"
        is_denied = isinstance(error, IsADirectoryError | PermissionError)
        if is_denied or getattr(error, "sqlite_errorname", "").startswith(NEEDS_OPERATOR):
            text += f". Correct the folder's owner or mode, then start {service}"
            raise PermanentFailure(text) from error
        raise RuntimeError(text) from error
