"""Erase rows of a SQLite file so that nothing of them stays on the disk, and note what was applied.

`DELETE` leaves old bytes in the pages of the file and of its log. Overwriting needs `VACUUM`, which
writes the whole file again: it takes about a second for 100 MB, and as much room again.
"""

import contextlib
import sqlite3

import msgspec

START_S = 600.0  # more for a start that looks through a file and writes it again
APPLIED = "CREATE TABLE IF NOT EXISTS forgotten (place INTEGER PRIMARY KEY, mark INTEGER NOT NULL)"


def needle(text: str) -> bytes:
    """Return a text as it stands in an encoded value: where it is missing, nothing is decoded."""
    return msgspec.msgpack.encode(text)


def sweep(cursor: sqlite3.Cursor) -> str:
    """Write the file again without what was deleted, and empty its log.

    An operation of a `WriterThread`. It ends the open transaction, and begins another: operations
    of the same batch may run again after it.

    Returns:
        Why it could not be done; empty if it was done.
    """
    cursor.execute("COMMIT")
    try:
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.OperationalError as error:  # a full disk
        return str(error)
    finally:
        cursor.execute("BEGIN IMMEDIATE")
    return ""


def applied_mark(cursor: sqlite3.Cursor) -> int:
    """Return the mark of the tombstones that were applied to the file last; 0: none were."""
    with contextlib.suppress(sqlite3.OperationalError):  # there is no such table
        row = cursor.execute("SELECT mark FROM forgotten").fetchone()
        return int(row[0]) if row else 0
    return 0


def set_applied(cursor: sqlite3.Cursor, mark: int) -> None:
    """Note that tombstones were applied. The table is made when it is first needed."""
    cursor.execute(APPLIED)
    cursor.execute("INSERT OR REPLACE INTO forgotten VALUES (0, ?)", (mark,))


class NotOverwritten(Exception):
    """The rows are deleted; the disk had no room to overwrite them. Make room, then repeat it."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(
            f"the rows are deleted from {path}, but their bytes could not be overwritten: "
            f"{problem}. Make room on the disk, then repeat the command"
        )
