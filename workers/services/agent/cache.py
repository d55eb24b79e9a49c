"""Values of bytes by key in the process's memory, bounded. Pure. Sizes are bytes."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Cache(Generic[K]):
    """Bytes by key, a text or several; drops the least recently used.

    Args:
        max_count: Number of keys.
        max_bytes: Size of keys and values in total.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count, self._max_bytes = max_count, max_bytes
        self._values: OrderedDict[K, bytes] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> bytes | None:
        """Return the value of a key; None if there is none."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: bytes) -> bool:
        """Store a value; False if it is larger than the whole cache may be."""
        self.remove(key)
        size = _size(key, value)
        if size > self._max_bytes:
            return False
        self._values[key] = value
        self.bytes += size
        while len(self._values) > self._max_count or self.bytes > self._max_bytes:
            self.bytes -= _size(*self._values.popitem(last=False))
        return True

    def remove(self, key: K) -> bool:
        """Delete a key; False if it did not exist."""
        value = self._values.pop(key, None)
        if value is None:
            return False
        self.bytes -= _size(key, value)
        return True


def _size(key: Hashable, value: bytes) -> int:
    """Return the bytes of a key and its value."""
    texts = key if isinstance(key, tuple) else (key,)
    return len(value) + sum(len(str(text).encode()) for text in texts)
