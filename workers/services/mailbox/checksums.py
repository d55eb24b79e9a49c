"""The checksum of each row of the mailbox's file, and the rows as values. Pure.

CRC-32 over the row's encoded values; each table begins with a number of its own, so that a row
never fits another table. SQLite has no checksum of its own for a page: a byte that changed on the
disk would be delivered.
"""

import zlib
from typing import Any

import msgspec

WAITING, DEAD = 0, 1
LETTER, KEY, CLOCK, SUBSCRIPTION, DAMAGED = range(1, 6)  # where each table's checksum begins

_encode = msgspec.msgpack.Encoder().encode
_crc32 = zlib.crc32

KeyRow = tuple[str, str, float | None, bytes | None]  # key, id, done_at, result


class DamagedRow(Exception):
    """A row does not fit its checksum.

    Args:
        table: Its name.
        place: Its primary key: a seq, a key, or an event and a receiver.
    """

    def __init__(self, table: str, place: Any) -> None:
        super().__init__(f"the row {place!r} of {table} does not fit its checksum")
        self.table, self.place = table, place


class DamagedIndex(Exception):
    """A row is intact, but an index points to it wrongly or not at all."""


class Message(msgspec.Struct, kw_only=True):
    """One posted message, as it is stored."""

    id: str
    receiver: str  # NAME
    method: str
    args: bytes  # an encoded list
    kwargs: bytes  # an encoded map
    key: str | None = None
    sender: str = ""
    posted_at: float = 0.0
    expires_at: float | None = None
    seq: int = 0
    attempts: int = 0  # deliveries that failed
    deaths: int = 0  # receiver crashes with this message in flight
    state: int = WAITING
    reason: str = ""  # error of the last attempt
    death: str = ""  # the incarnation that crashed last, "NAME-GENERATION"
    died_at: float | None = None  # when it became a dead letter; of others: when to retry
    lane: str | None = None  # messages of one lane are delivered one after the other
    trace: str = ""  # that it was posted in; in a table of its own, and in no checksum

    @property
    def size(self) -> int:
        """Return about how many bytes it takes in memory and on disk."""
        return len(self.args) + len(self.kwargs) + 300


STORED = Message.__struct_fields__[:-1]  # in the row of the message itself
_SEQ = STORED.index("seq")


def of_body(args: bytes, kwargs: bytes) -> int:
    """Return the checksum of a message's arguments."""
    return _crc32(kwargs, _crc32(args, LETTER))


def of_header(row: tuple[Any, ...], body: int) -> int:
    """Return the checksum of a message's other values.

    Args:
        row: The message's values, in the order of `Message`.
        body: The checksum of its arguments.
    """
    return _crc32(_encode((row[:3], row[5:17], body)), LETTER)


def of_key(row: tuple[Any, ...]) -> int:
    """Return the checksum of a `KeyRow`."""
    return _crc32(_encode(row), KEY)


def of_clock(row: tuple[Any, ...]) -> int:
    """Return the checksum of a clock record's values."""
    return _crc32(_encode(row), CLOCK)


def of_subscription(row: tuple[Any, ...]) -> int:
    """Return the checksum of an event and a receiver."""
    return _crc32(_encode(row), SUBSCRIPTION)


def of_damaged(row: tuple[Any, ...]) -> int:
    """Return the checksum of the record of a damaged message."""
    return _crc32(_encode(row), DAMAGED)


def message(row: tuple[Any, ...]) -> Message:
    """Return the message of a row: the values of `Message`, `body`, `checksum`.

    Raises:
        DamagedRow: The row does not fit its checksums.
    """
    args, kwargs = row[3], row[4]
    is_blob = isinstance(args, bytes) and isinstance(kwargs, bytes)
    if not is_blob or of_body(args, kwargs) != row[17]:
        raise DamagedRow("letters", row[_SEQ])
    return header(row)


def header(row: tuple[Any, ...]) -> Message:
    """Return the message of a row whose arguments were not read.

    Raises:
        DamagedRow: The other values do not fit their checksum.
    """
    if of_header(row, row[17]) != row[18]:
        raise DamagedRow("letters", row[_SEQ])
    return Message(**dict(zip(STORED, row, strict=False)))


def key(row: tuple[Any, ...]) -> KeyRow:
    """Return the values of a key's row: those of `KeyRow`, and `checksum`.

    Raises:
        DamagedRow: The row does not fit its checksum.
    """
    if of_key(row[:4]) != row[4]:
        raise DamagedRow("keys", row[0])
    return row[0], row[1], row[2], row[3]
