"""Read the records of a SQLite file page by page, without SQLite, however damaged it is.

Only what garrison's own files have is read: pages of 4,096 bytes, UTF-8, a pointer map. Every page
stands for itself: no tree is followed, so a damaged page costs its own records and no others.
The format is described at https://www.sqlite.org/fileformat2.html.
"""

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import wal

PAGE = 4096  # bytes
TABLE_LEAF, INDEX_LEAF, INDEX_INTERIOR = 0x0D, 0x0A, 0x02
TABLE_LOCAL, INDEX_LOCAL = PAGE - 35, (PAGE - 12) * 64 // 255 - 23  # bytes of a record in its page
MIN_LOCAL = (PAGE - 12) * 32 // 255 - 23
MAX_RECORD = 1 << 30  # bytes
MAP_SPAN = PAGE // 5 + 1  # a page of the pointer map, and the pages that it describes
MAP_FREE = 2
INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)  # by serial type


class Malformed(Exception):
    """A record cannot be read."""


class Record(NamedTuple):
    """One record of a page."""

    rowid: int  # 0 in an index
    values: tuple[Any, ...]
    is_doubtful: bool  # its page may be one that is not in use any more


class Pages:
    """The pages of a file together with its write-ahead log.

    Args:
        path: The file; it may be missing or unreadable in places.
        with_last: Also use the last commit of the log if it cannot be verified: it is torn by a
            power cut, or was damaged later.
    """

    def __init__(self, path: Path, with_last: bool) -> None:
        self._file: int | None = None
        with contextlib.suppress(FileNotFoundError):
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._wal = read_log(path)
        self._frames, self.damaged_frames = wal.pages(self._wal, with_last)
        count = 0 if self._file is None else os.fstat(self._file).st_size // PAGE
        most = count + len(self._frames) + 1  # a damaged frame may name any page
        self._frames = {page: start for page, start in self._frames.items() if page <= most}
        self.count = max([count, *self._frames])
        self._free = self._free_list()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)

    def read(self, number: int) -> bytes:
        """Return a page; b"" if it cannot be read."""
        start = self._frames.get(number)
        if start is not None:
            return self._wal[start : start + PAGE]
        if self._file is None:
            return b""
        try:
            page = os.pread(self._file, PAGE, (number - 1) * PAGE)
        except OSError:  # a bad sector
            return b""
        return page if len(page) == PAGE else b""

    def records(self) -> Iterator[Record]:
        """Yield every record that can be read, of tables and indexes."""
        map_page, entries = 0, b""
        for number in range(1, self.count + 1):
            at = (number - 2) // MAP_SPAN * MAP_SPAN + 2
            if number == at:
                continue
            if number > 1 and map_page != at:
                map_page, entries = at, self.read(at)
            start = (number - at - 1) * 5
            marks = (number in self._free, number > 1 and entries[start : start + 1] == b"\x02")
            if not all(marks):
                yield from self._records_of(number, any(marks))

    def _records_of(self, number: int, is_doubtful: bool) -> Iterator[Record]:
        page, start = self.read(number), 100 if number == 1 else 0
        if not page or page[start] not in {TABLE_LEAF, INDEX_LEAF, INDEX_INTERIOR}:
            return
        kind = page[start]
        cells = start + (12 if kind == INDEX_INTERIOR else 8)
        (count,) = struct.unpack_from(">H", page, start + 3)
        for index in range(min(count, (PAGE - cells) // 2)):
            (at,) = struct.unpack_from(">H", page, cells + 2 * index)
            try:
                yield self._record(page, at, kind, is_doubtful)
            except (Malformed, IndexError, struct.error):
                continue

    def _record(self, page: bytes, at: int, kind: int, is_doubtful: bool) -> Record:
        rowid = 0
        if kind == INDEX_INTERIOR:
            at += 4
        size, at = varint(page, at)
        if kind == TABLE_LEAF:
            rowid, at = varint(page, at)
        most = TABLE_LOCAL if kind == TABLE_LEAF else INDEX_LOCAL
        local = size
        if size > most:
            if size > MAX_RECORD:
                raise Malformed
            local = MIN_LOCAL + (size - MIN_LOCAL) % (PAGE - 4)
            local = local if local <= most else MIN_LOCAL
        payload = page[at : at + local]
        if size > local:
            (following,) = struct.unpack_from(">I", page, at + local)
            payload = self._overflow(payload, following, size)
        if len(payload) != size:
            raise Malformed
        return Record(rowid - (1 << 64) if rowid >> 63 else rowid, values(payload), is_doubtful)

    def _overflow(self, payload: bytes, number: int, size: int) -> bytes:
        parts, length = [payload], len(payload)
        while length < size and 0 < number <= self.count:
            page = self.read(number)
            if not page:
                break
            parts.append(page[4 : 4 + size - length])
            length += len(parts[-1])
            (number,) = struct.unpack_from(">I", page)
        return b"".join(parts)

    def _free_list(self) -> set[int]:
        """Return the pages of the free list, as far as it can be read."""
        found = set[int]()
        first = self.read(1)
        trunk = struct.unpack_from(">I", first, 32)[0] if first else 0
        while 1 < trunk <= self.count and trunk not in found and (page := self.read(trunk)):
            found.add(trunk)
            trunk, count = struct.unpack_from(">II", page)
            leaves = min(count, PAGE // 4 - 2)
            found.update(struct.unpack_from(f">{leaves}I", page, 8))
        return found


def read_log(path: Path) -> bytes:
    """Return the write-ahead log of a file, zeros where it cannot be read; b"" if there is none."""
    try:
        log = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    found = bytearray()
    try:
        size = os.fstat(log).st_size
        while len(found) < size:
            wanted = min(PAGE, size - len(found))
            try:
                part = os.pread(log, wanted, len(found))
            except OSError:  # a bad sector
                part = bytes(wanted)
            if not part:
                break
            found += part
    finally:
        os.close(log)
    return bytes(found)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, and where it ends."""
    number = 0
    for end in range(at, at + 8):
        byte = data[end]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, end + 1
    return number << 8 | data[at + 8], at + 9


def values(payload: bytes) -> tuple[Any, ...]:
    """Return the values of a record.

    Raises:
        Malformed: It does not fill its bytes exactly, or a text is not UTF-8.
    """
    head, at = varint(payload, 0)
    found, start = list[Any](), head
    while at < head:
        kind, at = varint(payload, at)
        value, size = _value(payload, start, kind)
        found.append(value)
        start += size
    if start != len(payload) or at != head:
        raise Malformed
    return tuple(found)


def _value(payload: bytes, start: int, kind: int) -> tuple[Any, int]:
    """Return the value of a serial type, and its length."""
    if kind == 0:
        return None, 0
    if kind <= 6:
        size = INTEGER_BYTES[kind]
        return int.from_bytes(payload[start : start + size], "big", signed=True), size
    if kind == 7:
        return struct.unpack_from(">d", payload, start)[0], 8
    if kind in {8, 9}:
        return kind - 8, 0
    if kind < 12:
        raise Malformed
    size = (kind - 12) // 2
    value = payload[start : start + size]
    if kind % 2 == 0:
        return value, size
    try:
        return value.decode(), size
    except UnicodeDecodeError as error:
        raise Malformed from error
