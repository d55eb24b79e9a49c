"""Queries and changes of tasks, and elizaOS's spelling of names. Pure.

Each store of tasks uses these: one in memory or in a file by `TaskQuery.matches`, one in SQL by its
conditions. Both spellings of a name are accepted, `room_id` and elizaOS's `roomId`; what is inside
`metadata` is an author's own and is not translated. Times are seconds since the epoch, datetimes or
ISO texts; a time without a zone is UTC.
"""

import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from math import isnan
from typing import Any, Self, get_type_hints

import msgspec

from .tasks import RUNNING, Task

TYPES: dict[str, Any] = get_type_hints(Task)
TIMES = frozenset({"created_at", "updated_at", "lease_until"})  # as seconds
LEASE = {"lease": "", "lease_owner": "", "lease_until": 0.0}  # no lease
FIXED = frozenset({"id", "agent_id", *LEASE})  # an update does not change these
NO_TIME = datetime.min.replace(tzinfo=UTC)  # stands for no time in an order: the task is due


class Comparison(StrEnum):
    """How a field is compared with a value."""

    EQUAL = "$eq"
    NOT_EQUAL = "$ne"
    LESS = "$lt"
    AT_MOST = "$lte"
    GREATER = "$gt"
    AT_LEAST = "$gte"
    IN = "$in"
    ALL = "$all"  # of tags: the task has all of these


ORDER: dict[Comparison, Callable[[Any, Any], bool]] = {
    Comparison.LESS: operator.lt,
    Comparison.AT_MOST: operator.le,
    Comparison.GREATER: operator.gt,
    Comparison.AT_LEAST: operator.ge,
}


class Condition(msgspec.Struct, frozen=True):
    """A condition on one field; the value has the field's type, times have a zone.

    In an order, a task without `scheduled_for` has the earliest time; any other field that is None
    matches nothing.
    """

    field: str
    comparison: Comparison
    value: Any

    def matches(self, task: Task) -> bool:
        """Return whether a task meets it."""
        value: Any = getattr(task, self.field)
        if self.field == "scheduled_for":
            value = aware(value)
        match self.comparison:
            case Comparison.EQUAL:
                return bool(value == self.value)
            case Comparison.NOT_EQUAL:
                return bool(value != self.value)
            case Comparison.IN:
                return value in self.value
            case Comparison.ALL:
                return set(self.value) <= set(value)
            case order:
                return _in_order(order, value, self.value, self.field == "scheduled_for")


class TaskQuery(msgspec.Struct, frozen=True):
    """Which tasks: those that meet all conditions, in the order of their creation."""

    conditions: tuple[Condition, ...] = ()
    limit: int | None = None
    offset: int = 0

    @classmethod
    def parse(cls, params: Mapping[str, Any] | None) -> Self:
        """Read the `params` of `get_tasks`.

        Raises:
            ValueError: There is no such field or comparison, or a value has the wrong type.
        """
        given = snake_keys(params or {})
        limit = _count("limit", given.pop("limit", None))
        offset = _count("offset", given.pop("offset", None)) or 0
        _check_fields(given)
        conditions = [one for field, wanted in given.items() for one in _conditions(field, wanted)]
        return cls(tuple(conditions), limit, offset)

    @property
    def agent_id(self) -> str | None:
        """Return the agent that the query names, if it names one."""
        for condition in self.conditions:
            if condition.field == "agent_id" and condition.comparison is Comparison.EQUAL:
                return str(condition.value)
        return None

    def matches(self, task: Task) -> bool:
        """Return whether a task meets all conditions."""
        return all(condition.matches(task) for condition in self.conditions)

    def select(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the page of those tasks that match; the tasks are in the order of creation."""
        found = [task for task in tasks if self.matches(task)]
        return found[self.offset :] if self.limit is None else found[self.offset :][: self.limit]


class TaskChanges(msgspec.Struct, frozen=True):
    """New values of a task's fields.

    `id`, `agent_id` and the lease's fields are left out: a task that was read, changed and written
    back keeps its own. A new status other than "running" ends the lease, so that a runner that is
    still at work cannot settle the task.
    """

    fields: dict[str, Any]

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """Read the fields of `update_task` or `settle_task`.

        Raises:
            ValueError: There is no such field, or a value has the wrong type.
        """
        given = snake_keys(fields)
        _check_fields(given)
        changes = {
            field: _value(field, value) for field, value in given.items() if field not in FIXED
        }
        if changes.get("status", RUNNING) != RUNNING:
            changes |= LEASE
        return cls(changes)

    def apply(self, task: Task) -> Task:
        """Return the task with the new values."""
        return msgspec.structs.replace(task, **self.fields)


def snake_case(name: str) -> str:
    """Return elizaOS's spelling of a name in snake_case: `roomId` is `room_id`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() if name[:1].islower() else name


def snake_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with their names in snake_case.

    Raises:
        ValueError: A name is there in both spellings.
    """
    result: dict[str, Any] = {}
    for name, value in values.items():
        snake = snake_case(str(name))
        if snake in result:
            raise ValueError(f"{snake!r} is given twice, also as {name!r}")
        result[snake] = value
    return result


def keywords(named: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return keyword arguments with their names in snake_case.

    Args:
        named: The arguments, such as `tableName` or `table_name`.
        known: The names that the method has.

    Raises:
        ValueError: The method has no such argument.
    """
    result = snake_keys(named)
    for name in result:
        if name not in known:
            raise ValueError(f"there is no {name!r}; there are {', '.join(sorted(known))}")
    return result


def moment(value: Any) -> datetime | None:
    """Return a time with a zone, from seconds since the epoch, a datetime or an ISO text.

    Raises:
        ValueError: The value is no time.
    """
    if value is None:
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        return aware(msgspec.convert(value, datetime))
    except (msgspec.ValidationError, ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{value!r} is no time: {error}") from error


def aware(time: datetime | None) -> datetime | None:
    """Return a time with a zone; a time without one is UTC."""
    return time if time is None or time.tzinfo is not None else time.replace(tzinfo=UTC)


def _in_order(order: Comparison, value: Any, other: Any, is_time: bool) -> bool:
    if is_time:
        value, other = value or NO_TIME, other or NO_TIME
    return value is not None and other is not None and ORDER[order](value, other)


def _check_fields(fields: Mapping[str, Any]) -> None:
    for field in fields:
        if field not in TYPES:
            raise ValueError(f"a task has no field {field!r}; it has {', '.join(sorted(TYPES))}")


def _conditions(field: str, wanted: Any) -> list[Condition]:
    compares = isinstance(wanted, Mapping) and any(str(key).startswith("$") for key in wanted)
    if not compares:
        if field == "tags":
            return [Condition(field, Comparison.ALL, _tags(wanted))]
        return [Condition(field, Comparison.EQUAL, _comparable(field, "$eq", wanted))]
    return [_condition(field, str(name), value) for name, value in wanted.items()]


def _condition(field: str, name: str, value: Any) -> Condition:
    known = [one for one in Comparison if one is not Comparison.ALL or field == "tags"]
    if name not in known:
        raise ValueError(f"{field}: there is no comparison {name!r}; there are {' '.join(known)}")
    comparison = Comparison(name)
    if comparison is Comparison.ALL:
        return Condition(field, comparison, _tags(value))
    if comparison is Comparison.IN:
        if not isinstance(value, list | tuple | set | frozenset):
            raise ValueError(f"{field}: $in takes a list, not {value!r}")
        return Condition(field, comparison, [_comparable(field, name, one) for one in value])
    if comparison in ORDER and field in {"tags", "metadata"}:
        raise ValueError(f"{field}: {name} {value!r} cannot be compared: it has no order")
    return Condition(field, comparison, _comparable(field, name, value))


def _tags(value: Any) -> list[str]:
    tags = [value] if isinstance(value, str) else value
    return list(dict.fromkeys(_comparable("tags", "$all", tags)))


def _comparable(field: str, name: str, value: Any) -> Any:
    """Return a value as the field's type; None stands for an empty text."""
    if value is None and TYPES[field] is str:
        return ""
    if TYPES[field] is int and isinstance(value, float):
        return value
    try:
        return _value(field, value)
    except ValueError as error:
        if field == "scheduled_for":
            raise
        raise ValueError(f"{field}: {name} {value!r} cannot be compared: {error}") from error


def _value(field: str, value: Any) -> Any:
    try:
        if field == "scheduled_for":
            return moment(value)
        if field in TIMES and isinstance(value, str | datetime):
            time = moment(value)
            assert time is not None
            return time.timestamp()
        result = msgspec.convert(value, TYPES[field])
    except ValueError as error:  # msgspec.ValidationError is one
        raise ValueError(f"{field}: {error}") from error
    if isinstance(result, float) and isnan(result):
        raise ValueError(f"{field}: {value!r} is no number")
    return result


def _count(name: str, value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise ValueError(f"{name}: {value!r} is no number of tasks")
    return value
