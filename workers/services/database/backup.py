"""Backups of a SQLite file, while it is in use."""

import contextlib
import os
from pathlib import Path

from sqlalchemy import Connection

from garrison.workers.sqlite.files import sync_folder

PARTIAL = ".partial"  # ends the name of a backup that is being written


def create_file(path: Path) -> None:
    """Create an empty file for a backup, for its owner alone.

    Raises:
        FileExistsError: There is one; it is left as it is.
        OSError: It cannot be created.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already: name another file, or move that one away")
    partial = _partial(path)
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()  # of a backup that was interrupted
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def write(connection: Connection, path: Path) -> int:
    """Write a consistent copy; return its size. Writers go on meanwhile."""
    connection.exec_driver_sql("VACUUM INTO ?", (str(_partial(path)),))
    with _partial(path).open("rb") as file:
        os.fsync(file.fileno())
    os.link(_partial(path), path)  # fails where a file of that name has come meanwhile
    _partial(path).unlink()
    sync_folder(path.parent)
    return path.stat().st_size


def discard(path: Path) -> None:
    """Delete what is left of a backup that failed."""
    with contextlib.suppress(FileNotFoundError):
        _partial(path).unlink()


def _partial(path: Path) -> Path:
    return path.with_name(path.name + PARTIAL)
