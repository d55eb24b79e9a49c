"""Stores posted messages: those of one commit together, in few statements.

A statement with many rows is one step of SQLite, during which the event loop's thread runs;
`executemany` takes the interpreter's lock back after each row.
"""

import functools
import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from garrison.workers.sqlite.writer import JoiningOperation

from . import checksums, schema
from .checksums import Message

SIZES = (64, 32, 16, 8, 4, 2, 1)  # rows of one statement; few, as each stays prepared

# The other columns of a message that was just posted have their defaults.
_COLUMNS = (
    "id, receiver, method, args, kwargs, key, sender, posted_at, expires_at, seq, lane, body, "
    "checksum"
)
_ROW = f"({', '.join('?' * 13)})"


class Insertion(JoiningOperation):
    """Stores messages; its result has, of each, that of `schema.insert`.

    Args:
        messages: The messages, as they were posted; their seqs are set.
        next_seq: Returns the next seq.
    """

    __slots__ = ("_messages", "_next_seq")

    def __init__(self, messages: Sequence[Message], next_seq: Callable[[], int]) -> None:
        self._messages, self._next_seq = messages, next_seq

    def __call__(self, cursor: sqlite3.Cursor) -> list[tuple[str, int]]:
        """Store them."""
        return insert_all(cursor, self._messages, self._next_seq)

    @classmethod
    def run_together(
        cls, cursor: sqlite3.Cursor, operations: Sequence["Insertion"]
    ) -> list[list[tuple[str, int]]]:
        """Store the messages of several."""
        messages = [message for one in operations for message in one._messages]
        found = iter(insert_all(cursor, messages, operations[0]._next_seq))
        return [list(itertools.islice(found, len(one._messages))) for one in operations]


def insert_all(
    cursor: sqlite3.Cursor, messages: Sequence[Message], next_seq: Callable[[], int]
) -> list[tuple[str, int]]:
    """Store messages as `schema.insert` does, as if one after the other."""
    known = _insert_keys(cursor, messages)
    new = [one for one in messages if one.id not in known]
    for one in new:
        one.seq = next_seq()
    if _insert_rows(cursor, new) < len(new):  # a commit whose outcome was unknown is run again
        for one in new:
            row = cursor.execute("SELECT seq FROM letters WHERE id = ?", (one.id,)).fetchone()
            one.seq = int(row[0]) if row else 0
    schema.insert_traces(cursor, (one for one in new if one.seq))
    return [(known[one.id], 0) if one.id in known else (one.id, one.seq) for one in messages]


def _insert_keys(cursor: sqlite3.Cursor, messages: Sequence[Message]) -> dict[str, str]:
    """Store the messages' keys; return the ids of messages whose key was there, each with the first
    id of its key."""
    known: dict[str, str] = {}
    if keyed := [one for one in messages if one.key is not None]:
        rows = [(one.key, one.id, None, None) for one in keyed]
        cursor.executemany(schema.INSERT_KEY, [(*row, checksums.of_key(row)) for row in rows])
        if cursor.rowcount < len(keyed):
            for one in keyed:
                found = schema.get_key(cursor, str(one.key))
                if found is not None and found[0] != one.id:
                    known[one.id] = found[0]
    return known


def _insert_rows(cursor: sqlite3.Cursor, messages: Sequence[Message]) -> int:
    """Store the rows of messages with a seq; return how many were not there."""
    count, start = 0, 0
    for size in _sizes(len(messages)):
        values: list[Any] = []
        for one in messages[start : start + size]:
            values += _values(one)
        cursor.execute(_statement(size), values)
        count += cursor.rowcount
        start += size
    return count


def _sizes(count: int) -> Iterator[int]:
    """Yield the sizes of the statements for a number of rows."""
    for size in SIZES:
        while count >= size:
            yield size
            count -= size


@functools.cache
def _statement(size: int) -> str:
    rows = ", ".join([_ROW] * size)
    return f"INSERT OR IGNORE INTO letters ({_COLUMNS}) VALUES {rows}"


def _values(message: Message) -> tuple[Any, ...]:
    row = msgspec.structs.astuple(message)[: len(checksums.STORED)]
    body = checksums.of_body(message.args, message.kwargs)
    return (*row[:10], row[16], body, checksums.of_header(row, body))
