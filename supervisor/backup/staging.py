"""Copies the files of a host as of one moment, while it runs. Sizes are bytes, times are seconds.

Large files are copied first, while the services run. Then their processes are held, and what has
changed since is copied again: of a database most often its log alone. If that takes too long they
go on, and it is tried again with less left to copy.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from .collecting import Found, Source
from .manifest import BackupError

EARLY_BYTES = 64 * 1024  # a file of this size or more is copied before the hold, too
SETTLED_S = 0.1  # since a file was written, for its time to show the next write
TRIES = 5
SHARE = 0.8  # of the time of a hold that copying may take
CHUNK = 4 * 1024 * 1024
SQLITE = b"SQLite format 3\0"

Identity: TypeAlias = tuple[int, int, int]  # inode, mtime in ns, size


class Hold(Protocol):
    """Stops and resumes the services' processes."""

    def begin(self) -> float:
        """Stop them; return for how many seconds at most."""
        ...

    def end(self) -> list[str] | None:
        """Resume them; return the services to which something happened meanwhile.

        None: they had gone on before.
        """
        ...


@dataclass
class Staged:
    """The copies."""

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)  # path in the archive → the original
    held_s: float = 0.0
    left_out: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Return the path of a copy."""
        return self.folder / name


class TooSlow(Exception):
    """The copies were not made within the hold."""


def stage(
    folder: Path,
    find: Callable[[], Found],
    hold: Hold | None,
    update: Callable[[str], None] = lambda _: None,
) -> Staged:
    """Copy files as of one moment.

    Args:
        folder: Where to.
        find: Returns the files.
        hold: Stops the services; None: none runs.
        update: Called with the name of what is copied.

    Raises:
        BackupError: It cannot be done.
        OSError: A file cannot be read, or there is no room.
    """
    staged, copied = Staged(folder), dict[str, Identity]()
    if hold is None:
        found = find()
        for source in found.files:
            update(source.name)
            _copy(source, staged.path(source.name))
        return _finished(staged, found)
    for attempt in range(TRIES):
        _copy_early(find().files, staged, copied, update)
        began, last = time.monotonic(), attempt == TRIES - 1
        longest = hold.begin()
        try:
            found = find()
            until = began + longest * (1 if last else SHARE)
            _copy_changed(found.files, staged, copied, until)
        except TooSlow:
            hold.end()
            continue
        except BaseException:
            with contextlib.suppress(Exception):
                hold.end()
            raise
        disturbed = hold.end()
        staged.held_s = time.monotonic() - began
        if disturbed is None:
            continue
        if not disturbed:
            return _finished(staged, found)
        update(f"{', '.join(disturbed[:3])} started or ended meanwhile; again")
        time.sleep(0.2 * (attempt + 1))  # for the restart to be over
    raise BackupError(
        f"the files of the services could not be copied as of one moment in {TRIES} attempts: they "
        "change too much, or services restart. Try again when the host is quieter, or after: "
        "garrison pause --all"
    )


def _finished(staged: Staged, found: Found) -> Staged:
    staged.files = {source.name: source.path for source in found.files}
    staged.left_out += found.left_out
    for path in sorted(staged.folder.rglob("*")):
        name = str(path.relative_to(staged.folder))
        if path.is_file() and name not in staged.files:
            path.unlink()  # the original was removed meanwhile
    return staged


def _copy_early(
    files: Iterable[Source],
    staged: Staged,
    copied: dict[str, Identity],
    update: Callable[[str], None],
) -> None:
    for source in files:
        with contextlib.suppress(FileNotFoundError):
            before = _identity(source.path)
            if before[2] < EARLY_BYTES or copied.get(source.name) == before:
                continue
            settled = time.time_ns() - before[1] > SETTLED_S * 1e9
            update(source.name)
            if _copy(source, staged.path(source.name)) == before and settled:
                copied[source.name] = before
            else:
                copied.pop(source.name, None)


def _copy_changed(
    files: Iterable[Source], staged: Staged, copied: dict[str, Identity], until: float
) -> None:
    for source in files:
        if copied.get(source.name) != _identity(source.path):
            copied.pop(source.name, None)
            _copy(source, staged.path(source.name), until)


def _identity(path: Path) -> Identity:
    found = path.lstat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _copy(source: Source, target: Path, until: float | None = None) -> Identity:
    """Copy a file; return its identity afterwards.

    Raises:
        TooSlow: It is later than `until`.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    reading = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            while _copy_chunk(reading, writing):
                if until is not None and time.monotonic() > until:
                    raise TooSlow
        finally:
            os.close(writing)
        found = os.fstat(reading)
        return found.st_ino, found.st_mtime_ns, found.st_size
    finally:
        os.close(reading)


def _copy_chunk(reading: int, writing: int) -> int:
    try:
        return os.copy_file_range(reading, writing, CHUNK)  # shares blocks where that is possible
    except OSError:
        data = os.read(reading, CHUNK)
        done = 0
        while done < len(data):
            done += os.write(writing, data[done:])
        return len(data)


def check_databases(staged: Staged, update: Callable[[str], None] = lambda _: None) -> None:
    """Write the log of each copied SQLite database back into it, and check it.

    Files that were damaged in the home already stay as they are, and are noted.
    """
    for name in list(staged.files):
        path = staged.path(name)
        if name not in staged.files or not _is_database(path):
            continue
        update(name)
        if _is_sound(path):
            _write_back_log(path)
            for end in ("-wal", "-journal"):
                staged.files.pop(f"{name}{end}", None)
                path.with_name(path.name + end).unlink(missing_ok=True)
        else:
            staged.damaged.append(name)
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


def _is_sound(path: Path) -> bool:
    """Return True if a database is not damaged. One that is stays as it is."""
    # Only a database that is opened for writing can take back what its journal says.
    mode = "rw" if path.with_name(f"{path.name}-journal").exists() else "ro"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True)) as db:
            found: object = db.execute("PRAGMA quick_check(1)").fetchone()
            return found == ("ok",)
    except sqlite3.Error:
        return False


def _write_back_log(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
