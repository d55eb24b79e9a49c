"""What differs between SQLite and PostgreSQL, and what statements of both share."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")


def is_postgres(connection: Connection) -> bool:
    """Return True on a PostgreSQL server."""
    return connection.dialect.name == "postgresql"


def insert(connection: Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return postgresql.insert(table) if is_postgres(connection) else sqlite.insert(table)


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield items in parts: a statement takes only so many parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
