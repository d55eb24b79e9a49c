"""The statements that change tasks. Each is built once, for its kind of database.

`due_at` is when a runner may claim a task: the time of a pending one with the tag `queue`, the end
of the lease of one that runs, and NULL for all others. A claim is one statement on its index.
Parameters of conditions begin with `of_`, new values with `new_`.
"""

import functools
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY

from . import dialect
from .tables import tasks

PENDING, RUNNING = "pending", "running"
CHANGES_MOST = 256  # statements for different fields that are kept

CONDITIONS: dict[str, sa.ColumnElement[bool]] = {
    "of_agent": tasks.c.agent_id == sa.bindparam("of_agent", type_=sa.Text),
    "of_id": tasks.c.id == sa.bindparam("of_id", type_=sa.Text),
    "of_status": tasks.c.status == sa.bindparam("of_status", type_=sa.Text),
    "of_lease": sa.and_(  # an empty lease is none
        tasks.c.lease == sa.bindparam("of_lease", type_=sa.Text), tasks.c.lease != ""
    ),
    "of_owner": sa.and_(
        tasks.c.lease_owner == sa.bindparam("of_owner", type_=sa.Text),
        tasks.c.status == RUNNING,
        tasks.c.lease != "",
    ),
    "of_names": tasks.c.name.in_(sa.bindparam("of_names", expanding=True, type_=sa.Text)),
}


def now(connection: Connection) -> dict[str, float]:
    """Return the parameter of the time: a server has its own, a file has this process's."""
    return {} if dialect.is_postgres(connection) else {"now": time.time()}


def create(connection: Connection) -> sa.Insert:
    """Return the statement that stores a task, unless its id exists."""
    return _create(dialect.is_postgres(connection))


def change(connection: Connection, where: tuple[str, ...], names: tuple[str, ...]) -> sa.Update:
    """Return the statement that changes columns, and those that follow from them.

    Args:
        connection: Of either kind of database.
        where: Keys of `CONDITIONS`.
        names: Columns.
    """
    return _change(dialect.is_postgres(connection), where, names)


def claim(connection: Connection, of_agent: bool, of_names: bool) -> Any:
    """Return the statement that claims due tasks, for `seconds`, `most` at once.

    Args:
        connection: Of either kind of database.
        of_agent: Of one agent; otherwise of all.
        of_names: Of some names.
    """
    return _claim(dialect.is_postgres(connection), of_agent, of_names)


def renew(connection: Connection) -> sa.Update:
    """Return the statement that has a lease end `seconds` from now."""
    return _renew(dialect.is_postgres(connection))


@functools.cache
def _create(postgres: bool) -> sa.Insert:
    insert = postgresql.insert(tasks) if postgres else sqlite.insert(tasks)
    return insert.on_conflict_do_nothing()


@functools.lru_cache(CHANGES_MOST)
def _change(postgres: bool, where: tuple[str, ...], names: tuple[str, ...]) -> sa.Update:
    row: dict[str, Any] = {
        name: sa.bindparam(f"new_{name}", type_=tasks.c[name].type) for name in names
    }
    conditions = [CONDITIONS[name] for name in where]
    return sa.update(tasks).where(*conditions).values(_changed(postgres, row))


@functools.lru_cache(CHANGES_MOST)
def settle_many(names: tuple[str, ...]) -> Any:
    """Return the statement by which PostgreSQL settles several tasks at once.

    Its parameters are lists: `ids`, `agents`, `leases`, and `new_` with each column's values, those
    of JSON columns as texts. It returns the agents and ids of the tasks whose leases were theirs.

    Args:
        names: Columns that are changed.
    """
    kinds = {name: sa.Text() if is_json(name) else tasks.c[name].type for name in names}
    lists = [sa.bindparam(name, type_=ARRAY(sa.Text)) for name in ("agents", "ids", "leases")]
    lists += [sa.bindparam(f"new_{name}", type_=ARRAY(kind)) for name, kind in kinds.items()]
    columns = [sa.column(name, sa.Text) for name in ("of_agent", "of_id", "of_lease")]
    columns += [sa.column(f"new_{name}", kind) for name, kind in kinds.items()]
    given = sa.func.unnest(*lists).table_valued(*columns, name="given").render_derived()
    row = {
        name: sa.cast(given.c[f"new_{name}"], sa.JSON) if is_json(name) else given.c[f"new_{name}"]
        for name in names
    }
    return (
        sa.update(tasks)
        .where(
            tasks.c.agent_id == given.c.of_agent,
            tasks.c.id == given.c.of_id,
            tasks.c.lease == given.c.of_lease,
            tasks.c.lease != "",
        )
        .values(_changed(True, row))
        .returning(tasks.c.agent_id, tasks.c.id)
    )


def is_json(name: str) -> bool:
    """Return whether a column is JSON."""
    return isinstance(tasks.c[name].type, sa.JSON)


def _changed(postgres: bool, row: dict[str, Any]) -> dict[str, Any]:
    """Return new values of columns, with those that follow from them."""

    def new(name: str) -> Any:
        return row.get(name, tasks.c[name])

    queued, status = new("queued"), new("status")
    due_at = sa.case(
        (sa.and_(queued, status == PENDING), sa.func.coalesce(new("scheduled_for"), 0.0)),
        (sa.and_(queued, status == RUNNING, new("lease") != ""), new("lease_until")),
        else_=sa.null(),
    )
    return row | {"due_at": due_at, "updated_at": _now(postgres)}


@functools.cache
def _claim(postgres: bool, of_agent: bool, of_names: bool) -> Any:
    due = sa.select(tasks.c.agent_id, tasks.c.id).where(tasks.c.due_at <= _now(postgres))
    if of_agent:
        due = due.where(CONDITIONS["of_agent"])
    if of_names:
        due = due.where(CONDITIONS["of_names"])
    due = due.order_by(tasks.c.due_at).limit(sa.bindparam("most", type_=sa.Integer))
    if postgres:
        due = due.with_for_update(skip_locked=True)
    chosen = due.cte("due")
    until = _now(postgres) + sa.bindparam("seconds", type_=sa.Double)
    return (
        sa.update(tasks)
        .where(tasks.c.agent_id == chosen.c.agent_id, tasks.c.id == chosen.c.id)
        .values(
            status=RUNNING,
            lease=sa.bindparam("new_lease", type_=sa.Text),
            lease_owner=sa.bindparam("new_owner", type_=sa.Text),
            lease_until=until,
            due_at=until,
            updated_at=_now(postgres),
        )
        .returning(*tasks.c)
    )


@functools.cache
def _renew(postgres: bool) -> sa.Update:
    until = _now(postgres) + sa.bindparam("seconds", type_=sa.Double)
    where = [CONDITIONS[name] for name in ("of_agent", "of_id", "of_lease")]
    return sa.update(tasks).where(*where).values(lease_until=until, due_at=until)


def _now(postgres: bool) -> sa.ColumnElement[float]:
    """Return the database's time."""
    if postgres:
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
    return sa.bindparam("now", type_=sa.Double)
