"""The cached values in `memory.db`: the statements that write and read them.

Each function may run again after a commit whose outcome is unknown. Times are seconds since the
epoch, sizes are bytes.
"""

import sqlite3
from typing import NamedTuple

from . import schema

EXPIRED = 1_000  # values deleted at a time


class Bounds(NamedTuple):
    """How much is kept; beyond it the value that was stored longest ago is removed."""

    keys: int
    bytes: int


def put(
    cursor: sqlite3.Cursor,
    agent: str,
    key: str,
    value: bytes,
    expires: float | None,
    bounds: Bounds,
) -> bool:
    """Store a value; False if it is larger than the whole cache may be."""
    remove(cursor, agent, key)
    size = len(value) + len(key.encode())
    if size > bounds.bytes:
        return False
    query = "INSERT INTO cache (agent, key, expires, size, value) VALUES (?, ?, ?, ?, ?)"
    cursor.execute(query, (agent, key, expires, size, value))
    while True:
        keys, used = schema.count(cursor, "cache")
        if keys <= bounds.keys and used <= bounds.bytes:
            return True
        cursor.execute("DELETE FROM cache WHERE seq = (SELECT min(seq) FROM cache)")


def find(cursor: sqlite3.Cursor, agent: str, key: str, now: float) -> bytes | None:
    """Return the value of a key, or None."""
    query = (
        "SELECT value FROM cache WHERE agent = ? AND key = ? AND (expires IS NULL OR expires > ?)"
    )
    row = cursor.execute(query, (agent, key, now)).fetchone()
    return None if row is None else bytes(row[0])


def remove(cursor: sqlite3.Cursor, agent: str, key: str, now: float = 0.0) -> bool:
    """Delete a key; return whether it existed and had not expired."""
    existed = find(cursor, agent, key, now) is not None
    cursor.execute("DELETE FROM cache WHERE agent = ? AND key = ?", (agent, key))
    return existed


def remove_expired(cursor: sqlite3.Cursor, now: float) -> int:
    """Delete some of the values that have expired; return how many."""
    oldest = "SELECT seq FROM cache WHERE expires <= ? LIMIT ?"
    cursor.execute(f"DELETE FROM cache WHERE seq IN ({oldest})", (now, EXPIRED))
    return cursor.rowcount
