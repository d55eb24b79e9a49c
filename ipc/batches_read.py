"""Counts the batches that a worker has read from each sender, where its SIGKILL cannot lose them.

The table is the end of the flight recorder's file. After the worker's end the supervisor compares
it with what it routed: a batch that was never read was never run, and may be sent again.
"""

import mmap
import os
import struct
from pathlib import Path

from .messages import TOKEN_BYTES, Token, is_direct

SENDERS = 512  # that are counted at the same time; with more, nothing is known
MAGIC = b"GARRCV01"

_HEADER = struct.Struct("<8sQ")  # magic; 1 if a sender found no place
_ENTRY = struct.Struct(f"<{TOKEN_BYTES}sQ")  # sender, batches; an empty sender is a free place
_WORD = 8  # bytes; counts are stored by whole words, which a kill cannot tear
SIZE = _HEADER.size + SENDERS * _ENTRY.size


class BatchesRead:
    """The table of one worker, in a file's last `SIZE` bytes.

    Args:
        file: The mapped file, of zeros yet; `SIZE` before its end is a multiple of 8.
    """

    def __init__(self, file: mmap.mmap) -> None:
        self._bytes = memoryview(file)[len(file) - SIZE :]
        self._words = self._bytes.cast("Q")
        self._counts: dict[Token, int] = {}  # sender → index of its count
        _HEADER.pack_into(self._bytes, 0, MAGIC, 0)
        first = (_HEADER.size + TOKEN_BYTES) // _WORD
        places = range(first, first + SENDERS * _ENTRY.size // _WORD, _ENTRY.size // _WORD)
        self._unused = iter(places)
        self._free: list[int] = []  # those that were used before

    def add(self, sender: Token) -> None:
        """Count one batch."""
        at = self._counts.get(sender)
        if at is None and (at := self._take(sender)) is None:
            return
        self._words[at] += 1

    def forget(self, sender: Token) -> None:
        """Remove a sender that has ended."""
        at = self._counts.pop(sender, None)
        if at is not None:
            self._place(at, b"")
            self._free.append(at)

    def clear(self) -> None:
        """Begin anew, with another router. Direct routes go on, and so do their counts."""
        for sender in [sender for sender in self._counts if not is_direct(sender)]:
            self.forget(sender)
        if not self._counts:  # a sender that found no place may be a direct route
            _HEADER.pack_into(self._bytes, 0, MAGIC, 0)

    def close(self) -> None:
        """Release the file."""
        self._words.release()
        self._bytes.release()

    def _take(self, sender: Token) -> int | None:
        at = None
        if len(sender) == TOKEN_BYTES:
            at = self._free.pop() if self._free else next(self._unused, None)
        if at is None:
            _HEADER.pack_into(self._bytes, 0, MAGIC, 1)
            return None
        self._counts[sender] = at
        self._place(at, sender)
        return at

    def _place(self, at: int, sender: Token) -> None:
        _ENTRY.pack_into(self._bytes, at * _WORD - TOKEN_BYTES, sender, 0)


def read(path: Path) -> dict[Token, int] | None:
    """Return the batches read by an ended worker, by sender; None: unknown. Never raises."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < SIZE:
                return None
            file.seek(size - SIZE)
            table = file.read(SIZE)
    except OSError:
        return None
    magic, crowded = _HEADER.unpack_from(table)
    if len(table) < SIZE or magic != MAGIC or crowded:
        return None
    entries = _ENTRY.iter_unpack(table[_HEADER.size :])
    return {sender: count for sender, count in entries if any(sender)}
