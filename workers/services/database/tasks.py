"""Tasks, and the leases of those that run. Durations are seconds."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from garrison.workers import Task, TaskChanges, TaskQuery

from . import dialect, task_statements
from .database import Database
from .documents import identifier
from .rows import checked, new_id, record_of, row_of
from .scope import EVERY
from .settling import Settler
from .tables import tasks
from .task_conditions import conditions, seconds
from .task_statements import PENDING, RUNNING

QUEUE = "queue"
RESULT_MOST = 10_000  # tasks of one answer
CLAIMED_MOST = 1_000  # tasks of one claim
PART = 500  # rows that are read at once where SQL cannot decide


class TaskStore:
    """Tasks by agent, in the order of their creation."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._settler = Settler(database)

    async def create(self, agent: str, task: Task) -> str:
        """Store a task unless its id exists; return the id."""
        row = new_row(agent, task)

        def create(connection: Connection) -> None:
            now = time.time()
            times = {name: row[name] or now for name in ("created_at", "updated_at")}
            connection.execute(task_statements.create(connection), row | times)

        await self._database.write(create)
        return str(row["id"])

    async def get(self, agent: str, task_id: str) -> Task | None:
        """Return a task, or None."""
        query = sa.select(tasks).where(*_here(agent, task_id))

        def read(connection: Connection) -> Task | None:
            row = connection.execute(query).mappings().one_or_none()
            return None if row is None else _task_of(row)

        return await self._database.read(read)

    async def select(self, agent: str, query: TaskQuery) -> list[Task]:
        """Return the tasks that match.

        Raises:
            ValueError: They are too many for one answer.
        """
        return await self._database.read(lambda connection: select(connection, agent, query))

    async def update(
        self, agent: str, task_id: str, changes: TaskChanges, if_status: str | None
    ) -> bool:
        """Change a task; False if it has another status.

        Raises:
            LookupError: There is no such task.
        """
        values = _values(changes.fields)
        where = {"of_agent": agent, "of_id": task_id}
        wanted = where if if_status is None else where | {"of_status": if_status}

        def update(connection: Connection) -> bool | None:
            if _change(connection, wanted, values) > 0:
                return True
            found = sa.select(1).where(*_here(agent, task_id))
            return None if connection.execute(found).first() is None else False

        done = await self._database.write(update)
        if done is None:
            raise LookupError(f"there is no task {task_id!r}")
        return done

    async def delete(self, agent: str, task_id: str) -> None:
        """Delete a task."""
        statement = sa.delete(tasks).where(*_here(agent, task_id))
        await self._database.write(lambda connection: connection.execute(statement).rowcount)

    # --- leases -----------------------------------------------------------------------------

    async def claim(
        self, agent: str, owner: str, lease: float, limit: int, names: Sequence[str] | None
    ) -> list[Task]:
        """Claim due tasks, the earliest first; see `DatabaseAdapter.claim_tasks`."""
        checked({"owner": owner})
        values = {
            "new_lease": str(uuid.uuid4()),
            "new_owner": owner,
            "seconds": lease,
            "most": min(limit, CLAIMED_MOST),
        }
        if agent != EVERY:
            values["of_agent"] = agent
        if names is not None:
            values["of_names"] = list(names)

        def claim(connection: Connection) -> list[Task]:
            statement = task_statements.claim(connection, agent != EVERY, names is not None)
            rows = connection.execute(statement, values | task_statements.now(connection))
            return [_task_of(row) for row in rows.mappings()]

        found = await self._database.write(claim)
        return sorted(found, key=lambda one: (seconds(one.scheduled_for) or 0.0, one.created_at))

    async def renew(self, agent: str, task_id: str, lease: str, duration: float) -> bool:
        """Have a lease end `duration` from now; False if it is not the task's any more."""

        values = {"of_agent": agent, "of_id": task_id, "of_lease": lease, "seconds": duration}

        def renew(connection: Connection) -> bool:
            statement = task_statements.renew(connection)
            times = task_statements.now(connection)
            return connection.execute(statement, values | times).rowcount > 0

        return await self._database.write(renew)

    async def settle(self, agent: str, task_id: str, lease: str, changes: TaskChanges) -> bool:
        """Change a task and end its lease; False if it is not the task's any more.

        Without a new status it is pending again.
        """
        fields = TaskChanges.parse({"status": PENDING} | changes.fields).fields
        values = _values({**fields, "lease": "", "lease_owner": "", "lease_until": 0.0})
        return await self._settler.settle(agent, task_id, lease, values)

    async def release(self, agent: str, owner: str) -> int:
        """Make pending again what an owner holds; return how many tasks those are."""
        owned = {"of_owner": owner} if agent == EVERY else {"of_owner": owner, "of_agent": agent}
        values = _values(TaskChanges.parse({"status": PENDING}).fields)
        return await self._database.write(lambda connection: _change(connection, owned, values))


def new_row(agent: str, task: Task) -> dict[str, Any]:
    """Return a new task's row.

    Raises:
        ValueError: A text cannot be stored.
    """
    identifier(task.name, "name")
    row = row_of(tasks, agent, task)
    row |= {"id": new_id(task.id), "scheduled_for": seconds(task.scheduled_for)}
    return row | {"queued": QUEUE in task.tags, "due_at": _due_at(task)}


def _here(agent: str, task_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (tasks.c.agent_id == agent, tasks.c.id == task_id)


def _task_of(row: sa.RowMapping) -> Task:
    at = row["scheduled_for"]
    time = None if at is None else datetime.fromtimestamp(at, UTC)
    return record_of(Task, {**row, "scheduled_for": time})


def _due_at(task: Task) -> float | None:
    if QUEUE not in task.tags:
        return None
    if task.status == PENDING:
        return seconds(task.scheduled_for) or 0.0
    return task.lease_until if task.status == RUNNING and task.lease else None


def _values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of changed fields, but for those that follow from them."""
    row = checked(fields)
    row.pop("updated_at", None)
    if "scheduled_for" in row:
        row["scheduled_for"] = seconds(row["scheduled_for"])
    if "tags" in row:
        row["queued"] = QUEUE in row["tags"]
    return row


def _change(connection: Connection, where: Mapping[str, str], values: Mapping[str, Any]) -> int:
    """Change the tasks of some conditions; return how many those are."""
    statement = task_statements.change(connection, tuple(where), tuple(values))
    given = {f"new_{name}": value for name, value in values.items()}
    return connection.execute(
        statement, {**given, **where, **task_statements.now(connection)}
    ).rowcount


def select(connection: Connection, agent: str, query: TaskQuery) -> list[Task]:
    """Return an agent's tasks that match.

    Raises:
        ValueError: They are too many for one answer.
    """
    clauses, left = conditions(query, dialect.is_postgres(connection))
    most = RESULT_MOST + 1 if query.limit is None else min(query.limit, RESULT_MOST + 1)
    statement = sa.select(tasks).where(tasks.c.agent_id == agent, *clauses)
    statement = statement.order_by(tasks.c.created_at, tasks.c.id)
    if not left.conditions:
        statement = statement.limit(most).offset(query.offset or None)
        found = [_task_of(row) for row in connection.execute(statement).mappings()]
    else:
        found = list(islice(_matching(connection, statement, left), query.offset + most))
        del found[: query.offset]
    if len(found) > RESULT_MOST:
        raise ValueError(
            f"more than {RESULT_MOST} tasks match: narrow the query, or page by limit and offset"
        )
    return found


def _matching(
    connection: Connection, statement: sa.Select[Any], query: TaskQuery
) -> Iterator[Task]:
    """Yield the rows of a statement that match a query; read them in parts."""
    last: Task | None = None
    while True:
        part = statement.limit(PART)
        if last is not None:
            place = sa.tuple_(tasks.c.created_at, tasks.c.id)
            part = part.where(place > sa.tuple_(sa.literal(last.created_at), sa.literal(last.id)))
        rows = connection.execute(part).mappings().all()
        for row in rows:
            last = _task_of(row)
            if query.matches(last):
                yield last
        if len(rows) < PART:
            return
