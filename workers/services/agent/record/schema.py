"""The tables of `answers.db`, and the SQL statements that write and read them.

Each function may run again after a commit whose outcome is unknown.
"""

import contextlib
import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec

from garrison.workers import ActionResult, Content, Memory

from .rows import (
    MessageKey,
    MessageState,
    Outcome,
    Part,
    PlannedStep,
    Record,
    StepKind,
    StepState,
    Why,
)

# Of the file; a newer one is rejected. It is raised with every change of a table's columns.
FORMAT = 1

PRUNED = 1_000  # records deleted in one transaction
VACUUM_PAGES = 2_560  # empty pages that each pruning returns to the disk: 10 MiB

SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    room TEXT NOT NULL,
    id TEXT NOT NULL,
    given TEXT NOT NULL,
    state TEXT NOT NULL,
    posted INTEGER NOT NULL,
    heard_at REAL NOT NULL,
    decided_at REAL,
    done_at REAL,
    why BLOB NOT NULL,
    memory BLOB NOT NULL  -- last: columns before it are read without it
);
CREATE UNIQUE INDEX IF NOT EXISTS by_key ON messages (source, room, id, given);
CREATE INDEX IF NOT EXISTS by_id ON messages (id);
CREATE INDEX IF NOT EXISTS by_room ON messages (source, room, seq);
CREATE INDEX IF NOT EXISTS by_end ON messages (done_at, heard_at);
CREATE INDEX IF NOT EXISTS by_drop ON messages (seq) WHERE state = 'dropped';
CREATE TABLE IF NOT EXISTS steps (
    message INTEGER NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    otherwise INTEGER NOT NULL,
    state TEXT NOT NULL,
    started_at REAL,
    ended_at REAL,
    results BLOB NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (message, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (
    message INTEGER NOT NULL,
    number INTEGER NOT NULL,
    step INTEGER NOT NULL,
    id TEXT NOT NULL,
    outcome TEXT,
    problem TEXT NOT NULL,
    recorded_at REAL NOT NULL,
    ended_at REAL,
    ids BLOB NOT NULL,
    memory BLOB NOT NULL,
    PRIMARY KEY (message, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_part ON parts (id);
CREATE TABLE IF NOT EXISTS sent (  -- the platforms' own ids of messages and of responses
    id TEXT NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (id, message)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_message ON sent (message);
"""

MESSAGE = "seq, source, room, id, given, state, posted, heard_at, decided_at, done_at, why, memory"
HEARD_AT = 7  # in it
STEP = "number, kind, name, otherwise, state, started_at, ended_at, results, content"
PART = "number, step, outcome, problem, recorded_at, ended_at, ids, memory"

_encode = msgspec.msgpack.Encoder().encode
_decode_memory = msgspec.msgpack.Decoder(Memory).decode
_decode_why = msgspec.msgpack.Decoder(Why).decode
_decode_results = msgspec.msgpack.Decoder(list[ActionResult]).decode
_decode_content = msgspec.msgpack.Decoder(Content | None).decode
_decode_ids = msgspec.msgpack.Decoder(list[str]).decode


class UnreadableRecord(Exception):
    """A message's record cannot be read. It never counts as a message that was not answered."""


# --- writing ------------------------------------------------------------------------------------


def put(cursor: sqlite3.Cursor, record: Record) -> int:
    """Store a record with its steps and parts, in place of what is there; return its seq."""
    query = "SELECT seq FROM messages WHERE (source, room, id, given) = (?, ?, ?, ?)"
    row = cursor.execute(query, record.key).fetchone()
    if row is None:
        cursor.execute(
            "INSERT INTO messages (source, room, id, given, state, posted, heard_at, decided_at, "
            "done_at, why, memory) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*record.key, *_progress(record), _encode(record.memory)),
        )
    else:
        cursor.execute(
            "UPDATE messages SET (state, posted, heard_at, decided_at, done_at, why) = "
            "(?, ?, ?, ?, ?, ?) WHERE seq = ?",
            (*_progress(record), row[0]),
        )
    seq = int(cursor.lastrowid or 0) if row is None else int(row[0])
    if row is None and (own := platform_id(record.key)) != record.key.id:
        cursor.execute("INSERT OR IGNORE INTO sent (id, message) VALUES (?, ?)", (own, seq))
    put_steps(cursor, seq, record.steps)
    put_parts(cursor, seq, record.parts)
    return seq


def platform_id(key: MessageKey) -> str:
    """Return the id that the platform itself gave a message."""
    return key.id.removeprefix(f"{key.source}/{key.room}/") or key.id


def _progress(record: Record) -> tuple[Any, ...]:
    return (
        record.state,
        record.posted,
        record.heard_at,
        record.decided_at,
        record.done_at,
        _encode(record.why),
    )


def put_steps(cursor: sqlite3.Cursor, seq: int, steps: Iterable[PlannedStep]) -> None:
    """Store steps, in place of those with the same numbers."""
    cursor.executemany(
        f"INSERT OR REPLACE INTO steps (message, {STEP}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                seq,
                step.number,
                step.kind,
                step.name,
                step.otherwise,
                step.state,
                step.started_at,
                step.ended_at,
                _encode(step.results),
                _encode(step.content),
            )
            for step in steps
        ],
    )


def put_parts(cursor: sqlite3.Cursor, seq: int, parts: Iterable[Part]) -> None:
    """Store parts, in place of those with the same numbers, and the platforms' ids of them."""
    for part in parts:
        cursor.execute(
            f"INSERT OR REPLACE INTO parts (message, id, {PART}) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                seq,
                part.memory.id,
                part.number,
                part.step,
                part.outcome,
                part.problem,
                part.recorded_at,
                part.ended_at,
                _encode(part.ids),
                _encode(part.memory),
            ),
        )
        cursor.executemany(
            "INSERT OR IGNORE INTO sent (id, message) VALUES (?, ?)",
            [(one, seq) for one in part.ids if one],
        )


def prune(cursor: sqlite3.Cursor, before: float, abandoned: float) -> int:
    """Delete records that ended before a time; return how many.

    An unfinished one is kept, unless it came without the mailbox: its caller no longer waits. One
    of a posted message that is older than `abandoned` is deleted too: the mailbox gave it up.
    """
    found = cursor.execute(
        "SELECT seq FROM messages WHERE done_at < ? "
        "UNION ALL SELECT seq FROM messages WHERE done_at IS NULL "
        "AND heard_at < CASE posted WHEN 0 THEN ? ELSE ? END LIMIT ?",
        (before, before, abandoned, PRUNED),
    ).fetchall()
    return _delete(cursor, found)


def prune_dropped(cursor: sqlite3.Cursor, keep: int) -> int:
    """Delete records of dropped messages beyond the newest ones; return how many."""
    dropped = "FROM messages WHERE state = 'dropped' ORDER BY seq DESC LIMIT"
    last = cursor.execute(f"SELECT seq {dropped} 1 OFFSET ?", (keep,)).fetchone()
    if last is None:
        return 0
    query = "SELECT seq FROM messages WHERE state = 'dropped' AND seq <= ? LIMIT ?"
    return _delete(cursor, cursor.execute(query, (last[0], PRUNED)).fetchall())


def _delete(cursor: sqlite3.Cursor, found: list[tuple[int]]) -> int:
    for table, column in (("sent", "message"), ("parts", "message"), ("steps", "message")):
        cursor.executemany(f"DELETE FROM {table} WHERE {column} = ?", found)
    cursor.executemany("DELETE FROM messages WHERE seq = ?", found)
    cursor.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    return len(found)


# --- reading ------------------------------------------------------------------------------------


def find(cursor: sqlite3.Cursor, key: MessageKey) -> Record | None:
    """Return a message's record; None if there is none.

    Raises:
        UnreadableRecord: There is one that cannot be read.
    """
    query = f"SELECT {MESSAGE} FROM messages WHERE (source, room, id, given) = (?, ?, ?, ?)"
    row = cursor.execute(query, key).fetchone()
    return None if row is None else _record(cursor, row)


def find_by_id(cursor: sqlite3.Cursor, wanted: str, most: int) -> list[Record]:
    """Return the records of an id, the newest first.

    Args:
        cursor: Reads.
        wanted: The id of a message, or of a part of an answer: in the host, or the platform's own.
        most: Records.
    """
    where = (
        "WHERE id = ? OR seq IN (SELECT message FROM parts WHERE id = ?) OR seq IN "
        "(SELECT message FROM sent WHERE id = ?)"
    )
    return _newest(cursor, where, (wanted, wanted, wanted), most)


def of_room(cursor: sqlite3.Cursor, source: str, room: str, most: int) -> list[Record]:
    """Return the records of a room, the newest first."""
    return _newest(cursor, "WHERE source = ? AND room = ?", (source, room), most)


def latest(cursor: sqlite3.Cursor, most: int) -> list[Record]:
    """Return the newest records of all rooms, the newest first."""
    return _newest(cursor, "", (), most)


def since(cursor: sqlite3.Cursor, heard_at: float, most: int) -> list[Record]:
    """Return the records from a time on, at most the newest ones, the oldest first."""
    found: list[Record] = []
    query = f"SELECT {MESSAGE} FROM messages ORDER BY seq DESC LIMIT ?"
    for row in cursor.connection.execute(query, (most,)):
        if row[HEARD_AT] < heard_at:
            break
        with contextlib.suppress(UnreadableRecord):
            found.append(_record(cursor, row))
    return found[::-1]


def _newest(cursor: sqlite3.Cursor, where: str, values: tuple[Any, ...], most: int) -> list[Record]:
    """Return records for an operator, the newest first; unreadable ones with their error."""
    query = f"SELECT {MESSAGE} FROM messages {where} ORDER BY seq DESC LIMIT ?"
    rows = cursor.execute(query, (*values, most)).fetchall()
    return [_record_or_problem(cursor, row) for row in rows]


def _record_or_problem(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Record:
    try:
        return _record(cursor, row)
    except UnreadableRecord as error:
        seq, *key, state, posted, heard_at, decided_at, done_at, _, _ = row
        known = MessageState(state) if state in set(MessageState) else MessageState.FAILED
        why, memory = Why(problem=str(error)), Memory(content=Content(), id=key[2])
        return Record(
            MessageKey(*key), memory, heard_at, bool(posted), known, why, decided_at, done_at,
            seq=seq,
        )  # fmt: skip


def used_pages(cursor: sqlite3.Cursor) -> int:
    """Return the number of pages that hold something."""
    (pages,) = cursor.execute("PRAGMA page_count").fetchone()
    (free,) = cursor.execute("PRAGMA freelist_count").fetchone()
    return int(pages) - int(free)


def _record(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Record:
    seq, *key, state, posted, heard_at, decided_at, done_at, why, memory = row
    steps = f"SELECT {STEP} FROM steps WHERE message = ? ORDER BY number"
    parts = f"SELECT {PART} FROM parts WHERE message = ? ORDER BY number"
    found_steps = cursor.execute(steps, (seq,)).fetchall()
    found_parts = cursor.execute(parts, (seq,)).fetchall()
    try:
        return Record(
            MessageKey(*key),
            _decode_memory(memory),
            heard_at,
            bool(posted),
            MessageState(state),
            _decode_why(why),
            decided_at,
            done_at,
            [_step(one) for one in found_steps],
            [_part(one) for one in found_parts],
            seq,
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise UnreadableRecord(
            f"the record of message {key[2]!r} cannot be read: {error}"
        ) from error


def _step(row: tuple[Any, ...]) -> PlannedStep:
    number, kind, name, otherwise, state, started_at, ended_at, results, content = row
    return PlannedStep(
        number,
        StepKind(kind),
        name,
        _decode_content(content),
        bool(otherwise),
        StepState(state),
        _decode_results(results),
        started_at,
        ended_at,
    )


def _part(row: tuple[Any, ...]) -> Part:
    number, step, outcome, problem, recorded_at, ended_at, ids, memory = row
    known = None if outcome is None else Outcome(outcome)
    return Part(
        number,
        step,
        _decode_memory(memory),
        known,
        _decode_ids(ids),
        problem,
        recorded_at,
        ended_at,
    )
