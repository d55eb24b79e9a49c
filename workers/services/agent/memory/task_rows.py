"""The tasks in `memory.db`: the statements that write, read and lease them.

Each function may run again after a commit whose outcome is unknown. Times are seconds since the
epoch.
"""

import sqlite3
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from garrison.workers import Task, TaskChanges, TaskQuery

from . import schema

PENDING, RUNNING, QUEUE = "pending", "running", "queue"
ANY_AGENT = "*"
COLUMNS = "name, status, is_queued, due, lease, owner, until, size, task"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Task).decode


class Bounds(NamedTuple):
    """How many tasks there may be; a further one is rejected. Sizes are bytes."""

    tasks: int
    bytes: int


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Which due tasks a runner claims; see `DatabaseAdapter.claim_tasks`."""

    agent: str
    owner: str
    lease: float
    limit: int
    names: list[str] | None


# --- writing ------------------------------------------------------------------------------------


def add(cursor: sqlite3.Cursor, task: Task, agent: str, bounds: Bounds) -> None:
    """Store a task, unless one with its id exists.

    Raises:
        OverflowError: There is no room.
    """
    if find(cursor, agent, task.id) is not None:
        return
    values = _values(task)
    rows, _ = schema.count(cursor, "tasks")
    if rows >= bounds.tasks:
        raise OverflowError(f"there are {bounds.tasks} tasks already; delete some first")
    query = f"INSERT INTO tasks (agent, id, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    cursor.execute(query, (agent, task.id, *values))
    _check_bytes(cursor, values, bounds)


def change(
    cursor: sqlite3.Cursor,
    agent: str,
    task_id: str,
    fields: Mapping[str, Any],
    *,
    if_status: str | None,
    now: float,
    bounds: Bounds,
) -> bool:
    """Change fields of a task; return whether its status allowed that.

    Raises:
        LookupError: There is no such task.
        ValueError: There is no such field, or a value has the wrong type.
        OverflowError: There is no room.
    """
    changes, task = TaskChanges.parse(fields), find(cursor, agent, task_id)
    if task is None:
        raise LookupError(f"there is no task {task_id!r}")
    if if_status is not None and task.status != if_status:
        return False
    _put(cursor, agent, _changed(changes.apply(task), now), bounds)
    return True


def remove(cursor: sqlite3.Cursor, agent: str, task_id: str) -> None:
    """Delete a task."""
    cursor.execute("DELETE FROM tasks WHERE agent = ? AND id = ?", (agent, task_id))


# --- leases -------------------------------------------------------------------------------------


def claim(cursor: sqlite3.Cursor, wanted: Claim, now: float, bounds: Bounds) -> list[Task]:
    """Lease due tasks to a runner, the earliest first."""
    claimed: list[Task] = []
    for agent, encoded in _due(cursor, wanted, now):
        task = msgspec.structs.replace(
            _decode(encoded),
            status=RUNNING,
            lease=uuid.uuid4().hex,
            lease_owner=wanted.owner,
            lease_until=now + wanted.lease,
        )
        task = _changed(task, now)
        _put(cursor, agent, task, bounds)
        claimed.append(task)
    return claimed


def _due(cursor: sqlite3.Cursor, wanted: Claim, now: float) -> list[tuple[str, bytes]]:
    conditions, values = list[str](), list[Any]()
    if wanted.agent != ANY_AGENT:
        conditions.append("AND agent = ?")
        values.append(wanted.agent)
    if wanted.names is not None:
        conditions.append(f"AND name IN ({', '.join('?' * len(wanted.names))})")
        values += wanted.names
    rest = " ".join(conditions)
    most = max(wanted.limit, 0)
    query = (
        "SELECT agent, task FROM ("
        f"SELECT * FROM (SELECT agent, task, due, seq FROM tasks WHERE is_queued = 1 "
        f"AND status = ? AND due <= ? {rest} ORDER BY due, seq LIMIT ?) UNION ALL "
        f"SELECT agent, task, due, seq FROM tasks WHERE is_queued = 1 AND status = ? "
        f"AND lease != '' AND until <= ? {rest}) ORDER BY due, seq LIMIT ?"
    )
    given = (PENDING, now, *values, most, RUNNING, now, *values, most)
    return cursor.execute(query, given).fetchall()


def renew(
    cursor: sqlite3.Cursor, agent: str, task_id: str, lease: str, until: float, bounds: Bounds
) -> bool:
    """Move the end of a lease; False if it is not the task's any more."""
    task = _leased(cursor, agent, task_id, lease)
    if task is None:
        return False
    _put(cursor, agent, msgspec.structs.replace(task, lease_until=until), bounds)
    return True


def settle(
    cursor: sqlite3.Cursor,
    agent: str,
    task_id: str,
    lease: str,
    fields: Mapping[str, Any],
    *,
    now: float,
    bounds: Bounds,
) -> bool:
    """Change fields of a leased task, and end the lease; False if it is not the task's any more.

    Without a new status it is pending again.

    Raises:
        ValueError: There is no such field, or a value has the wrong type.
        OverflowError: There is no room.
    """
    changes = TaskChanges.parse({"status": PENDING} | TaskChanges.parse(fields).fields)
    task = _leased(cursor, agent, task_id, lease)
    if task is None:
        return False
    _put(cursor, agent, _changed(_released(changes.apply(task)), now), bounds)
    return True


def release(cursor: sqlite3.Cursor, agent: str, owner: str, now: float, bounds: Bounds) -> int:
    """Make pending again what an owner has leased; return how many those were."""
    query = "SELECT agent, task FROM tasks WHERE status = ? AND lease != '' AND owner = ?"
    found = cursor.execute(query, (RUNNING, owner)).fetchall()
    own = [(one, encoded) for one, encoded in found if agent in {one, ANY_AGENT}]
    for one, encoded in own:
        task = msgspec.structs.replace(_released(_decode(encoded)), status=PENDING)
        _put(cursor, one, _changed(task, now), bounds)
    return len(own)


def _leased(cursor: sqlite3.Cursor, agent: str, task_id: str, lease: str) -> Task | None:
    task = find(cursor, agent, task_id)
    return task if task is not None and lease and task.lease == lease else None


def _released(task: Task) -> Task:
    return msgspec.structs.replace(task, lease="", lease_owner="", lease_until=0.0)


# --- reading ------------------------------------------------------------------------------------


def find(cursor: sqlite3.Cursor, agent: str, task_id: str) -> Task | None:
    """Return a task, or None."""
    query = "SELECT task FROM tasks WHERE agent = ? AND id = ?"
    row = cursor.execute(query, (agent, task_id)).fetchone()
    return None if row is None else _decode(row[0])


def matching(cursor: sqlite3.Cursor, agent: str, query: TaskQuery) -> list[Task]:
    """Return the tasks that a query wants, in the order of their creation."""
    where, values = "agent = ?", list[Any]([agent])
    for condition in query.conditions:  # the index of ids, and fewer rows to decode
        if condition.field in {"id", "name", "status"} and condition.comparison == "$eq":
            where += f" AND {condition.field} = ?"
            values.append(condition.value)
    rows = cursor.execute(f"SELECT task FROM tasks WHERE {where} ORDER BY seq", values)
    return query.select(_decode(row[0]) for row in rows.fetchall())


# --- rows ---------------------------------------------------------------------------------------


def _put(cursor: sqlite3.Cursor, agent: str, task: Task, bounds: Bounds) -> None:
    values = _values(task)
    query = f"UPDATE tasks SET ({COLUMNS}) = (?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE agent = ? AND id = ?"
    cursor.execute(query, (*values, agent, task.id))
    _check_bytes(cursor, values, bounds)


def _check_bytes(cursor: sqlite3.Cursor, values: tuple[Any, ...], bounds: Bounds) -> None:
    _, used = schema.count(cursor, "tasks")
    if used > bounds.bytes:
        size = values[-2]
        raise OverflowError(
            f"no room for a task of {size} bytes: {used - size} of {bounds.bytes} bytes are in "
            "use; delete some first"
        )


def _changed(task: Task, now: float) -> Task:
    return msgspec.structs.replace(task, updated_at=now)


def _values(task: Task) -> tuple[Any, ...]:
    encoded, time = _encode(task), task.scheduled_for
    return (
        task.name,
        task.status,
        QUEUE in task.tags,
        0.0 if time is None else time.timestamp(),
        task.lease,
        task.lease_owner,
        task.lease_until,
        len(encoded),
        encoded,
    )
