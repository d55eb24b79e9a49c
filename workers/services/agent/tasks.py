"""Tasks, their queries, and a cache, in the process's memory, bounded. Pure. Sizes are bytes."""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from garrison.workers import Task, TaskChanges, TaskQuery

K = TypeVar("K", bound=Hashable)


class Tasks:
    """Tasks by their ids, in the order of creation.

    Args:
        max_count: Number of tasks; a further one is rejected.
        max_bytes: Encoded size in total.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count, self._max_bytes = max_count, max_bytes
        self._tasks: dict[str, Task] = {}
        self._sizes: dict[str, int] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def put(self, task: Task) -> None:
        """Store a task, or replace the one with the same id.

        Raises:
            OverflowError: There is no room.
        """
        size = len(msgspec.msgpack.encode(task))
        old_size = self._sizes.get(task.id)
        if old_size is None and len(self._tasks) >= self._max_count:
            raise OverflowError(f"there are {self._max_count} tasks already; delete some first")
        if self.bytes + size - (old_size or 0) > self._max_bytes:
            raise OverflowError(
                f"no room for a task of {size} bytes: {self.bytes} of {self._max_bytes} bytes are "
                "in use; delete some first"
            )
        self._tasks[task.id], self._sizes[task.id] = task, size
        self.bytes += size - (old_size or 0)

    def change(self, task_id: str, fields: Mapping[str, Any]) -> None:
        """Change fields of a task.

        Raises:
            LookupError: There is no such task.
            ValueError: There is no such field, or a value has the wrong type.
            OverflowError: There is no room.
        """
        task = self._tasks.get(task_id)
        if task is None:
            raise LookupError(f"there is no task {task_id!r}")
        self.put(TaskChanges.parse(fields).apply(task))

    def remove(self, task_id: str) -> None:
        """Delete a task, if it exists."""
        if self._tasks.pop(task_id, None) is not None:
            self.bytes -= self._sizes.pop(task_id)

    def get(self, task_id: str) -> Task | None:
        """Return a task; None if it does not exist."""
        return self._tasks.get(task_id)

    def matching(self, query: Mapping[str, Any]) -> list[Task]:
        """Return the tasks that match a query; see `DatabaseAdapter.get_tasks`.

        Raises:
            ValueError: There is no such field or comparison, or the values are not comparable.
        """
        return TaskQuery.parse(query).select(self._tasks.values())


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
