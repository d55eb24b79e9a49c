"""SQL that finds notices of dead letters which have not been handled, and the lanes behind them."""

import sqlite3

import msgspec

from . import checksums, notices, schema
from .checksums import DEAD
from .notices import HeldLane

_END = notices.LANE[:-1] + chr(ord(notices.LANE[-1]) + 1)  # behind all lanes of notices


class PendingNotice(msgspec.Struct, frozen=True):
    """A notice that waits, and the lane of its dead letter."""

    id: str
    poster: str  # its receiver
    held: HeldLane


def read(cursor: sqlite3.Cursor) -> list[PendingNotice]:
    """Return the notices of dead letters that were in a lane, `PENDING_MOST` at most.

    Raises:
        DamagedRow: A message does not fit its checksum.
    """
    found: list[PendingNotice] = []
    for poster, *_ in schema.count_by_receiver(cursor):
        rows = cursor.execute(
            f"SELECT {schema.READ} FROM letters INDEXED BY by_lane WHERE state = 0 "
            "AND receiver = ? AND lane > ? AND lane < ? LIMIT ?",
            (poster, notices.LANE, _END, notices.PENDING_MOST - len(found)),
        )
        for notice in map(checksums.message, rows.fetchall()):
            held = _lane_behind(cursor, notice) if notices.is_notice(notice) else None
            if held is not None:
                found.append(PendingNotice(notice.id, poster, held))
    return found


def _lane_behind(cursor: sqlite3.Cursor, notice: checksums.Message) -> HeldLane | None:
    """Return the lane of a notice's dead letter; None if that is none any more."""
    row = cursor.execute(
        f"SELECT {schema.READ_HEADER} FROM letters WHERE id = ?", (notices.dead_letter_id(notice),)
    ).fetchone()
    dead = None if row is None else checksums.header(row[1:])
    if dead is None or dead.state != DEAD or dead.lane is None:
        return None
    return HeldLane(dead.receiver, dead.lane)
