"""Find what can be read in a damaged file of the mailbox, and name what cannot.

Every row that fits its checksum is taken, wherever its page is. The two indexes that list every
message, by id and by receiver, name those whose rows cannot be read.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from garrison.workers.sqlite.pages import Pages, Record

from . import checksums, damage, schema
from .checksums import STORED, DamagedRow, Message
from .damage import DamagedMessage

ORDER = (*STORED, "body", "checksum")
REAL = {"posted_at", "expires_at", "died_at"}


class Salvage:
    """What can be read of a damaged file.

    Args:
        path: The file; its log is beside it.
    """

    def __init__(self, path: Path) -> None:
        self._views = [Pages(path, with_last=True)]
        if self._views[0].damaged_frames:
            without = Pages(path, with_last=False)
            self._views.append(without)
        self.ids: dict[int, str] = {}  # by seq, from the index by id
        self.receivers: dict[int, str] = {}  # by seq, from the index by receiver
        self.handled: dict[str, float] = {}  # when each key's message was handled
        self._broken: dict[int, tuple[Any, ...]] = {}  # rows that do not fit, by seq
        self._accepted_ids: set[str] = set()
        self._accepted_seqs: set[int] = set()
        for record in self._views[0].records():
            if not record.is_doubtful:
                self._list(record.values)

    def close(self) -> None:
        """Close the files."""
        for view in self._views:
            view.close()

    def _list(self, values: tuple[Any, ...]) -> None:
        """Note an entry of an index."""
        match values:
            case (str(message_id), int(seq)):
                self.ids[seq] = message_id
            case (str(receiver), int(), int(seq), float() | int(), *rest):
                if not rest or rest == [seq]:
                    self.receivers[seq] = receiver
            case (first, str(key)) if isinstance(first, int | float):
                self.handled[key] = _real(first)

    # --- rows ---------------------------------------------------------------------------------

    def messages(self) -> Iterator[Message]:
        """Yield the messages that are intact, each once."""
        for index, view in enumerate(self._views):
            for record in view.records():
                columns = len(record.values)
                if columns not in {len(schema.COLUMNS), len(schema.COLUMNS_1)}:
                    continue
                row = _letter(record)
                message = _verified(row, columns == len(schema.COLUMNS))
                if message is None:
                    if index == 0 and not record.is_doubtful:
                        self._broken[record.rowid] = row
                elif self._is_live(message, record, index):
                    self._accepted_ids.add(message.id)
                    self._accepted_seqs.add(message.seq)
                    yield message

    def _is_live(self, message: Message, record: Record, index: int) -> bool:
        """Return False for a copy of a message, and for what an old page still has of it."""
        if message.id in self._accepted_ids or message.seq in self._accepted_seqs:
            return False
        is_listed = message.seq in self.ids or message.seq in self.receivers
        if index:  # it is gone after the last commit of the log, of which more is damaged
            return is_listed or self._views[0].damaged_frames > 1
        return is_listed or not (record.is_doubtful or self._views[0].damaged_frames)

    def damaged(self) -> Iterator[DamagedMessage]:
        """Yield the messages that are listed and cannot be read; call it after `messages`."""
        named = set[str]()
        for seq in sorted({*self._broken, *self.ids, *self.receivers}):
            row, known = self._broken.get(seq), self.ids.get(seq)
            if seq in self._accepted_seqs or known in self._accepted_ids:
                continue
            if row is None:
                lost = damage.unread(known, self.receivers.get(seq, ""))
            elif known is None and row[0] in self._accepted_ids:
                continue  # a second copy, of which the seq is damaged
            else:
                lost = damage.from_row(row[:17], known, "its row does not fit its checksum")
            if lost.id not in named or lost.id == damage.LOST_ID:
                named.add(lost.id)
                yield lost

    def others(self) -> Iterator[tuple[str, Any]]:
        """Yield the rows of the other tables that are intact, each with its table's name."""
        for view in self._views:
            for record in view.records():
                if not record.is_doubtful and (found := _other(record.values)):
                    yield found


def _letter(record: Record) -> tuple[Any, ...]:
    """Return a row in the order of `Message`, then body and checksum."""
    is_first = len(record.values) == len(schema.COLUMNS_1)
    names = schema.COLUMNS_1 if is_first else schema.COLUMNS
    row = dict(zip(names, record.values, strict=True)) | {"seq": record.rowid}
    for name in REAL:
        row[name] = _real(row[name])
    return tuple(row.get(name) for name in ORDER)


def _verified(row: tuple[Any, ...], has_checksum: bool) -> Message | None:
    """Return the message of a row; None if it is damaged."""
    try:
        if has_checksum:
            return checksums.message(row)
        return from_format_1(row[:17])
    except (DamagedRow, msgspec.ValidationError):
        return None


def from_format_1(row: tuple[Any, ...]) -> Message:
    """Return the message of a row without checksums.

    Args:
        row: The first values of `Message`, in its order.

    Raises:
        msgspec.ValidationError: A value has another type.
    """
    message = msgspec.convert(dict(zip(ORDER, row, strict=False)), Message)
    if not math.isfinite(message.posted_at):
        raise msgspec.ValidationError("`posted_at` is no time")
    return message


def _other(values: tuple[Any, ...]) -> tuple[str, Any] | None:
    """Return the table and the row of a record, if it fits; of format 1, if its types fit."""
    match values:
        case (str() as key, str() as message_id, done_at, result, *rest) if len(values) <= 5:
            row = (key, message_id, _real(done_at), result)
            is_intact = rest == [checksums.of_key(row)] if rest else _is_key(row)
            return ("keys", row) if is_intact else None
        case (None, str(), _, _, _, *rest) if len(values) <= 6:
            clock = (values[1], *map(_real, values[2:5]))
            is_intact = rest == [checksums.of_clock(clock)] if rest else _is_clock(clock)
            return ("clock", clock) if is_intact else None
        case (str() as event, str() as receiver, *rest) if len(values) <= 3:
            is_intact = not rest or rest == [checksums.of_subscription((event, receiver))]
            return ("subscriptions", (event, receiver)) if is_intact else None
        case (None, *fields, checksum) if len(fields) == len(DamagedMessage.__struct_fields__):
            fields[4] = _real(fields[4])
            if checksums.of_damaged(tuple(fields)) == checksum:
                return "damaged", damage.from_record(tuple(fields))
    return None


def _real(value: Any) -> Any:
    """Return a time: SQLite stores a whole number as an integer."""
    return float(value) if isinstance(value, int) else value


def _is_key(row: tuple[Any, ...]) -> bool:
    return isinstance(row[2], float | None) and isinstance(row[3], bytes | None)


def _is_clock(row: tuple[Any, ...]) -> bool:
    return all(isinstance(value, float) for value in row[1:])
