"""The statements of tasks, and of the leases of those that run.

`due_at` is when a runner may claim a task: the time of a pending one with the tag `queue`, the end
of the lease of one that runs, and NULL for all others. A claim is one statement on its index.
Durations are seconds.
"""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from garrison.workers import Task, TaskChanges, TaskQuery

from . import dialect
from .database import Database
from .documents import identifier
from .rows import checked, new_id, record_of, row_of
from .scope import EVERY
from .tables import tasks
from .task_conditions import conditions, seconds

PENDING, RUNNING, QUEUE = "pending", "running", "queue"
RESULT_MOST = 10_000  # tasks of one answer
CLAIMED_MOST = 1_000  # tasks of one claim
PART = 500  # rows that are read at once where SQL cannot decide


class TaskStore:
    """Tasks by agent, in the order of their creation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, agent: str, task: Task) -> str:
        """Store a task unless its id exists; return the id."""
        identifier(task.name, "name")
        row = row_of(tasks, agent, task)
        row |= {"id": new_id(task.id), "scheduled_for": seconds(task.scheduled_for)}
        row |= {"queued": QUEUE in task.tags, "due_at": _due_at(task)}

        def create(connection: Connection) -> None:
            now = time.time()
            times = {name: row[name] or now for name in ("created_at", "updated_at")}
            statement = dialect.insert(connection, tasks).on_conflict_do_nothing()
            connection.execute(statement, row | times)

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
        return await self._database.read(lambda connection: _select(connection, agent, query))

    async def update(
        self, agent: str, task_id: str, changes: TaskChanges, if_status: str | None
    ) -> bool:
        """Change a task; False if it has another status.

        Raises:
            LookupError: There is no such task.
        """
        here = _here(agent, task_id)
        wanted = here if if_status is None else (*here, tasks.c.status == if_status)
        values = _values(changes.fields)

        def update(connection: Connection) -> bool | None:
            if _change(connection, wanted, values):
                return True
            return None if connection.execute(sa.select(1).where(*here)).first() is None else False

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
        new_lease = str(uuid.uuid4())
        checked({"owner": owner})

        def claim(connection: Connection) -> list[Task]:
            now = _now(connection)
            due = sa.select(tasks.c.agent_id, tasks.c.id).where(tasks.c.due_at <= now)
            if agent != EVERY:
                due = due.where(tasks.c.agent_id == agent)
            if names is not None:
                due = due.where(tasks.c.name.in_(names))
            due = due.order_by(tasks.c.due_at).limit(min(limit, CLAIMED_MOST))
            if dialect.is_postgres(connection):
                due = due.with_for_update(skip_locked=True)
            chosen = due.cte("due")
            statement = (
                sa.update(tasks)
                .where(tasks.c.agent_id == chosen.c.agent_id, tasks.c.id == chosen.c.id)
                .values(
                    status=RUNNING,
                    lease=new_lease,
                    lease_owner=owner,
                    lease_until=now + lease,
                    due_at=now + lease,
                    updated_at=now,
                )
                .returning(*tasks.c)
            )
            return [_task_of(row) for row in connection.execute(statement).mappings()]

        found = await self._database.write(claim)
        return sorted(found, key=lambda one: (seconds(one.scheduled_for) or 0.0, one.created_at))

    async def renew(self, agent: str, task_id: str, lease: str, duration: float) -> bool:
        """Have a lease end `duration` from now; False if it is not the task's any more."""

        def renew(connection: Connection) -> bool:
            until = _now(connection) + duration
            statement = sa.update(tasks).where(*_held(agent, task_id, lease))
            values = {"lease_until": until, "due_at": until}
            return connection.execute(statement.values(values)).rowcount > 0

        return await self._database.write(renew)

    async def settle(self, agent: str, task_id: str, lease: str, changes: TaskChanges) -> bool:
        """Change a task and end its lease; False if it is not the task's any more.

        Without a new status it is pending again.
        """
        fields = TaskChanges.parse({"status": PENDING} | changes.fields).fields
        values = _values({**fields, "lease": "", "lease_owner": "", "lease_until": 0.0})
        held = _held(agent, task_id, lease)
        return await self._database.write(lambda connection: _change(connection, held, values))

    async def release(self, agent: str, owner: str) -> int:
        """Make pending again what an owner holds; return how many tasks those are."""
        held = [tasks.c.lease_owner == owner, tasks.c.status == RUNNING, tasks.c.lease != ""]
        if agent != EVERY:
            held.append(tasks.c.agent_id == agent)
        values = _values(TaskChanges.parse({"status": PENDING}).fields)

        def release(connection: Connection) -> int:
            statement = sa.update(tasks).where(*held).values(values)
            return connection.execute(statement.values(updated_at=_now(connection))).rowcount

        return await self._database.write(release)


def _here(agent: str, task_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (tasks.c.agent_id == agent, tasks.c.id == task_id)


def _held(agent: str, task_id: str, lease: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions of a lease; an empty one is none."""
    return (*_here(agent, task_id), tasks.c.lease == lease, tasks.c.lease != "")


def _now(connection: Connection) -> sa.ColumnElement[float]:
    """Return the database's time: the server's, or this process's for a file."""
    if dialect.is_postgres(connection):
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
    return sa.literal(time.time(), sa.Double)


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
    """Return the columns of changed fields, with those that follow from them."""
    row = checked(fields)
    row.pop("updated_at", None)
    if "scheduled_for" in row:
        row["scheduled_for"] = seconds(row["scheduled_for"])
    if "tags" in row:
        row["queued"] = QUEUE in row["tags"]

    def new(name: str) -> sa.ColumnElement[Any]:
        column = tasks.c[name]
        return sa.literal(row[name], column.type) if name in row else column

    queued, status, lease = new("queued"), new("status"), new("lease")
    row["due_at"] = sa.case(
        (sa.and_(queued, status == PENDING), sa.func.coalesce(new("scheduled_for"), 0.0)),
        (sa.and_(queued, status == RUNNING, lease != ""), new("lease_until")),
        else_=sa.null(),
    )
    return row


def _change(
    connection: Connection, where: Sequence[sa.ColumnElement[bool]], values: Mapping[str, Any]
) -> bool:
    statement = sa.update(tasks).where(*where).values({**values, "updated_at": _now(connection)})
    return connection.execute(statement).rowcount > 0


def _select(connection: Connection, agent: str, query: TaskQuery) -> list[Task]:
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
