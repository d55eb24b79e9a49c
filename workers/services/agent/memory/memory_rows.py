"""The memories in `memory.db`: the statements that write and read them.

Each function may run again after a commit whose outcome is unknown. Sizes are bytes.
"""

import json
import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from garrison.workers import Memory

from . import schema, similarity

MODEL = "embedding_model"  # key of a memory's metadata
COLUMNS = (
    "agent, id, name, room, world, entity, created_at, is_unique, size, dimension, model, "
    "length, embedding, memory"
)
PLACES = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
NEWEST = "ORDER BY created_at DESC, seq DESC"

Row = tuple[bytes, bytes | None]  # the memory, and its vector

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Memory).decode


class Bounds(NamedTuple):
    """How much is kept; beyond it the oldest memory is removed."""

    per_room: int  # memories of a room in one table
    memories: int
    bytes: int


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which memories of an agent; None and "" stand for all. See `DatabaseAdapter`."""

    agent: str
    table: str
    rooms: list[str] | None = None
    world: str | None = None
    entity: str | None = None
    start: float | None = None
    end: float | None = None
    unique: bool | None = None
    before: str | None = None  # id of a memory
    dimension: int | None = None
    model: str = ""

    @property
    def where(self) -> tuple[str, list[Any]]:
        """Return the condition and its values."""
        conditions, values = ["agent = ?", "name = ?"], list[Any]([self.agent, self.table])
        if self.rooms is not None and len(self.rooms) == 1:
            conditions.append("room = ?")
            values.append(self.rooms[0])
        elif self.rooms is not None:
            conditions.append("room IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(self.rooms))
        if self.before is not None:
            last = "(SELECT created_at, seq FROM memories WHERE agent = ? AND id = ?)"
            conditions.append(f"(created_at, seq) < {last}")
            values += [self.agent, self.before]
        for condition, value in (
            ("world = ?", self.world),
            ("entity = ?", self.entity),
            ("created_at >= ?", self.start),
            ("created_at <= ?", self.end),
            ("is_unique = ?", self.unique),
            ("dimension > 0 AND dimension = ?", self.dimension),  # as its index says
            ("model = ?", self.model or None),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        return " AND ".join(conditions), values


class Prepared(msgspec.Struct, frozen=True):
    """A memory as its row."""

    values: tuple[Any, ...]

    @classmethod
    def of(cls, memory: Memory, table: str, agent: str, bounds: Bounds) -> "Prepared":
        """Return a memory's row.

        Raises:
            ValueError: It is larger than all together may be.
        """
        vector = None if memory.embedding is None else similarity.encode(memory.embedding)
        encoded = _encode(msgspec.structs.replace(memory, embedding=None, similarity=None))
        size = len(encoded) + len(vector or b"") + len(table.encode())
        if size > bounds.bytes:
            raise ValueError(
                f"memory {memory.id} has {size} bytes; the limit for all is {bounds.bytes}"
            )
        model = memory.metadata.get(MODEL)
        return cls(
            (
                agent,
                memory.id,
                table,
                memory.room_id,
                memory.world_id,
                memory.entity_id,
                memory.created_at,
                memory.unique,
                size,
                len(memory.embedding or ()),
                model if isinstance(model, str) else "",
                similarity.length(memory.embedding or ()),
                vector,
                encoded,
            )
        )


# --- writing ------------------------------------------------------------------------------------


def add(cursor: sqlite3.Cursor, row: Prepared, bounds: Bounds) -> int:
    """Store a memory, unless one with its id exists; return how many were removed for it."""
    query = f"INSERT OR IGNORE INTO memories ({COLUMNS}) VALUES ({PLACES})"
    cursor.execute(query, row.values)
    return _remove_oldest(cursor, row, bounds) if cursor.rowcount else 0


def replace(cursor: sqlite3.Cursor, row: Prepared, bounds: Bounds) -> bool:
    """Replace the memory with the same id, in its table; False if there is none."""
    agent, memory_id, _, *rest = row.values
    columns = COLUMNS.removeprefix("agent, id, name, ")
    places = PLACES.removeprefix("?, ?, ?, ")
    query = f"UPDATE memories SET ({columns}) = ({places}) WHERE agent = ? AND id = ?"
    cursor.execute(query, (*rest, agent, memory_id))
    if not cursor.rowcount:
        return False
    found = "SELECT name FROM memories WHERE agent = ? AND id = ?"
    (table,) = cursor.execute(found, (agent, memory_id)).fetchone()
    _remove_oldest(cursor, Prepared((agent, memory_id, table, *rest)), bounds)
    return True


def remove(cursor: sqlite3.Cursor, agent: str, ids: Iterable[str]) -> None:
    """Delete memories."""
    query = "DELETE FROM memories WHERE agent = ? AND id = ?"
    cursor.executemany(query, [(agent, one) for one in ids])


def remove_room(cursor: sqlite3.Cursor, agent: str, table: str, room: str) -> None:
    """Delete all memories of a room in one table."""
    query = "DELETE FROM memories WHERE agent = ? AND name = ? AND room = ?"
    cursor.execute(query, (agent, table, room))


def _remove_oldest(cursor: sqlite3.Cursor, row: Prepared, bounds: Bounds) -> int:
    """Keep the bounds after a memory was stored; return how many were removed."""
    agent, _, table, room, *_ = row.values
    removed = 0
    own = "memories WHERE agent = ? AND name = ? AND room = ?"
    (in_room,) = cursor.execute(f"SELECT count(*) FROM {own}", (agent, table, room)).fetchone()
    if in_room > bounds.per_room:
        oldest = f"(SELECT seq FROM {own} ORDER BY seq LIMIT ?)"
        excess = in_room - bounds.per_room
        cursor.execute(f"DELETE FROM memories WHERE seq IN {oldest}", (agent, table, room, excess))
        removed += excess
    while True:
        rows, size = schema.count(cursor, "memories")
        if rows <= bounds.memories and size <= bounds.bytes:
            return removed
        cursor.execute("DELETE FROM memories WHERE seq = (SELECT min(seq) FROM memories)")
        removed += 1


# --- reading ------------------------------------------------------------------------------------


def find(cursor: sqlite3.Cursor, wanted: Wanted, limit: int | None, offset: int = 0) -> list[Row]:
    """Return memories, the newest first."""
    where, values = wanted.where
    query = f"SELECT memory, embedding FROM memories WHERE {where} {NEWEST} LIMIT ? OFFSET ?"
    most = -1 if limit is None else max(limit, 0)
    return cursor.execute(query, (*values, most, max(offset, 0))).fetchall()


def find_by_ids(
    cursor: sqlite3.Cursor, agent: str, ids: list[str], table: str | None = None
) -> list[Row]:
    """Return the memories that exist, in the order of the ids."""
    query = "SELECT memory, embedding, name FROM memories WHERE agent = ? AND id = ?"
    rows = (cursor.execute(query, (agent, one)).fetchone() for one in dict.fromkeys(ids))
    return [row[:2] for row in rows if row is not None and table in {None, row[2]}]


def number(cursor: sqlite3.Cursor, wanted: Wanted) -> int:
    """Return the number of memories."""
    where, values = wanted.where
    (found,) = cursor.execute(f"SELECT count(*) FROM memories WHERE {where}", values).fetchone()
    return int(found)


def vectors(cursor: sqlite3.Cursor, wanted: Wanted, after: int, most: int) -> list[similarity.Row]:
    """Return rows that have a vector, in the order of their numbers."""
    where, values = wanted.where
    columns, order = "seq, length, embedding", "AND seq > ? ORDER BY seq LIMIT ?"
    query = f"SELECT {columns} FROM memories WHERE {where} {order}"
    return cursor.execute(query, (*values, after, most)).fetchall()


def of_numbers(cursor: sqlite3.Cursor, numbers: Iterable[int]) -> list[Row | None]:
    """Return the memories of rows; None where one was deleted meanwhile."""
    query = "SELECT memory, embedding FROM memories WHERE seq = ?"
    return [cursor.execute(query, (one,)).fetchone() for one in numbers]


def decoded(rows: Iterable[Row]) -> list[Memory]:
    """Return the memories of rows."""
    found: list[Memory] = []
    for encoded, vector in rows:
        memory = _decode(encoded)
        memory.embedding = None if vector is None else similarity.decode(vector)
        found.append(memory)
    return found
