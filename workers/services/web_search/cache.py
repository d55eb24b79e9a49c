"""A cache whose entries end after a time, bounded by count and bytes. Pure.

`now` is monotonic seconds, passed in.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple


class _Entry(NamedTuple):
    data: bytes
    until: float


class Cache:
    """Encoded values by key; beyond a bound the one that was used longest ago is removed.

    Args:
        seconds: How long a value is kept; 0 keeps none.
        entries: At most.
        size: Bytes of all values at most.
    """

    def __init__(self, seconds: float, entries: int, size: int) -> None:
        self._seconds, self._entries, self._most = seconds, entries, size
        self._found: OrderedDict[Hashable, _Entry] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: Hashable, now: float) -> bytes | None:
        """Return a value that is still kept."""
        entry = self._found.get(key)
        if entry is None:
            return None
        if entry.until <= now:
            self._remove(key)
            return None
        self._found.move_to_end(key)
        return entry.data

    def put(self, key: Hashable, data: bytes, now: float) -> None:
        """Keep a value; one that is larger than all may be is not kept."""
        self._remove(key)
        if not self._seconds or not self._entries or len(data) > self._most:
            return
        self._found[key] = _Entry(data, now + self._seconds)
        self.size += len(data)
        while len(self._found) > self._entries or self.size > self._most:
            self._remove(next(iter(self._found)))

    def _remove(self, key: Hashable) -> None:
        entry = self._found.pop(key, None)
        if entry is not None:
            self.size -= len(entry.data)
