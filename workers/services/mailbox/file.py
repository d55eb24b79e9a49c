"""Open the mailbox's SQLite file, bring it to the present format, and detect damage."""

import contextlib
import errno
import logging
import sqlite3
import struct
from collections.abc import Collection
from pathlib import Path

from garrison.ipc import GarrisonError
from garrison.workers.sqlite import pages, wal
from garrison.workers.sqlite.files import (
    PAGE,
    is_damage,
    set_modes,
)
from garrison.workers.sqlite.opening import NewerFile, configure, connect

from . import rebuild, schema
from .checksums import DamagedIndex

log = logging.getLogger(__name__)

FULL_CHECK = 64 * 1024 * 1024  # bytes; a larger file is checked without its indexes
PLAUSIBLE = 99  # formats; a higher number in a file with our tables is damaged
HEADER = struct.Struct(">16sH6B")  # text, page size, versions, reserved, three fractions
HEADER_START = b"SQLite format 3\0"


class Damaged(GarrisonError):
    """The file is damaged; `rebuild.salvage` carries what can be read into a new one."""


def open_database(path: Path, max_bytes: int) -> sqlite3.Connection:
    """Open the file, or create it. A file of an earlier format is written again.

    Raises:
        Damaged: The file cannot be read.
        NewerFile: A later version wrote it.
        OSError, sqlite3.Error: It cannot be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    rebuild.finish(path)
    set_modes(path)
    _check_files(path)
    if not path.exists() or not path.stat().st_size:
        path.unlink(missing_ok=True)
        rebuild.create(path)
    db, version = _open(path, max_bytes)
    if version == schema.FORMAT:
        return db
    try:
        carried = rebuild.migrate(path, db)
    except sqlite3.DatabaseError as error:
        if is_damaged_file(error):
            raise Damaged(str(error)) from error
        raise
    log.warning(
        "mail.migrated file=%s former=%s messages=%d damaged=%d",
        path,
        carried.kept,
        carried.messages,
        len(carried.damaged),
    )
    for line in rebuild.names(carried.damaged):
        log.error("mail.damaged_message %s", line)
    return _open(path, max_bytes)[0]


def _open(path: Path, max_bytes: int) -> tuple[sqlite3.Connection, int]:
    """Open a file that exists; return its format as well."""

    def prepare(db: sqlite3.Connection) -> int:
        configure(db, path, max_bytes)
        # What was deleted must not be found again where a pointer in a page is damaged.
        db.execute("PRAGMA secure_delete = FAST")
        return _check(db, path)

    try:
        return connect(path, prepare)
    except sqlite3.DatabaseError as error:
        if is_damaged_file(error):
            raise Damaged(str(error)) from error
        raise


def _check(db: sqlite3.Connection, path: Path) -> int:
    """Return the file's format, after a check of its pages and, unless it is large, its indexes."""
    version = _format(db, path)
    check = "integrity_check" if path.stat().st_size <= FULL_CHECK else "quick_check"
    problems = [row[0] for row in db.execute(f"PRAGMA {check}(3)")]
    if problems != ["ok"]:
        raise Damaged("; ".join(map(str, problems))[:300])
    return version


def _format(db: sqlite3.Connection, path: Path) -> int:
    """Return the format by the tables: the number in the header may be damaged."""
    (number,) = db.execute("PRAGMA user_version").fetchone()
    found = _objects(db)
    names = {name for _, name, *_ in found}
    missing = {name: sql for name, sql in schema.ADDED.items() if name not in names}
    if _expected(missing) <= found:
        if schema.FORMAT < number <= PLAUSIBLE:
            raise NewerFile(
                f"{path} was written by a later version (format {number}). If none ran here, the "
                f"number is damaged: sqlite3 {path} 'PRAGMA user_version = {schema.FORMAT}'"
            )
        if number != schema.FORMAT:
            db.execute(f"PRAGMA user_version = {schema.FORMAT}")
        for sql in missing.values():
            db.execute(sql)
        return schema.FORMAT
    columns = [row[1] for row in db.execute("PRAGMA table_info(letters)")]
    if columns == schema.COLUMNS_1:
        return 1
    if number > schema.FORMAT:
        raise NewerFile(f"{path} was written by a later version (format {number})")
    raise Damaged("the description of its tables is damaged")


def _expected(missing: Collection[str]) -> set[tuple[str, ...]]:
    """Return what the description of the tables must contain, some of what was added aside."""
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema.SCHEMA)
        return {one for one in _objects(db) if one[1] not in missing}


def _objects(db: sqlite3.Connection) -> set[tuple[str, ...]]:
    return set(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def _check_files(path: Path) -> None:
    """Raise Damaged for damage that SQLite does not detect."""
    log_file = path.with_name(f"{path.name}-wal")
    is_empty = not path.exists() or not path.stat().st_size
    frames = pages.read_log(path) if not is_empty else b""
    if is_empty and log_file.exists() and log_file.stat().st_size:
        raise Damaged("the file is empty, but its log is not")
    if is_empty and path.exists() and path.with_name(f"{path.name}.reserve").exists():
        raise Damaged("the file is empty, but it was used before")
    if not is_empty:
        _check_header(path)
    if lost := wal.lost_commits(frames):
        raise Damaged(f"{lost} commits of the log follow a part that cannot be read")


def _check_header(path: Path) -> None:
    """Raise Damaged unless the file's first bytes are those that every mailbox file has."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise Damaged("its header cannot be read") from error
    if len(header) < 100:
        raise Damaged("the file is cut off in its header")
    text, page, write, read, reserved, *fractions = HEADER.unpack_from(header)
    format_number, encoding = header[44:48], header[56:60]
    is_fixed = (text, page, reserved, fractions) == (HEADER_START, PAGE, 0, [64, 32, 32])
    is_known = (
        write in {1, 2}
        and read in {1, 2}
        and int.from_bytes(format_number, "big") in {0, 4}
        and int.from_bytes(encoding, "big") in {0, 1}
    )
    has_map = any(header[52:56]) and header[64:68] == b"\0\0\0\1"
    if not (is_fixed and is_known and has_map):
        raise Damaged("its header is damaged")


def is_damaged_file(error: BaseException) -> bool:
    """Return True if the file must be rebuilt."""
    return isinstance(error, DamagedIndex) or is_damage(error)
