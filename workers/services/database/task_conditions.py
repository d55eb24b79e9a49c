"""A `TaskQuery` as conditions of SQL. Pure.

What SQL cannot compare as Python does, such as metadata, is left for `TaskQuery.matches`.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from garrison.workers import TaskQuery

from .rows import with_tags
from .tables import tasks

OPTIONS_MOST = 500  # of one `$in`
JSON = frozenset({"tags", "metadata"})
NEGATIVE = frozenset({"$lt", "$lte"})


def conditions(query: TaskQuery, postgres: bool) -> tuple[list[sa.ColumnElement[bool]], TaskQuery]:
    """Return a query's conditions, and a query of those that are left.

    Args:
        query: Its `limit` and `offset` are the returned query's if conditions are left; otherwise
            they are for SQL.
        postgres: PostgreSQL; otherwise SQLite.
    """
    clauses, left = [], []
    for condition in query.conditions:
        clause = _clause(condition.field, str(condition.comparison), condition.value, postgres)
        if clause is None:
            left.append(condition)
        else:
            clauses.append(clause)
    return clauses, TaskQuery(tuple(left), query.limit, query.offset)


def seconds(time: datetime | None) -> float | None:
    """Return a time as the table has it."""
    return None if time is None else time.timestamp()


def _clause(field: str, comparison: str, value: Any, postgres: bool) -> Any:
    """Return one condition; None where it is left."""
    if comparison == "$all":
        return with_tags(tasks.c.tags, value, postgres)
    if field in JSON or (comparison == "$in" and len(value) > OPTIONS_MOST):
        return None
    column: sa.ColumnElement[Any] = tasks.c[field]
    if field == "scheduled_for":
        value = [seconds(one) for one in value] if comparison == "$in" else seconds(value)
    elif isinstance(column.type, sa.Integer):
        column = sa.cast(column, sa.Double)  # of any number
    if comparison == "$eq":
        return column.is_(None) if value is None else column == value
    if comparison == "$ne":
        return column.is_not(None) if value is None else column.is_distinct_from(value)
    if comparison == "$in":
        chosen = column.in_([one for one in value if one is not None])
        return sa.or_(chosen, column.is_(None)) if None in value else chosen
    if field == "scheduled_for":
        return _of_time(column, comparison, value)
    if isinstance(column.type, sa.Text) and postgres:
        column = sa.collate(column, "C")  # by code points, as Python and SQLite compare
    return sa.false() if value is None else _ordered(column, comparison, value)


def _of_time(column: sa.ColumnElement[Any], comparison: str, value: float | None) -> Any:
    """Return an order of times, in which none is the earliest."""
    if value is None:
        return {
            "$lt": sa.false(),
            "$lte": column.is_(None),
            "$gt": column.is_not(None),
            "$gte": sa.true(),
        }[comparison]
    ordered = _ordered(column, comparison, value)
    return sa.or_(ordered, column.is_(None)) if comparison in NEGATIVE else ordered


def _ordered(column: sa.ColumnElement[Any], comparison: str, value: Any) -> Any:
    match comparison:
        case "$lt":
            return column < value
        case "$lte":
            return column <= value
        case "$gt":
            return column > value
        case _:
            return column >= value
