"""The mailbox's tables, and the SQL statements that write and read them.

`seq` is the order in which messages were posted. Times are the mailbox's own (see `clock`). Each
row has a checksum (see `checksums`); a row that does not fit raises `DamagedRow`, and the store
sets it aside.
"""

import sqlite3
from collections.abc import Callable, Container, Iterable
from typing import Any

import msgspec

from garrison.ipc import TRACE_MOST

from . import checksums
from .checksums import DEAD, WAITING, DamagedRow, Message
from .clock import ClockRecord

# Of the file; a newer one is rejected. It is raised with every change of a table's columns.
FORMAT = 2

VACUUM_PAGES = 2_560  # empty pages that each pruning returns to the disk: 10 MiB
EXPIRE_MOST = 10_000  # messages in one transaction

# A file that was written before lanes were used lacks it; it is added when the file is opened.
BY_LANE = (
    "CREATE INDEX IF NOT EXISTS by_lane ON letters (receiver, lane, seq) "
    "WHERE state = 0 AND lane IS NOT NULL"
)

# Of messages that were posted in a trace; likewise. What is lost with it is a link alone.
TRACES = (
    "CREATE TABLE IF NOT EXISTS traces (id TEXT PRIMARY KEY, trace TEXT NOT NULL) WITHOUT ROWID"
)

ADDED = {"by_lane": BY_LANE, "traces": TRACES}  # to files of this format, when they are opened

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS letters (
    seq INTEGER PRIMARY KEY,
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
    lane TEXT,
    body INTEGER NOT NULL,  -- checksum of args and kwargs
    checksum INTEGER NOT NULL,  -- of all other columns
    args BLOB NOT NULL,  -- last: columns before it are read without it
    kwargs BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS by_receiver ON letters (receiver, state, seq, posted_at);
{BY_LANE};
CREATE INDEX IF NOT EXISTS by_death ON letters (died_at) WHERE state = 1;
CREATE INDEX IF NOT EXISTS by_expiry ON letters (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS keys (
    key TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    done_at REAL,
    result BLOB,
    checksum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_end ON keys (done_at);
CREATE INDEX IF NOT EXISTS by_result ON keys (done_at) WHERE result IS NOT NULL;
CREATE TABLE IF NOT EXISTS clock (
    place INTEGER PRIMARY KEY CHECK (place = 0),
    boot TEXT NOT NULL,
    ran REAL NOT NULL,
    wall REAL NOT NULL,
    own REAL NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS subscriptions (
    event TEXT NOT NULL,
    receiver TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (event, receiver)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS damaged (
    place INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    receiver TEXT NOT NULL,
    method TEXT NOT NULL,
    key TEXT,
    found_at REAL NOT NULL,  -- wall clock
    problem TEXT NOT NULL,
    fields BLOB NOT NULL,  -- what the row held
    checksum INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS by_damaged_id ON damaged (id);
{TRACES};
"""


_COLUMNS = (
    "seq id receiver method key sender posted_at expires_at attempts deaths state reason death "
    "died_at lane body checksum args kwargs"
)
COLUMNS = _COLUMNS.split()  # of the table `letters`
COLUMNS_1 = [name for name in COLUMNS if name not in {"lane", "body", "checksum"}]  # in format 1
FIELDS = (
    "id, receiver, method, args, kwargs, key, sender, posted_at, expires_at, seq, attempts, "
    "deaths, state, reason, death, died_at, lane"
)
READ = f"{FIELDS}, body, checksum"
# Without the arguments, which may be large.
READ_HEADER = f"length(args) + length(kwargs), {READ}".replace("args, kwargs, key", "x'', x'', key")

INSERT = f"INSERT OR IGNORE INTO letters ({READ}) VALUES ({', '.join('?' * 19)})"
INSERT_KEY = (
    "INSERT OR IGNORE INTO keys (key, id, done_at, result, checksum) VALUES (?, ?, ?, ?, ?)"
)


# --- messages -----------------------------------------------------------------------------------


def insert(cursor: sqlite3.Cursor, message: Message, seq: int) -> tuple[str, int]:
    """Store a message; return its id and seq. For a known key, return the first id and 0.

    It may run again after a commit whose outcome is unknown.
    """
    if message.key is not None:
        row = (message.key, message.id, None, None)
        if not insert_key(cursor, row):
            known = get_key(cursor, message.key)
            if known is not None and known[0] != message.id:
                return known[0], 0
    message.seq = seq
    if not insert_as_is(cursor, message):
        row = cursor.execute("SELECT seq FROM letters WHERE id = ?", (message.id,)).fetchone()
        return message.id, int(row[0]) if row else 0
    return message.id, seq


def insert_key(cursor: sqlite3.Cursor, row: checksums.KeyRow) -> bool:
    """Store a key; False if it is there already."""
    cursor.execute(INSERT_KEY, (*row, checksums.of_key(row)))
    return cursor.rowcount > 0


def insert_as_is(cursor: sqlite3.Cursor, message: Message) -> bool:
    """Store a message with its seq and state; False if its id or seq is there already."""
    cursor.execute(INSERT, _row(message))
    is_new = cursor.rowcount > 0
    if is_new:
        insert_traces(cursor, [message])
    return is_new


def _row(message: Message) -> tuple[Any, ...]:
    row = msgspec.structs.astuple(message)[: len(checksums.STORED)]
    body = checksums.of_body(message.args, message.kwargs)
    return (*row, body, checksums.of_header(row, body))


def insert_traces(cursor: sqlite3.Cursor, messages: Iterable[Message]) -> None:
    """Store the traces of messages that have one."""
    if rows := [(one.id, one.trace) for one in messages if one.trace]:
        cursor.executemany("INSERT OR REPLACE INTO traces VALUES (?, ?)", rows)


def with_trace(cursor: sqlite3.Cursor, message: Message) -> Message:
    """Return a message that was read, with the trace that it was posted in."""
    row = cursor.execute("SELECT trace FROM traces WHERE id = ?", (message.id,)).fetchone()
    if row is not None and isinstance(row[0], str):
        message.trace = row[0][:TRACE_MOST]
    return message


def acknowledge(cursor: sqlite3.Cursor, message: Message, result: bytes, now: float) -> None:
    """Delete a message that was handled; its key keeps the result."""
    cursor.execute("DELETE FROM letters WHERE seq = ?", (message.seq,))
    if not cursor.rowcount:
        # Its row was damaged after it had been read: it was delivered all the same.
        cursor.execute("DELETE FROM damaged WHERE id = ?", (message.id,))
    if message.trace:
        cursor.execute("DELETE FROM traces WHERE id = ?", (message.id,))
    if message.key is not None:
        set_key(cursor, (message.key, message.id, now, result or None))


def set_key(cursor: sqlite3.Cursor, row: checksums.KeyRow) -> None:
    """Change the row of a key; one that was deleted stays so."""
    cursor.execute(
        "UPDATE keys SET id = ?, done_at = ?, result = ?, checksum = ? WHERE key = ?",
        (*row[1:], checksums.of_key(row), row[0]),
    )


def update(cursor: sqlite3.Cursor, message: Message) -> bool:
    """Store the state of a message that was not handled; False if it was dropped."""
    body = checksums.of_body(message.args, message.kwargs)
    return _update(cursor, message, body, message.seq)


def _update(cursor: sqlite3.Cursor, message: Message, body: int, seq: int) -> bool:
    cursor.execute(
        "UPDATE letters SET seq = ?, attempts = ?, deaths = ?, state = ?, reason = ?, death = ?, "
        "died_at = ?, checksum = ? WHERE seq = ?",
        (
            message.seq,
            message.attempts,
            message.deaths,
            message.state,
            message.reason,
            message.death,
            message.died_at,
            checksums.of_header(msgspec.structs.astuple(message), body),
            seq,
        ),
    )
    return cursor.rowcount > 0


def replay(
    cursor: sqlite3.Cursor,
    ids: list[str] | None,
    receivers: list[str] | None,
    next_seq: Callable[[], int],
) -> list[str]:
    """Queue dead letters again, behind the waiting messages; return their receivers.

    Args:
        cursor: Of the open transaction.
        ids: The messages.
        receivers: NAMEs of which all are queued, besides. Both None: all are.
        next_seq: Returns a new seq: the receiver's queue may have read past the old one.
    """
    dead = f"SELECT {READ_HEADER} FROM letters WHERE state = 1"
    if ids is None and receivers is None:
        rows = cursor.execute(dead).fetchall()
    else:
        chosen = [("id", one) for one in ids or ()]
        chosen += [("receiver", one) for one in receivers or ()]
        rows = [
            row
            for column, one in dict.fromkeys(chosen)
            for row in cursor.execute(f"{dead} AND {column} = ?", (one,))
        ]
    read = ((checksums.header(row[1:]), row[-2]) for row in rows)
    found = sorted({one[0].seq: one for one in read}.values(), key=lambda one: one[0].seq)
    for message, body in found:
        changed = msgspec.structs.replace(
            message, seq=next_seq(), state=WAITING, attempts=0, deaths=0, reason="", died_at=None
        )
        _update(cursor, changed, body, message.seq)
    return [message.receiver for message, _ in found]


def drop(cursor: sqlite3.Cursor, ids: list[str]) -> int:
    """Delete messages in any state, with their keys; return how many existed."""
    count = 0
    for one in ids:  # one by one: SQLite limits the number of values in a statement
        cursor.execute(
            "DELETE FROM keys WHERE key = (SELECT key FROM letters WHERE id = ?)", (one,)
        )
        cursor.execute("DELETE FROM letters WHERE id = ?", (one,))
        known = cursor.rowcount
        cursor.execute("DELETE FROM traces WHERE id = ?", (one,))
        cursor.execute("DELETE FROM damaged WHERE id = ?", (one,))
        count += max(known, min(cursor.rowcount, 1))
    return count


def expire(cursor: sqlite3.Cursor, now: float, kept: Container[str] = ()) -> list[str]:
    """Delete waiting messages that expired, except those to keep; return their ids."""
    rows = cursor.execute(
        f"SELECT {READ_HEADER} FROM letters WHERE expires_at <= ? AND state = 0 "
        f"LIMIT {EXPIRE_MOST}",
        (now,),
    )
    # Verified: an index that is damaged must not delete a message.
    found = [checksums.header(row[1:]).id for row in rows.fetchall()]
    ids = [one for one in found if one not in kept]
    drop(cursor, ids)
    return ids


def read_waiting(
    cursor: sqlite3.Cursor, receiver: str, after: int, most: int, max_bytes: int
) -> tuple[list[Message], bool]:
    """Return a receiver's next messages without a lane, in order; and whether there are no more.

    Args:
        cursor: Of the open transaction.
        receiver: Its NAME.
        after: Only messages with a higher seq.
        most: Maximum number of messages.
        max_bytes: Maximum total size; a single larger message is returned alone.
    """
    rows = cursor.execute(
        f"SELECT {READ} FROM letters WHERE receiver = ? AND state = 0 AND seq > ? "
        "AND lane IS NULL ORDER BY seq LIMIT ?",
        (receiver, after, most),
    )
    found: list[Message] = []
    size = 0
    for row in rows:
        message = checksums.message(row)
        size += message.size
        if found and size > max_bytes:
            return [with_trace(cursor, one) for one in found], False
        found.append(message)
    return [with_trace(cursor, one) for one in found], len(found) < most


def count_by_receiver(
    cursor: sqlite3.Cursor,
) -> list[tuple[str, int, int, float | None, float | None]]:
    """Return, for each receiver: waiting, dead, post time of the oldest waiting and oldest dead."""
    rows = cursor.execute(
        "SELECT CAST(receiver AS TEXT), sum(state = 0), sum(state = 1), "  # an index may be damaged
        "CAST(min(CASE state WHEN 0 THEN posted_at END) AS REAL), "
        "CAST(min(CASE state WHEN 1 THEN posted_at END) AS REAL) "
        "FROM letters GROUP BY receiver ORDER BY receiver"
    )
    return rows.fetchall()


def list_oldest(
    cursor: sqlite3.Cursor, receiver: str | None, most: int
) -> list[tuple[Message, int]]:
    """Return the oldest messages of each state without arguments, and the arguments' bytes."""
    found: list[tuple[Message, int]] = []
    for state in (WAITING, DEAD):
        rows = cursor.execute(
            f"SELECT {READ_HEADER} FROM letters "
            f"WHERE state = {state} AND (?1 IS NULL OR receiver = ?1) ORDER BY seq LIMIT ?2",
            (receiver, most),
        )
        found += [(checksums.header(row[1:]), row[0]) for row in rows.fetchall()]
    return found


def get_message(cursor: sqlite3.Cursor, message_id: str) -> Message | None:
    """Return a message; None if there is none with this id."""
    row = cursor.execute(f"SELECT {READ} FROM letters WHERE id = ?", (message_id,)).fetchone()
    return None if row is None else checksums.message(row)


def last_seq(cursor: sqlite3.Cursor) -> int:
    """Return the highest seq in the file; 0 if there is none."""
    return int(cursor.execute("SELECT max(seq) FROM letters").fetchone()[0] or 0)


# --- keys and space -----------------------------------------------------------------------------


def get_key(cursor: sqlite3.Cursor, key: str) -> tuple[str, float | None, bytes | None] | None:
    """Return a key's message id, when it was handled, and its result; None for an unknown key."""
    row = cursor.execute(
        "SELECT key, id, done_at, result, checksum FROM keys WHERE key = ?", (key,)
    ).fetchone()
    return None if row is None else checksums.key(row)[1:]


def used_pages(cursor: sqlite3.Cursor) -> int:
    """Return the number of pages of the file that are in use."""
    (pages,) = cursor.execute("PRAGMA page_count").fetchone()
    (free,) = cursor.execute("PRAGMA freelist_count").fetchone()
    return int(pages) - int(free)


def clear_results(cursor: sqlite3.Cursor, most: int) -> int:
    """Delete the oldest results; their keys stay. Return how many there were."""
    rows = cursor.execute(
        "SELECT key, id, done_at, result, checksum FROM keys "
        "WHERE result IS NOT NULL ORDER BY done_at LIMIT ?",
        (most,),
    ).fetchall()
    for row in rows:
        key, message_id, done_at, _ = checksums.key(row)
        set_key(cursor, (key, message_id, done_at, None))
    return len(rows)


def prune(
    cursor: sqlite3.Cursor,
    before: float,
    max_keys: int,
    max_dead: int,
    dead_before: float = float("-inf"),
) -> int:
    """Delete old keys of delivered messages, and dead letters; return how many dead letters.

    Args:
        cursor: Of the open transaction.
        before: Delete keys whose message was delivered earlier.
        max_keys: Keys to keep.
        max_dead: Dead letters to keep.
        dead_before: Delete dead letters that are older.
    """
    cursor.execute("DELETE FROM keys WHERE done_at < ?", (before,))
    cursor.execute(
        "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE done_at IS NOT NULL "
        "ORDER BY done_at DESC LIMIT -1 OFFSET ?)",
        (max_keys,),
    )
    dead = f"SELECT {READ_HEADER} FROM letters WHERE state = 1"
    rows = cursor.execute(f"{dead} ORDER BY died_at DESC LIMIT -1 OFFSET ?", (max_dead,)).fetchall()
    rows += cursor.execute(f"{dead} AND died_at < ?", (dead_before,)).fetchall()
    ids = list({checksums.header(row[1:]).id for row in rows})
    drop(cursor, ids)
    cursor.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    return len(ids)


# --- clock and subscriptions --------------------------------------------------------------------


def get_clock(cursor: sqlite3.Cursor) -> ClockRecord | None:
    """Return the clock record that was saved last; None also for a damaged one."""
    row = cursor.execute("SELECT boot, ran, wall, own, checksum FROM clock").fetchone()
    if row is None or checksums.of_clock(row[:4]) != row[4]:
        return None
    return ClockRecord(*row[:4])


def save_clock(cursor: sqlite3.Cursor, record: ClockRecord) -> None:
    """Save the clock record."""
    row = msgspec.structs.astuple(record)
    cursor.execute(
        "INSERT OR REPLACE INTO clock (place, boot, ran, wall, own, checksum) "
        "VALUES (0, ?, ?, ?, ?, ?)",
        (*row, checksums.of_clock(row)),
    )


def set_subscriptions(cursor: sqlite3.Cursor, receiver: str, events: Iterable[str]) -> None:
    """Replace a receiver's subscriptions."""
    cursor.execute("DELETE FROM subscriptions WHERE receiver = ?", (receiver,))
    for event in events:
        add_subscription(cursor, (event, receiver))


def add_subscription(cursor: sqlite3.Cursor, row: tuple[str, str]) -> None:
    """Store that an event has a receiver."""
    cursor.execute(
        "INSERT OR IGNORE INTO subscriptions (event, receiver, checksum) VALUES (?, ?, ?)",
        (*row, checksums.of_subscription(row)),
    )


def get_subscriptions(cursor: sqlite3.Cursor) -> dict[str, set[str]]:
    """Return each receiver's events."""
    found: dict[str, set[str]] = {}
    rows = cursor.execute("SELECT event, receiver, checksum FROM subscriptions").fetchall()
    for event, receiver, checksum in rows:
        if checksums.of_subscription((event, receiver)) != checksum:
            raise DamagedRow("subscriptions", (event, receiver))
        found.setdefault(receiver, set()).add(event)
    return found
