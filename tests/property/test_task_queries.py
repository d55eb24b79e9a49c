"""A query of tasks means the same in Python and in SQL."""

import functools
from typing import Any

import sqlalchemy as sa
from hypothesis import given
from tests.support.task_queries import queries, task_lists

from garrison.workers import Task, TaskQuery
from garrison.workers.services.database import documents
from garrison.workers.services.database.tables import tasks
from garrison.workers.services.database.tasks import new_row, select


@functools.cache
def engine() -> sa.Engine:
    """Return a database in memory."""
    created = sa.create_engine(
        "sqlite://", json_serializer=documents.encode, json_deserializer=documents.decode
    )
    tasks.create(created)
    return created


@given(task_lists(), queries())
def test_queries(stored: list[Task], params: dict[str, Any]) -> None:
    """The same tasks, complete, in the same order and pages."""
    query = TaskQuery.parse(params)
    with engine().connect() as connection:
        for task in stored:
            connection.execute(sa.insert(tasks), new_row("ada", task))
        found = select(connection, "ada", query)
        connection.rollback()

    assert found == query.select(stored)
