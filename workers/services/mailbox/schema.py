"""What a mailbox keeps: its rows, and the statements that make, move and read them.

`seq` is the order in which messages were taken. Times are the mailbox's own, as `clock` has them,
which is noted in the file along with what the machine's clocks said.
"""

import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec

from .clock import Kept

FORMAT = 1  # of the file; a newer one is refused, not guessed at
WAITING, DEAD = 0, 1
GIVEN_BACK = 2_560  # empty pages of the file that each pruning returns to the disk; 10 MiB

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
    args BLOB NOT NULL,  -- last: what stands before it is read without it
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
    """One message that was posted, as it is kept."""

    id: str
    receiver: str  # NAME
    method: str
    args: bytes  # a list, encoded
    kwargs: bytes  # a map, encoded
    key: str | None = None
    sender: str = ""
    posted_at: float = 0.0
    expires_at: float | None = None
    seq: int = 0
    attempts: int = 0  # deliveries that ended, in vain
    deaths: int = 0  # of its receiver, with this in flight
    state: int = WAITING
    reason: str = ""  # why the last attempt failed
    death: str = ""  # the incarnation that died with it last, "NAME-GENERATION"
    died_at: float | None = None

    @property
    def size(self) -> int:
        """Return about how many bytes it takes in memory and on disk."""
        return len(self.args) + len(self.kwargs) + 300


FIELDS = (
    "id, receiver, method, args, kwargs, key, sender, posted_at, expires_at, seq, attempts, "
    "deaths, state, reason, death, died_at"
)


def letter_of(row: tuple[Any, ...]) -> Message:
    """Return the letter of a row of `FIELDS`."""
    return Message(**dict(zip(Message.__struct_fields__, row, strict=True)))


def insert(cursor: sqlite3.Cursor, letter: Message) -> tuple[str, int]:
    """Keep a letter; return its id and place. A key that is known already returns the first one's
    id, and 0."""
    if letter.key is not None:
        cursor.execute(
            "INSERT OR IGNORE INTO keys (key, id) VALUES (?, ?)", (letter.key, letter.id)
        )
        if not cursor.rowcount:
            row = cursor.execute("SELECT id FROM keys WHERE key = ?", (letter.key,)).fetchone()
            return str(row[0]), 0
    cursor.execute(
        "INSERT INTO letters (id, receiver, method, args, kwargs, key, sender, posted_at, "
        "expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            letter.id,
            letter.receiver,
            letter.method,
            letter.args,
            letter.kwargs,
            letter.key,
            letter.sender,
            letter.posted_at,
            letter.expires_at,
        ),
    )
    assert cursor.lastrowid is not None
    return letter.id, cursor.lastrowid


def acknowledge(cursor: sqlite3.Cursor, letter: Message, result: bytes, now: float) -> None:
    """Forget a letter that was handled; its key keeps the result."""
    cursor.execute("DELETE FROM letters WHERE seq = ?", (letter.seq,))
    if letter.key is not None:
        cursor.execute(
            "UPDATE keys SET done_at = ?, result = ? WHERE key = ?",
            (now, result or None, letter.key),
        )


def note(cursor: sqlite3.Cursor, letter: Message) -> bool:
    """Keep what became of a letter that was not handled; False where it is no more."""
    cursor.execute(
        "UPDATE letters SET attempts = ?, deaths = ?, state = ?, reason = ?, death = ?, "
        "died_at = ? WHERE seq = ?",
        (
            letter.attempts,
            letter.deaths,
            letter.state,
            letter.reason,
            letter.death,
            letter.died_at,
            letter.seq,
        ),
    )
    return cursor.rowcount > 0


def replay(cursor: sqlite3.Cursor, ids: list[str] | None) -> list[str]:
    """Have dead letters delivered again, behind what waits already; return their receivers.

    Args:
        cursor: Where.
        ids: Which; None is all.
    """
    dead = "SELECT seq, receiver FROM letters WHERE state = 1"
    if ids is None:
        found = cursor.execute(f"{dead} ORDER BY seq").fetchall()
    else:
        found = [row for one in set(ids) for row in cursor.execute(f"{dead} AND id = ?", (one,))]
    for seq, _ in sorted(found):  # places are given out once: a lane may be past all that are left
        cursor.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'letters'")
        cursor.execute(
            "UPDATE letters SET state = 0, attempts = 0, deaths = 0, reason = '', died_at = NULL, "
            "seq = (SELECT seq FROM sqlite_sequence WHERE name = 'letters') WHERE seq = ?",
            (seq,),
        )
    return [receiver for _, receiver in found]


def drop(cursor: sqlite3.Cursor, ids: list[str]) -> int:
    """Forget letters, whatever they wait for; return how many there were."""
    count = 0
    for one in ids:  # not in one statement: how many values one takes is limited
        cursor.execute(
            "DELETE FROM keys WHERE key = (SELECT key FROM letters WHERE id = ?)", (one,)
        )
        cursor.execute("DELETE FROM letters WHERE id = ?", (one,))
        count += cursor.rowcount
    return count


def expire(cursor: sqlite3.Cursor, now: float) -> list[str]:
    """Forget what waits and is too late; return which."""
    rows = cursor.execute(
        "SELECT id FROM letters WHERE expires_at <= ? AND state = 0 LIMIT 10000", (now,)
    )
    ids = [str(row[0]) for row in rows.fetchall()]
    drop(cursor, ids)
    return ids


def used(cursor: sqlite3.Cursor) -> int:
    """Return how many pages of the file are in use."""
    (pages,) = cursor.execute("PRAGMA page_count").fetchone()
    (free,) = cursor.execute("PRAGMA freelist_count").fetchone()
    return int(pages) - int(free)


def forget_results(cursor: sqlite3.Cursor, most: int) -> int:
    """Have the oldest results give way, their keys stay; return how many there were."""
    cursor.execute(
        "UPDATE keys SET result = NULL WHERE key IN (SELECT key FROM keys "
        "WHERE result IS NOT NULL ORDER BY done_at LIMIT ?)",
        (most,),
    )
    return cursor.rowcount


def prune(cursor: sqlite3.Cursor, before: float, most_keys: int, most_dead: int) -> int:
    """Forget the oldest dead letters and keys of what was delivered; return how many dead ones.

    Args:
        cursor: Where.
        before: Keys whose message was delivered before that go.
        most_keys: So many stay at the most.
        most_dead: Likewise.
    """
    cursor.execute("DELETE FROM keys WHERE done_at < ?", (before,))
    cursor.execute(
        "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE done_at IS NOT NULL "
        "ORDER BY done_at DESC LIMIT -1 OFFSET ?)",
        (most_keys,),
    )
    rows = cursor.execute(
        "SELECT id FROM letters WHERE state = 1 ORDER BY died_at DESC LIMIT -1 OFFSET ?",
        (most_dead,),
    )
    ids = [str(row[0]) for row in rows.fetchall()]
    drop(cursor, ids)
    cursor.execute(f"PRAGMA incremental_vacuum({GIVEN_BACK})").fetchall()
    return len(ids)


def waiting(
    cursor: sqlite3.Cursor, receiver: str, after: int, most: int, most_bytes: int
) -> tuple[list[Message], bool]:
    """Return the next letters of a receiver, in order, and whether there are no more.

    Args:
        cursor: Where.
        receiver: Whose.
        after: A place; those behind it.
        most: So many at the most.
        most_bytes: So large together; a larger one comes alone.
    """
    rows = cursor.execute(
        f"SELECT {FIELDS} FROM letters WHERE receiver = ? AND state = 0 AND seq > ? "
        "ORDER BY seq LIMIT ?",
        (receiver, after, most),
    )
    found: list[Message] = []
    size = 0
    for row in rows:
        letter = letter_of(row)
        size += letter.size
        if found and size > most_bytes:
            return found, False
        found.append(letter)
    return found, len(found) < most


def counts(cursor: sqlite3.Cursor) -> list[tuple[str, int, int, float | None, float | None]]:
    """Return each receiver's waiting, dead, and when the oldest of both were posted."""
    rows = cursor.execute(
        "SELECT receiver, sum(state = 0), sum(state = 1), "
        "min(CASE state WHEN 0 THEN posted_at END), min(CASE state WHEN 1 THEN posted_at END) "
        "FROM letters GROUP BY receiver ORDER BY receiver"
    )
    return rows.fetchall()


def listed(cursor: sqlite3.Cursor, receiver: str | None, most: int) -> list[tuple[Message, int]]:
    """Return the oldest letters of each state, without their arguments, and those' bytes."""
    fields = FIELDS.replace("args, kwargs", "x'', x''")
    found: list[tuple[Message, int]] = []
    for state in (WAITING, DEAD):
        rows = cursor.execute(
            f"SELECT length(args) + length(kwargs), {fields} FROM letters "
            f"WHERE state = {state} AND (?1 IS NULL OR receiver = ?1) ORDER BY seq LIMIT ?2",
            (receiver, most),
        )
        found += [(letter_of(row[1:]), row[0]) for row in rows.fetchall()]
    return found


def one(cursor: sqlite3.Cursor, letter_id: str) -> Message | None:
    """Return a letter."""
    row = cursor.execute(f"SELECT {FIELDS} FROM letters WHERE id = ?", (letter_id,)).fetchone()
    return None if row is None else letter_of(row)


def key(cursor: sqlite3.Cursor, key: str) -> tuple[str, float | None, bytes | None] | None:
    """Return a key's message, when it was handled, and with which result."""
    row: tuple[str, float | None, bytes | None] | None = cursor.execute(
        "SELECT id, done_at, result FROM keys WHERE key = ?", (key,)
    ).fetchone()
    return row


def last_kept(cursor: sqlite3.Cursor) -> Kept | None:
    """Return what was noted of the clocks last."""
    row = cursor.execute("SELECT boot, ran, wall, own FROM clock").fetchone()
    return None if row is None else Kept(*row)


def keep_time(cursor: sqlite3.Cursor, kept: Kept) -> None:
    """Note what the clocks say."""
    values = msgspec.structs.astuple(kept)
    cursor.execute(
        "INSERT OR REPLACE INTO clock (place, boot, ran, wall, own) VALUES (0, ?, ?, ?, ?)", values
    )


def subscribe(cursor: sqlite3.Cursor, receiver: str, events: Iterable[str]) -> None:
    """Remember what a receiver listens to, in place of what it listened to before."""
    cursor.execute("DELETE FROM subscriptions WHERE receiver = ?", (receiver,))
    cursor.executemany(
        "INSERT OR IGNORE INTO subscriptions (event, receiver) VALUES (?, ?)",
        [(event, receiver) for event in events],
    )


def subscriptions(cursor: sqlite3.Cursor) -> dict[str, set[str]]:
    """Return each receiver's events."""
    found: dict[str, set[str]] = {}
    for event, receiver in cursor.execute("SELECT event, receiver FROM subscriptions").fetchall():
        found.setdefault(receiver, set()).add(event)
    return found
