"""The mailbox's tables, and the SQL statements that write and read them.

`seq` is the order in which messages were posted. Times are the mailbox's own (see `clock`).
"""

import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec

from .clock import ClockRecord

FORMAT = 1  # of the file; a newer one is rejected
WAITING, DEAD = 0, 1
VACUUM_PAGES = 2_560  # empty pages that each pruning returns to the disk: 10 MiB
EXPIRE_MOST = 10_000  # messages in one transaction

SCHEMA = """
CREATE TABLE IF NOT EXISTS letters (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    receiver TEXT NOT NULL,
    method TEXT NOT NULL,
    key TEXT,
    sender TEXT NOT NULL,
    posted_at REAL NOT NULL,
    expires_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    state INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    death TEXT NOT NULL DEFAULT '',
    died_at REAL,
    args BLOB NOT NULL,  -- last: columns before it are read without it
    kwargs BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS by_receiver ON letters (receiver, state, seq, posted_at);
CREATE INDEX IF NOT EXISTS by_death ON letters (died_at) WHERE state = 1;
CREATE INDEX IF NOT EXISTS by_expiry ON letters (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS keys (
    key TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    done_at REAL,
    result BLOB
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_end ON keys (done_at);
CREATE INDEX IF NOT EXISTS by_result ON keys (done_at) WHERE result IS NOT NULL;
CREATE TABLE IF NOT EXISTS clock (
    place INTEGER PRIMARY KEY CHECK (place = 0),
    boot TEXT NOT NULL,
    ran REAL NOT NULL,
    wall REAL NOT NULL,
    own REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS subscriptions (
    event TEXT NOT NULL,
    receiver TEXT NOT NULL,
    PRIMARY KEY (event, receiver)
) WITHOUT ROWID;
"""


class Message(msgspec.Struct, kw_only=True):
    """One posted message, as it is stored."""

    id: str
    receiver: str  # NAME
    method: str
    args: bytes  # an encoded list
    kwargs: bytes  # an encoded map
    key: str | None = None
    sender: str = ""
    posted_at: float = 0.0
    expires_at: float | None = None
    seq: int = 0
    attempts: int = 0  # deliveries that failed
    deaths: int = 0  # receiver crashes with this message in flight
    state: int = WAITING
    reason: str = ""  # error of the last attempt
    death: str = ""  # the incarnation that crashed last, "NAME-GENERATION"
    died_at: float | None = None  # when it became a dead letter

    @property
    def size(self) -> int:
        """Return about how many bytes it takes in memory and on disk."""
        return len(self.args) + len(self.kwargs) + 300


FIELDS = (
    "id, receiver, method, args, kwargs, key, sender, posted_at, expires_at, seq, attempts, "
    "deaths, state, reason, death, died_at"
)


def message_from_row(row: tuple[Any, ...]) -> Message:
    """Return the message of a row of `FIELDS`."""
    return Message(**dict(zip(Message.__struct_fields__, row, strict=True)))


# --- messages -----------------------------------------------------------------------------------


def insert(cursor: sqlite3.Cursor, message: Message) -> tuple[str, int]:
    """Store a message; return its id and seq. For a known key, return the first id and 0."""
    if message.key is not None:
        cursor.execute(
            "INSERT OR IGNORE INTO keys (key, id) VALUES (?, ?)", (message.key, message.id)
        )
        if not cursor.rowcount:
            row = cursor.execute("SELECT id FROM keys WHERE key = ?", (message.key,)).fetchone()
            return str(row[0]), 0
    cursor.execute(
        "INSERT INTO letters (id, receiver, method, args, kwargs, key, sender, posted_at, "
        "expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            message.id,
            message.receiver,
            message.method,
            message.args,
            message.kwargs,
            message.key,
            message.sender,
            message.posted_at,
            message.expires_at,
        ),
    )
    assert cursor.lastrowid is not None
    return message.id, cursor.lastrowid


def acknowledge(cursor: sqlite3.Cursor, message: Message, result: bytes, now: float) -> None:
    """Delete a message that was handled; its key keeps the result."""
    cursor.execute("DELETE FROM letters WHERE seq = ?", (message.seq,))
    if message.key is not None:
        cursor.execute(
            "UPDATE keys SET done_at = ?, result = ? WHERE key = ?",
            (now, result or None, message.key),
        )


def update(cursor: sqlite3.Cursor, message: Message) -> bool:
    """Store the state of a message that was not handled; False if it was dropped."""
    cursor.execute(
        "UPDATE letters SET attempts = ?, deaths = ?, state = ?, reason = ?, death = ?, "
        "died_at = ? WHERE seq = ?",
        (
            message.attempts,
            message.deaths,
            message.state,
            message.reason,
            message.death,
            message.died_at,
            message.seq,
        ),
    )
    return cursor.rowcount > 0


def replay(cursor: sqlite3.Cursor, ids: list[str] | None) -> list[str]:
    """Queue dead letters again, behind the waiting messages; return their receivers.

    Args:
        cursor: Of the open transaction.
        ids: The messages; None is all.
    """
    dead = "SELECT seq, receiver FROM letters WHERE state = 1"
    if ids is None:
        found = cursor.execute(f"{dead} ORDER BY seq").fetchall()
    else:
        found = [row for one in set(ids) for row in cursor.execute(f"{dead} AND id = ?", (one,))]
    for seq, _ in sorted(found):  # a new seq: the receiver's queue may have read past the old one
        cursor.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'letters'")
        cursor.execute(
            "UPDATE letters SET state = 0, attempts = 0, deaths = 0, reason = '', died_at = NULL, "
            "seq = (SELECT seq FROM sqlite_sequence WHERE name = 'letters') WHERE seq = ?",
            (seq,),
        )
    return [receiver for _, receiver in found]


def drop(cursor: sqlite3.Cursor, ids: list[str]) -> int:
    """Delete messages in any state, with their keys; return how many existed."""
    count = 0
    for one in ids:  # one by one: SQLite limits the number of values in a statement
        cursor.execute(
            "DELETE FROM keys WHERE key = (SELECT key FROM letters WHERE id = ?)", (one,)
        )
        cursor.execute("DELETE FROM letters WHERE id = ?", (one,))
        count += cursor.rowcount
    return count


def expire(cursor: sqlite3.Cursor, now: float) -> list[str]:
    """Delete waiting messages that expired; return their ids."""
    rows = cursor.execute(
        f"SELECT id FROM letters WHERE expires_at <= ? AND state = 0 LIMIT {EXPIRE_MOST}", (now,)
    )
    ids = [str(row[0]) for row in rows.fetchall()]
    drop(cursor, ids)
    return ids


def read_waiting(
    cursor: sqlite3.Cursor, receiver: str, after: int, most: int, max_bytes: int
) -> tuple[list[Message], bool]:
    """Return a receiver's next messages, in order, and whether there are no more.

    Args:
        cursor: Of the open transaction.
        receiver: Its NAME.
        after: Only messages with a higher seq.
        most: Maximum number of messages.
        max_bytes: Maximum total size; a single larger message is returned alone.
    """
    rows = cursor.execute(
        f"SELECT {FIELDS} FROM letters WHERE receiver = ? AND state = 0 AND seq > ? "
        "ORDER BY seq LIMIT ?",
        (receiver, after, most),
    )
    found: list[Message] = []
    size = 0
    for row in rows:
        message = message_from_row(row)
        size += message.size
        if found and size > max_bytes:
            return found, False
        found.append(message)
    return found, len(found) < most


def count_by_receiver(
    cursor: sqlite3.Cursor,
) -> list[tuple[str, int, int, float | None, float | None]]:
    """Return, for each receiver: waiting, dead, post time of the oldest waiting and oldest dead."""
    rows = cursor.execute(
        "SELECT receiver, sum(state = 0), sum(state = 1), "
        "min(CASE state WHEN 0 THEN posted_at END), min(CASE state WHEN 1 THEN posted_at END) "
        "FROM letters GROUP BY receiver ORDER BY receiver"
    )
    return rows.fetchall()


def list_oldest(
    cursor: sqlite3.Cursor, receiver: str | None, most: int
) -> list[tuple[Message, int]]:
    """Return the oldest messages of each state without arguments, and the arguments' bytes."""
    fields = FIELDS.replace("args, kwargs", "x'', x''")
    found: list[tuple[Message, int]] = []
    for state in (WAITING, DEAD):
        rows = cursor.execute(
            f"SELECT length(args) + length(kwargs), {fields} FROM letters "
            f"WHERE state = {state} AND (?1 IS NULL OR receiver = ?1) ORDER BY seq LIMIT ?2",
            (receiver, most),
        )
        found += [(message_from_row(row[1:]), row[0]) for row in rows.fetchall()]
    return found


def get_message(cursor: sqlite3.Cursor, message_id: str) -> Message | None:
    """Return a message; None if there is none with this id."""
    row = cursor.execute(f"SELECT {FIELDS} FROM letters WHERE id = ?", (message_id,)).fetchone()
    return None if row is None else message_from_row(row)


# --- keys and space -----------------------------------------------------------------------------


def get_key(cursor: sqlite3.Cursor, key: str) -> tuple[str, float | None, bytes | None] | None:
    """Return a key's message id, when it was handled, and its result; None for an unknown key."""
    row: tuple[str, float | None, bytes | None] | None = cursor.execute(
        "SELECT id, done_at, result FROM keys WHERE key = ?", (key,)
    ).fetchone()
    return row


def used_pages(cursor: sqlite3.Cursor) -> int:
    """Return the number of pages of the file that are in use."""
    (pages,) = cursor.execute("PRAGMA page_count").fetchone()
    (free,) = cursor.execute("PRAGMA freelist_count").fetchone()
    return int(pages) - int(free)


def clear_results(cursor: sqlite3.Cursor, most: int) -> int:
    """Delete the oldest results; their keys stay. Return how many there were."""
    cursor.execute(
        "UPDATE keys SET result = NULL WHERE key IN (SELECT key FROM keys "
        "WHERE result IS NOT NULL ORDER BY done_at LIMIT ?)",
        (most,),
    )
    return cursor.rowcount


def prune(cursor: sqlite3.Cursor, before: float, max_keys: int, max_dead: int) -> int:
    """Delete old keys of delivered messages, and dead letters; return how many dead letters.

    Args:
        cursor: Of the open transaction.
        before: Delete keys whose message was delivered earlier.
        max_keys: Keys to keep.
        max_dead: Dead letters to keep.
    """
    cursor.execute("DELETE FROM keys WHERE done_at < ?", (before,))
    cursor.execute(
        "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE done_at IS NOT NULL "
        "ORDER BY done_at DESC LIMIT -1 OFFSET ?)",
        (max_keys,),
    )
    rows = cursor.execute(
        "SELECT id FROM letters WHERE state = 1 ORDER BY died_at DESC LIMIT -1 OFFSET ?",
        (max_dead,),
    )
    ids = [str(row[0]) for row in rows.fetchall()]
    drop(cursor, ids)
    cursor.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    return len(ids)


# --- clock and subscriptions --------------------------------------------------------------------


def get_clock(cursor: sqlite3.Cursor) -> ClockRecord | None:
    """Return the clock record that was saved last."""
    row = cursor.execute("SELECT boot, ran, wall, own FROM clock").fetchone()
    return None if row is None else ClockRecord(*row)


def save_clock(cursor: sqlite3.Cursor, record: ClockRecord) -> None:
    """Save the clock record."""
    cursor.execute(
        "INSERT OR REPLACE INTO clock (place, boot, ran, wall, own) VALUES (0, ?, ?, ?, ?)",
        msgspec.structs.astuple(record),
    )


def set_subscriptions(cursor: sqlite3.Cursor, receiver: str, events: Iterable[str]) -> None:
    """Replace a receiver's subscriptions."""
    cursor.execute("DELETE FROM subscriptions WHERE receiver = ?", (receiver,))
    cursor.executemany(
        "INSERT OR IGNORE INTO subscriptions (event, receiver) VALUES (?, ?)",
        [(event, receiver) for event in events],
    )


def get_subscriptions(cursor: sqlite3.Cursor) -> dict[str, set[str]]:
    """Return each receiver's events."""
    found: dict[str, set[str]] = {}
    for event, receiver in cursor.execute("SELECT event, receiver FROM subscriptions").fetchall():
        found.setdefault(receiver, set()).add(event)
    return found
