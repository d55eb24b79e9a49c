"""SQL that reads the first waiting message of each lane.

The index `by_lane` has each waiting message that is in a lane, in the order of receiver, lane and
seq.
"""

import sqlite3

from . import checksums, schema
from .checksums import DamagedIndex, Message
from .lane_queue import LaneRead, LanesFound

MAX_PASSED = 500  # lanes of a pass in one transaction

# Named, because SQLite would take `by_receiver` and go through the messages of all lanes.
_LANES = "FROM letters INDEXED BY by_lane WHERE state = 0 AND receiver = ?"
_FIRST = f"{_LANES} AND lane = ? ORDER BY seq LIMIT 1"


def read(cursor: sqlite3.Cursor, receiver: str, wanted: LaneRead) -> LanesFound:
    """Return the first messages of a receiver's lanes.

    Raises:
        DamagedRow: A message does not fit its checksum.
        DamagedIndex: The index names a lane that its message is not in.
    """
    found: list[Message] = []
    size, reached, passed = 0, wanted.after, 0
    names = iter(wanted.lanes)
    while (
        name := next(names, None) if wanted.lanes else _next_lane(cursor, receiver, reached)
    ) is not None:
        passed += 1
        message = None if name in wanted.known else first(cursor, receiver, name, wanted.now)
        if message is not None:
            size += message.size
            if found and size > wanted.max_bytes:
                return LanesFound(found, reached, False)
            found.append(message)
        reached = name
        if not wanted.lanes and (len(found) == wanted.most or passed == MAX_PASSED):
            return LanesFound(found, reached, False)
    return LanesFound(found, reached, True)


def _next_lane(cursor: sqlite3.Cursor, receiver: str, after: str) -> str | None:
    """Return the lane after another one; it jumps over the messages between them."""
    row = cursor.execute(
        f"SELECT lane {_LANES} AND lane > ? ORDER BY lane LIMIT 1", (receiver, after)
    ).fetchone()
    if row is None:
        return None
    if not isinstance(row[0], str):
        raise DamagedIndex(f"the index by lane has {row[0]!r:.80} for a lane")
    return row[0]


def first(cursor: sqlite3.Cursor, receiver: str, lane: str, now: float) -> Message | None:
    """Return the first message of a lane, without its arguments if it is retried after `now`."""
    row = cursor.execute(f"SELECT {schema.READ_HEADER} {_FIRST}", (receiver, lane)).fetchone()
    if row is None:
        return None
    message = checksums.header(row[1:])
    if message.lane != lane or message.receiver != receiver:
        raise DamagedIndex(f"the index by lane does not fit message {message.id}")
    if message.died_at is not None and message.died_at > now:
        return message
    row = cursor.execute(
        f"SELECT {schema.READ} FROM letters WHERE seq = ?", (message.seq,)
    ).fetchone()
    if row is None:
        raise DamagedIndex(f"the index by lane has message {message.id}, its table does not")
    return schema.with_trace(cursor, checksums.message(row))
