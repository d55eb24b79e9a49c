"""Write a new file for the mailbox and put it in the place of the former one, which is kept.

It is written under another name and synced. A kill, a full disk or a power cut at any moment leaves
either the former file in use, or a complete new one whose last steps `finish` takes.
"""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from garrison.workers.sqlite.files import (
    COMPANIONS,
    damaged_label,
    remove_oldest,
    rename,
    set_modes,
    sync_folder,
    unused_label,
)

from . import damage, schema
from .clock import ClockRecord
from .damage import DamagedMessage
from .salvage import Salvage, from_format_1

log = logging.getLogger(__name__)

T = TypeVar("T")

FORMER = "v1"  # the name under which a file of format 1 is kept
EMPTY = "empty"  # in the place of a former file that is not there
MAX_NAMED = 100  # damaged messages named in the log, of one file


class Carried(msgspec.Struct, frozen=True):
    """What was carried from a former file into a new one."""

    kept: Path  # the former file
    messages: int
    keys: int
    damaged: list[DamagedMessage]


def create(path: Path) -> None:
    """Create an empty file."""
    _build(path, lambda _: None)
    _put_in_place(path, EMPTY)


def migrate(path: Path, db: sqlite3.Connection) -> Carried:
    """Write a file of format 1 again in the present format.

    Args:
        path: The file.
        db: The open file; it is closed.

    Raises:
        sqlite3.Error, OSError: It cannot be written; the former file is as it was.
    """
    with contextlib.closing(db):
        counts, damaged = _build(path, lambda cursor: _migrate(db.cursor(), cursor))
    return Carried(_put_in_place(path, unused_label(path, FORMER)), *counts, damaged)


def salvage(path: Path) -> Carried:
    """Carry what can be read of a damaged file into a new one.

    Raises:
        sqlite3.Error, OSError: It cannot be written; the damaged file is as it was.
    """
    found = Salvage(path)
    try:
        counts, damaged = _build(path, lambda cursor: _fill(cursor, found))
    finally:
        found.close()
    return Carried(_put_in_place(path, damaged_label(path)), *counts, damaged)


def finish(path: Path) -> None:
    """Take the last steps of a replacement that was interrupted, and remove unfinished files."""
    unfinished = _building(path)
    for suffix in ("", *COMPANIONS):
        Path(f"{unfinished}{suffix}").unlink(missing_ok=True)
    for complete in path.parent.glob(f"{path.name}.next-*"):
        label = complete.name.removeprefix(f"{path.name}.next-")
        # The log first: it must never lie beside the new file.
        if label != EMPTY:
            rename(path, path.with_name(f"{path.name}.{label}"))
        elif path.exists():  # there is a file after all
            complete.unlink()
            continue
        complete.rename(path)
        sync_folder(path.parent)


# --- names --------------------------------------------------------------------------------------


def _building(path: Path) -> Path:
    return path.with_name(f"{path.name}.building")


def _put_in_place(path: Path, label: str) -> Path:
    """Put the file that was built in the place of the former; return where that is kept."""
    _building(path).rename(path.with_name(f"{path.name}.next-{label}"))
    sync_folder(path.parent)
    finish(path)
    remove_oldest(path)
    set_modes(path)
    return path.with_name(f"{path.name}.{label}")


# --- contents -----------------------------------------------------------------------------------


def _build(path: Path, fill: Callable[[sqlite3.Cursor], T]) -> T:
    """Write a complete new file beside the one in use, and sync it."""
    building = _building(path)
    finish(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(building, flags, 0o600))
    try:
        db = sqlite3.connect(building, isolation_level=None)
        with contextlib.closing(db):
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA journal_mode = MEMORY")  # it is synced as a whole
            db.execute("PRAGMA synchronous = OFF")
            db.executescript(schema.SCHEMA)
            cursor = db.cursor()
            cursor.execute("BEGIN")
            result = fill(cursor)
            cursor.execute(f"PRAGMA user_version = {schema.FORMAT}")
            cursor.execute("COMMIT")
        file = os.open(building, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    except BaseException:
        for suffix in ("", *COMPANIONS):
            Path(f"{building}{suffix}").unlink(missing_ok=True)
        raise
    return result


def _migrate(
    former: sqlite3.Cursor, cursor: sqlite3.Cursor
) -> tuple[tuple[int, int], list[DamagedMessage]]:
    fields = schema.FIELDS.removesuffix(", lane")
    messages, damaged = 0, list[DamagedMessage]()
    for row in former.execute(f"SELECT {fields} FROM letters ORDER BY seq"):
        try:
            message = from_format_1(row)
        except msgspec.ValidationError as error:
            damaged.append(damage.from_row(row, None, f"its row is damaged: {error}"))
            damage.record(cursor, damaged[-1])
        else:
            messages += schema.insert_as_is(cursor, message)
    keys = 0
    for row in former.execute("SELECT key, id, done_at, result FROM keys"):
        schema.insert_key(cursor, row)
        keys += 1
    clock = former.execute("SELECT boot, ran, wall, own FROM clock").fetchone()
    if clock is not None:
        schema.save_clock(cursor, ClockRecord(*clock))
    for row in former.execute("SELECT event, receiver FROM subscriptions"):
        schema.add_subscription(cursor, row)
    return (messages, keys), damaged


def _fill(cursor: sqlite3.Cursor, found: Salvage) -> tuple[tuple[int, int], list[DamagedMessage]]:
    messages = keys = 0
    for message in found.messages():
        messages += schema.insert_as_is(cursor, message)
        if message.key is not None:
            schema.insert_key(cursor, (message.key, message.id, None, None))
    for table, row in found.others():
        keys += table == "keys"
        _insert(cursor, table, row)
    for key, done_at in found.handled.items():  # the row is damaged: an index remembers it
        schema.insert_key(cursor, damage.handled(key, done_at))
    damaged = list(found.damaged())
    for lost in damaged:
        damage.record(cursor, lost)
    # A post with the key of a damaged message is accepted again.
    cursor.execute("DELETE FROM keys WHERE done_at IS NULL AND id NOT IN (SELECT id FROM letters)")
    return (messages, keys), damaged


def _insert(cursor: sqlite3.Cursor, table: str, row: Any) -> None:
    match table:
        case "keys":
            if row[2] is not None:  # handled: it replaces the row made for a waiting message
                cursor.execute("DELETE FROM keys WHERE key = ? AND done_at IS NULL", (row[0],))
            schema.insert_key(cursor, row)
        case "clock":
            schema.save_clock(cursor, ClockRecord(*row))
        case "subscriptions":
            schema.add_subscription(cursor, row)
        case "damaged":
            damage.record(cursor, row)
        case _:
            raise ValueError(table)


def names(damaged: list[DamagedMessage]) -> list[str]:
    """Return the damaged messages for the log, as many as are named there."""
    return [
        f"id={one.id} receiver={one.receiver} method={one.method} error={one.problem}"
        for one in damaged[:MAX_NAMED]
    ]
