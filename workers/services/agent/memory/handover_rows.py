"""What `memory.db` hands over to a database: batches in order, and their removal once it has them.

Each function may run again after a commit whose outcome is unknown.
"""

import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from garrison.workers import Memory, Task

from .memory_rows import decoded

BATCH_BYTES = 1024 * 1024  # of memories; one that is larger is a batch of its own
BATCH = 200  # rows

_decode_task = msgspec.msgpack.Decoder(Task).decode
_decode_value = msgspec.msgpack.Decoder().decode


class Memories(NamedTuple):
    """Memories of one table and agent, by the numbers of their rows."""

    agent: str
    table: str
    rows: dict[int, Memory]


class OneTask(msgspec.Struct, frozen=True):
    """A task, and its row."""

    number: int
    agent: str
    task: Task


class OneValue(msgspec.Struct, frozen=True):
    """A cached value, and its row."""

    number: int
    agent: str
    key: str
    value: Any
    expires: float | None


def memories(cursor: sqlite3.Cursor, after: int) -> Memories | None:
    """Return the next memories; None: there are no more."""
    query = (
        "SELECT seq, agent, name, size, memory, embedding FROM memories WHERE seq > ? "
        "ORDER BY seq LIMIT ?"
    )
    found, size = dict[int, Memory](), 0
    batch: Memories | None = None
    for number, agent, table, row_size, memory, vector in cursor.execute(query, (after, BATCH)):
        size += row_size
        if batch is None:
            batch = Memories(agent, table, found)
        elif (agent, table) != batch[:2] or size > BATCH_BYTES:
            break
        found[number] = decoded([(memory, vector)])[0]
    return batch


def tasks(cursor: sqlite3.Cursor, after: int) -> list[OneTask]:
    """Return the next tasks."""
    query = "SELECT seq, agent, task FROM tasks WHERE seq > ? ORDER BY seq LIMIT ?"
    rows = cursor.execute(query, (after, BATCH))
    return [OneTask(number, agent, _decode_task(task)) for number, agent, task in rows.fetchall()]


def values(cursor: sqlite3.Cursor, after: int, now: float) -> list[OneValue]:
    """Return the next cached values that have not expired."""
    query = (
        "SELECT seq, agent, key, value, expires FROM cache WHERE seq > ? "
        "AND (expires IS NULL OR expires > ?) ORDER BY seq LIMIT ?"
    )
    rows = cursor.execute(query, (after, now, BATCH)).fetchall()
    return [
        OneValue(number, agent, key, _decode_value(value), expires)
        for number, agent, key, value, expires in rows
    ]


def remove(cursor: sqlite3.Cursor, table: str, numbers: Iterable[int]) -> None:
    """Delete rows that the database has."""
    cursor.executemany(f"DELETE FROM {table} WHERE seq = ?", [(one,) for one in numbers])
