"""SQL that finds and deletes the recorded messages of a person, with their answers.

Each function reads or writes some rows in one transaction: `after` is the last seq that was seen.
"""

import sqlite3
from collections.abc import Callable

import msgspec

from garrison.workers import Memory
from garrison.workers.sqlite.erasing import needle

from . import schema
from .rows import MessageKey, Record, Why

SCANNED = 500  # rows of one transaction

IsOf = Callable[[str, str, float], bool]  # of a source, a person and when the message arrived

_decode_memory = msgspec.msgpack.Decoder(Memory).decode
_decode_why = msgspec.msgpack.Decoder(Why).decode
_encode = msgspec.msgpack.Encoder().encode


class Scanned(msgspec.Struct, frozen=True):
    """Some rows that were looked through."""

    last: int  # seq; 0: there are no more
    found: list[tuple[int, MessageKey]]  # of the person


def scan(cursor: sqlite3.Cursor, after: int, is_of: IsOf, person: str = "") -> Scanned:
    """Look through some records for those of a person.

    Args:
        cursor: Reads.
        after: The last seq that was seen.
        is_of: Recognizes the person.
        person: Their id, if it is known: then other rows are not decoded.
    """
    rows = cursor.execute(
        "SELECT seq, source, room, id, given, heard_at, CASE WHEN ?1 = x'' OR instr(memory, ?1) "
        f"THEN memory END FROM messages WHERE seq > ?2 ORDER BY seq LIMIT {SCANNED}",
        (needle(person) if person else b"", after),
    ).fetchall()
    found = list[tuple[int, MessageKey]]()
    for seq, source, room, message_id, given, heard_at, memory in rows:
        sender = _sender(memory)
        if sender and is_of(source, sender, heard_at):
            found.append((seq, MessageKey(source, room, message_id, given)))
    return Scanned(rows[-1][0] if len(rows) == SCANNED else 0, found)


def _sender(memory: bytes | None) -> str:
    if memory is None:
        return ""
    try:
        return _decode_memory(memory).entity_id
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        return ""  # it cannot be read; it is deleted when it is old


def part_ids(cursor: sqlite3.Cursor, seqs: list[int]) -> list[str]:
    """Return the ids of the responses of records, by which platforms know them."""
    query = "SELECT id FROM parts WHERE message = ?"
    return [row[0] for seq in seqs for row in cursor.execute(query, (seq,))]


def records(cursor: sqlite3.Cursor, keys: list[MessageKey]) -> list[Record]:
    """Return the records of messages; those that cannot be read are left out."""
    found: list[Record] = []
    for key in keys:
        try:
            record = schema.find(cursor, key)
        except schema.UnreadableRecord:
            continue
        if record is not None:
            found.append(record)
    return found


def delete(cursor: sqlite3.Cursor, seqs: list[int]) -> int:
    """Delete records with their steps and parts; return how many rows."""
    rows = 0
    one = [(seq,) for seq in seqs]
    for table, column in (
        ("sent", "message"),
        ("parts", "message"),
        ("steps", "message"),
        ("messages", "seq"),
    ):
        cursor.executemany(f"DELETE FROM {table} WHERE {column} = ?", one)
        rows += cursor.rowcount
    return rows


def clear_context(cursor: sqlite3.Cursor, room: tuple[str, str]) -> int:
    """Clear what models were shown for the other messages of a room: a prompt has the conversation
    before it. Return how many records had some.

    Args:
        cursor: Of the open transaction.
        room: A source and a room.
    """
    rows = cursor.execute("SELECT seq, why FROM messages WHERE source = ? AND room = ?", room)
    cleared = 0
    for seq, encoded in rows.fetchall():
        try:
            why = _decode_why(encoded)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
            continue
        if why.context or why.prompt:
            why.context = why.prompt = ""
            cursor.execute("UPDATE messages SET why = ? WHERE seq = ?", (_encode(why), seq))
            cleared += 1
    return cleared
