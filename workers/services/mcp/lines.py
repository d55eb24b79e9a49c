"""Lines of a server's output, each bounded; whose answer one is that is too long. Pure."""

import re
from collections.abc import Iterator
from typing import NamedTuple

END_BYTES = 256  # kept of the start and the end of a line that is too long

# An id is searched where the servers' libraries write it: before all else, or after.
_FIRST = re.compile(rb'\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*(\d{1,18})\s*,')
_LAST = re.compile(rb'"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*(\d{1,18})\s*\}\s*$')


class TooLong(NamedTuple):
    """A line that is longer than allowed."""

    size: int  # bytes
    request_id: int | None  # of the request that it answers, if it shows that


class Lines:
    """Splits bytes into lines.

    Args:
        most: Bytes that a line may have; a longer one is dropped.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0
        self._start = self._end = b""  # of a line that is dropped

    def feed(self, data: bytes) -> Iterator[bytes | TooLong]:
        """Yield the lines that are complete now, without their ends."""
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._add(piece)
            yield self._take()
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self._most:
            self._parts.append(piece)
            return
        if self._parts or not self._start:
            dropped = b"".join([*self._parts, piece[:END_BYTES]])
            self._start, self._end = dropped[:END_BYTES], dropped[-END_BYTES:]
            self._parts = []
        self._end = (self._end + piece)[-END_BYTES:]

    def _take(self) -> bytes | TooLong:
        if self._size <= self._most:
            line: bytes | TooLong = b"".join(self._parts)
        else:
            found = _FIRST.match(self._start) or _LAST.search(self._end)
            line = TooLong(self._size, int(found[1]) if found else None)
        self._parts, self._size, self._start, self._end = [], 0, b"", b""
        return line
