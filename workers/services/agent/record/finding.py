"""Which recorded answers an operator requests: the latest, those of an id, or those of a room."""

import sqlite3

import msgspec

from . import schema
from .rows import Record

LINES_MOST = 200
DETAILS_MOST = 10  # answers with the same id that are shown in full


class Found(msgspec.Struct, frozen=True):
    """Answers that are shown in a line each, and in full."""

    lines: list[Record] = []
    details: list[Record] = []


def find_answers(cursor: sqlite3.Cursor, wanted: str, most: int) -> Found:
    """Return recorded answers, the newest first.

    Args:
        cursor: Reads.
        wanted: An id, or NAME/ROOM; "" is the latest of all rooms.
        most: Lines, at most `LINES_MOST`.
    """
    most = max(1, min(most, LINES_MOST))
    if not wanted:
        return Found(schema.latest(cursor, most))
    found = schema.find_by_id(cursor, wanted, DETAILS_MOST)
    if found:
        return Found(details=found)
    source, _, room = wanted.partition("/")
    lines = schema.of_room(cursor, source, room, most) if room else []
    return Found(lines, lines[:1])
