"""SQL that finds and deletes the memories and tasks of a person in `memory.db`.

Each function reads or writes some rows in one transaction: `after` is the last seq that was seen.
"""

import re
import sqlite3
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import msgspec

from garrison.workers import Memory, Task
from garrison.workers.sqlite.erasing import needle

from . import memory_rows

SCANNED = 500  # rows of one transaction

IsOf = Callable[[str, str, float], bool]  # of a source, a person and when it was stored

_decode_memory = msgspec.msgpack.Decoder(Memory).decode
_decode_task = msgspec.msgpack.Decoder(Task).decode


class Place(NamedTuple):
    """A room of a table of an agent."""

    agent: str
    table: str
    room: str


class Scanned(msgspec.Struct, frozen=True):
    """Some rows that were looked through."""

    last: int  # seq; 0: there are no more
    found: dict[int, tuple[Place, str]]  # by seq: where a memory of the person is, and its id


def memories(cursor: sqlite3.Cursor, after: int, is_of: IsOf, person: str = "") -> Scanned:
    """Look through some memories for those of a person.

    Args:
        cursor: Reads.
        after: The last seq that was seen.
        is_of: Recognizes the person.
        person: Their id, if it is known: then other rows are not decoded.
    """
    rows = cursor.execute(
        "SELECT seq, agent, name, room, id, entity, created_at, CASE WHEN ?1 = '' OR entity = ?1 "
        f"THEN memory END FROM memories WHERE seq > ?2 ORDER BY seq LIMIT {SCANNED}",
        (person, after),
    ).fetchall()
    found = dict[int, tuple[Place, str]]()
    for seq, agent, table, room, memory_id, entity, created_at, memory in rows:
        if memory is not None and entity and is_of(_source(memory), entity, created_at):
            found[seq] = (Place(agent, table, room), memory_id)
    return Scanned(rows[-1][0] if len(rows) == SCANNED else 0, found)


def answers(cursor: sqlite3.Cursor, place: Place, ids: Collection[str]) -> list[int]:
    """Return the memories of a room that answer others."""
    rows = cursor.execute(
        "SELECT seq, memory FROM memories WHERE agent = ? AND name = ? AND room = ?", place
    )
    return [seq for seq, memory in rows if _decode_memory(memory).content.in_reply_to in ids]


def tasks(cursor: sqlite3.Cursor, is_of: IsOf, person: str = "") -> list[int]:
    """Return the tasks of a person. A task states no source. Arguments are those of `memories`."""
    rows = cursor.execute(
        "SELECT seq, task FROM tasks WHERE ?1 = x'' OR instr(task, ?1)",
        (needle(person) if person else b"",),
    )
    decoded = [(seq, _decode_task(task)) for seq, task in rows]
    return [
        seq
        for seq, task in decoded
        if task.entity_id and is_of("", task.entity_id, task.created_at)
    ]


def cached(cursor: sqlite3.Cursor, person: str) -> list[int]:
    """Return the cached values whose key has the id as a word of its own."""
    word = re.compile(rf"(?<![0-9A-Za-z]){re.escape(person)}(?![0-9A-Za-z])")
    rows = cursor.execute("SELECT seq, key FROM cache WHERE instr(key, ?)", (person,))
    return [seq for seq, key in rows if word.search(key)]


def delete(cursor: sqlite3.Cursor, table: str, seqs: Iterable[int]) -> int:
    """Delete rows; return how many there were."""
    cursor.executemany(f"DELETE FROM {table} WHERE seq = ?", [(seq,) for seq in seqs])
    return max(cursor.rowcount, 0)


def read_memories(cursor: sqlite3.Cursor, seqs: Iterable[int]) -> list[Memory]:
    """Return the memories of rows with their vectors."""
    found = memory_rows.of_numbers(cursor, seqs)
    return memory_rows.decoded(row for row in found if row is not None)


def read_tasks(cursor: sqlite3.Cursor, seqs: Iterable[int]) -> list[Task]:
    """Return the tasks of rows."""
    query = "SELECT task FROM tasks WHERE seq = ?"
    rows = [cursor.execute(query, (seq,)).fetchone() for seq in seqs]
    return [_decode_task(row[0]) for row in rows if row is not None]


def _source(memory: bytes) -> str:
    value: Any = _decode_memory(memory)
    return str(value.content.source)
