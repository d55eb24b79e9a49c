"""Tasks and a cache kept in a process, bounded, and which tasks a query means. Pure."""

import operator
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec

from garrison.workers import Task

FIELDS = frozenset(Task.__struct_fields__)
AT_ONCE = datetime.min.replace(tzinfo=UTC)  # what no time compares as: it is due
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$in": lambda value, several: value in several,
}

K = TypeVar("K", bound=Hashable)


class Tasks:
    """Tasks by their ids, in the order in which they came.

    Args:
        most: So many; a further one is refused.
        most_bytes: So large in all, as they travel.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._tasks: dict[str, Task] = {}
        self._sizes: dict[str, int] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def put(self, task: Task) -> None:
        """Keep a task, in the place of the one with its id.

        Raises:
            OverflowError: There is no room for it.
        """
        task = msgspec.structs.replace(task, scheduled_for=_aware(task.scheduled_for))
        size = len(msgspec.msgpack.encode(task))
        before = self._sizes.get(task.id)
        if before is None and len(self._tasks) >= self._most:
            raise OverflowError(f"there are {self._most} tasks already; delete some first")
        if self.bytes + size - (before or 0) > self._most_bytes:
            raise OverflowError(
                f"a task of {size} bytes has no room: all tasks may have {self._most_bytes} bytes "
                f"and have {self.bytes}; delete some first"
            )
        self._tasks[task.id], self._sizes[task.id] = task, size
        self.bytes += size - (before or 0)

    def change(self, task_id: str, fields: Mapping[str, Any]) -> None:
        """Change fields of a task.

        Raises:
            LookupError: There is no such task.
            ValueError: There is no such field, or a value does not fit it.
            OverflowError: There is no room for it.
        """
        task = self._tasks.get(task_id)
        if task is None:
            raise LookupError(f"there is no task {task_id!r}")
        _check_fields(fields)
        values = {**msgspec.structs.asdict(task), **fields, "id": task_id}
        self.put(msgspec.convert(values, Task))

    def remove(self, task_id: str) -> None:
        """Forget a task, if it is there."""
        if self._tasks.pop(task_id, None) is not None:
            self.bytes -= self._sizes.pop(task_id)

    def get(self, task_id: str) -> Task | None:
        """Return a task."""
        return self._tasks.get(task_id)

    def matching(self, query: Mapping[str, Any]) -> list[Task]:
        """Return the tasks whose fields are as asked; see `DatabaseAdapter.get_tasks`.

        Raises:
            ValueError: There is no such field or comparison, or values that do not compare.
        """
        _check_fields(query)
        return [
            task
            for task in self._tasks.values()
            if all(_fits(task, field, wanted) for field, wanted in query.items())
        ]


def _check_fields(fields: Mapping[str, Any]) -> None:
    for field in fields:
        if field not in FIELDS:
            raise ValueError(f"a task has no field {field!r}; it has {', '.join(sorted(FIELDS))}")


def _fits(task: Task, field: str, wanted: Any) -> bool:
    value = getattr(task, field)
    if field == "tags" and not isinstance(wanted, Mapping):
        asked = [wanted] if isinstance(wanted, str) else wanted
        return set(asked) <= set(value)
    if not (isinstance(wanted, Mapping) and any(str(key).startswith("$") for key in wanted)):
        return bool(_compared(field, "$eq", value, wanted))
    return all(_compared(field, name, value, other) for name, other in wanted.items())


def _compared(field: str, name: str, value: Any, other: Any) -> bool:
    compare = COMPARISONS.get(name)
    if compare is None:
        known = " ".join(COMPARISONS)
        raise ValueError(f"{field}: there is no comparison {name!r}; there are {known}")
    if field == "scheduled_for" and name != "$in":
        ordering = name not in {"$eq", "$ne"}
        value, other = _time(value, ordering), _time(other, ordering)
    elif field == "scheduled_for":
        other = [_time(one, False) for one in other]
    try:
        return bool(compare(value, other))
    except TypeError as error:
        raise ValueError(f"{field}: {name} {other!r} cannot be compared: {error}") from error


def _time(value: Any, ordering: bool) -> Any:
    """Return a time with its zone; where before and after count, none is long ago."""
    if value is None:
        return AT_ONCE if ordering else None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        return _aware(msgspec.convert(value, datetime))
    except (msgspec.ValidationError, ValueError, OverflowError, OSError) as error:
        raise ValueError(f"scheduled_for: {value!r} is no time: {error}") from error


def _aware(time: datetime | None) -> datetime | None:
    """Return a time with a zone: one without is UTC."""
    return time if time is None or time.tzinfo is not None else time.replace(tzinfo=UTC)


class Cache(Generic[K]):
    """Bytes under keys; what was least recently used gives way.

    Args:
        most: So many keys.
        most_bytes: So many bytes of values in all.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._values: OrderedDict[K, bytes] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> bytes | None:
        """Return what is under a key."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: bytes) -> bool:
        """Keep a value under a key; False where it alone is larger than all may be."""
        self.remove(key)
        if len(value) > self._most_bytes:
            return False
        self._values[key] = value
        self.bytes += len(value)
        while len(self._values) > self._most or self.bytes > self._most_bytes:
            _, dropped = self._values.popitem(last=False)
            self.bytes -= len(dropped)
        return True

    def remove(self, key: K) -> bool:
        """Forget what is under a key; False where nothing was."""
        value = self._values.pop(key, None)
        if value is None:
            return False
        self.bytes -= len(value)
        return True
