"""The record of damaged messages in the mailbox's file: name them, keep what was readable of them.

A damaged message is never delivered. Its record stays until `garrison mail drop`.
"""

import contextlib
import sqlite3
import time
from typing import Any

import msgspec

from . import checksums, schema
from .checksums import DamagedIndex, DamagedRow, Message

MAX_DAMAGED = 10_000  # records; the oldest are deleted
MAX_FIELDS = 1024 * 1024  # bytes kept of one damaged row
LOST_ID = "unknown"  # of a message or a key's message whose id cannot be read

_encode = msgspec.msgpack.Encoder().encode
_COLUMNS = "id, receiver, method, key, found_at, problem, fields"


class DamagedMessage(msgspec.Struct, kw_only=True):
    """A message that cannot be delivered because its row is damaged."""

    id: str
    receiver: str = ""
    method: str = ""
    key: str | None = None
    found_at: float = 0.0  # wall clock
    problem: str = ""
    fields: bytes = b""  # the row's values, encoded; empty if it could not be read at all


def from_row(row: tuple[Any, ...], known_id: str | None, problem: str) -> DamagedMessage:
    """Return the record of a row whose values cannot be trusted.

    Args:
        row: The values of `Message`; each may have any type.
        known_id: The id in the index, which is a second copy of it.
        problem: What is wrong.
    """
    texts = [value if isinstance(value, str) else "" for value in row[:3]]
    fields = _encode(row)
    return DamagedMessage(
        id=known_id or texts[0] or LOST_ID,
        receiver=texts[1],
        method=texts[2],
        key=row[5] if isinstance(row[5], str) else None,
        found_at=time.time(),
        problem=problem,
        fields=fields if len(fields) <= MAX_FIELDS else b"",
    )


def unread(known_id: str | None, receiver: str) -> DamagedMessage:
    """Return the record of a message of which only an index knows."""
    return DamagedMessage(
        id=known_id or LOST_ID,
        receiver=receiver,
        found_at=time.time(),
        problem="its page cannot be read",
    )


def record(cursor: sqlite3.Cursor, message: DamagedMessage) -> None:
    """Store the record of a damaged message; the same one is stored once."""
    row = msgspec.structs.astuple(message)
    known = cursor.execute(
        "SELECT 1 FROM damaged WHERE id = ? AND id != ?", (message.id, LOST_ID)
    ).fetchone()
    if known is None:
        cursor.execute(
            f"INSERT INTO damaged ({_COLUMNS}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, checksums.of_damaged(row)),
        )
        cursor.execute(
            "DELETE FROM damaged WHERE place <= (SELECT max(place) FROM damaged) - ?",
            (MAX_DAMAGED,),
        )


def count(cursor: sqlite3.Cursor) -> int:
    """Return how many damaged messages are recorded."""
    return int(cursor.execute("SELECT count(*) FROM damaged").fetchone()[0])


def listed(
    cursor: sqlite3.Cursor, receiver: str | None, most: int
) -> tuple[list[DamagedMessage], int]:
    """Return the newest records without their fields, and how many there are.

    Args:
        cursor: Of the open transaction.
        receiver: Also those whose receiver cannot be read; None is all.
        most: Maximum number of records.
    """
    where = "?1 IS NULL OR receiver IN (?1, '')"
    rows = cursor.execute(
        f"SELECT {_COLUMNS} FROM damaged WHERE {where} ORDER BY place DESC LIMIT ?2",
        (receiver, most),
    ).fetchall()
    (total,) = cursor.execute(f"SELECT count(*) FROM damaged WHERE {where}", (receiver,)).fetchone()
    return [from_record(row) for row in rows], int(total)


def get(cursor: sqlite3.Cursor, message_id: str) -> DamagedMessage | None:
    """Return the record of a damaged message."""
    row = cursor.execute(
        f"SELECT {_COLUMNS} FROM damaged WHERE id = ? LIMIT 1", (message_id,)
    ).fetchone()
    return None if row is None else from_record(row)


def holding(cursor: sqlite3.Cursor, wanted: bytes) -> list[DamagedMessage]:
    """Return the records whose readable bytes contain others."""
    rows = cursor.execute(f"SELECT {_COLUMNS} FROM damaged WHERE instr(fields, ?)", (wanted,))
    return [from_record(row) for row in rows.fetchall()]


def drop_holding(cursor: sqlite3.Cursor, wanted: bytes) -> int:
    """Delete those records; return how many."""
    return cursor.execute("DELETE FROM damaged WHERE instr(fields, ?)", (wanted,)).rowcount


def from_record(row: tuple[Any, ...]) -> DamagedMessage:
    """Return the record of a row of the table `damaged`."""
    names = DamagedMessage.__struct_fields__
    return DamagedMessage(**dict(zip(names, row, strict=True)))


# --- set one row aside --------------------------------------------------------------------------


def set_aside(cursor: sqlite3.Cursor, error: DamagedRow) -> str:
    """Take a row that does not fit its checksum out of its table; return its name.

    Raises:
        DamagedIndex: The file must be rebuilt.
    """
    match error.table:
        case "letters":
            return _set_aside_message(cursor, error.place)
        case "keys":
            return _set_aside_key(cursor, error.place)
        case _:
            event, receiver = error.place
            cursor.execute(
                "DELETE FROM subscriptions WHERE event = ? AND receiver = ?", (event, receiver)
            )
            return f"subscription of {receiver!r} to {event!r}"


def _set_aside_message(cursor: sqlite3.Cursor, seq: Any) -> str:
    row = cursor.execute(
        f"SELECT {schema.READ} FROM letters NOT INDEXED WHERE seq = ?", (seq,)
    ).fetchone()
    with contextlib.suppress(DamagedRow):
        if row is None or checksums.message(row):
            raise DamagedIndex(f"an index does not fit message {seq}")
    index = "SELECT id FROM letters INDEXED BY sqlite_autoindex_letters_1 WHERE seq = ? LIMIT 1"
    known = cursor.execute(index, (seq,)).fetchone()
    known_id = known[0] if known and isinstance(known[0], str) else None
    damaged = from_row(row[:17], known_id, "its row does not fit its checksum")
    record(cursor, damaged)
    cursor.execute("DELETE FROM letters WHERE seq = ?", (seq,))
    # A post with its key is accepted again.
    cursor.execute("DELETE FROM keys WHERE done_at IS NULL AND id = ?", (damaged.id,))
    return f"message {damaged.id} for {damaged.receiver}.{damaged.method}"


def _set_aside_key(cursor: sqlite3.Cursor, key: Any) -> str:
    """Keep the key: a second post with it must not be delivered. Its result is lost."""
    cursor.execute("DELETE FROM keys WHERE key = ?", (key,))
    if isinstance(key, str):
        waiting = cursor.execute("SELECT id FROM letters WHERE key = ?", (key,)).fetchone()
        clock = schema.get_clock(cursor)
        done = handled(key, clock.own if clock else 0.0)
        schema.insert_key(cursor, (key, waiting[0], None, None) if waiting else done)
    return f"key {key!r}"


def handled(key: str, done_at: float) -> checksums.KeyRow:
    """Return the row of a key whose message was handled, without its result."""
    return key, LOST_ID, done_at, None


# --- find damaged rows --------------------------------------------------------------------------


def scan(cursor: sqlite3.Cursor, after: int, most: int, with_index: bool = True) -> int:
    """Verify messages and that the indexes by which they are delivered have them.

    Args:
        cursor: Of the open transaction.
        after: Only messages with a higher seq.
        most: Maximum number of messages.
        with_index: False if the index was checked already.

    Returns:
        The last seq that was verified; 0 if there are no more.

    Raises:
        DamagedRow: Of the first message that is damaged.
        DamagedIndex: An index lacks a message.
    """
    rows = cursor.execute(
        f"SELECT {schema.READ} FROM letters NOT INDEXED WHERE seq > ? ORDER BY seq LIMIT ?",
        (after, most),
    )
    last, found, other = 0, 0, cursor.connection.cursor()
    for row in rows:
        message = checksums.message(row)
        last, found = message.seq, found + 1
        if with_index and not _is_listed(other, message):
            raise DamagedIndex(f"an index lacks message {message.id}")
    return last if found == most else 0


def _is_listed(cursor: sqlite3.Cursor, message: Message) -> bool:
    row = cursor.execute(
        "SELECT 1 FROM letters INDEXED BY by_receiver WHERE receiver = ? AND state = ? AND seq = ?",
        (message.receiver, message.state, message.seq),
    ).fetchone()
    return row is not None and (message.lane is None or _is_in_lane(cursor, message))


def _is_in_lane(cursor: sqlite3.Cursor, message: Message) -> bool:
    if message.state != checksums.WAITING:
        return True
    row = cursor.execute(
        "SELECT 1 FROM letters INDEXED BY by_lane "
        "WHERE receiver = ? AND lane = ? AND state = 0 AND seq = ?",
        (message.receiver, message.lane, message.seq),
    ).fetchone()
    return row is not None


def scan_keys(cursor: sqlite3.Cursor) -> None:
    """Verify all keys.

    Raises:
        DamagedRow: Of the first key that is damaged.
    """
    for row in cursor.execute("SELECT key, id, done_at, result, checksum FROM keys"):
        checksums.key(row)
