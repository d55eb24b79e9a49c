"""What differs between SQLite and PostgreSQL, and what statements of both share."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from .tables import embeddings

T = TypeVar("T")
IDS_MOST = 500  # ids in one statement


class Vector(sa.types.UserDefinedType[str]):
    """pgvector's type; the package of that name would be one more library for one cast."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "vector"


# The same table with pgvector's column, which `postgres.py` adds where the server has it.
server_embeddings = embeddings.to_metadata(sa.MetaData())
server_embeddings.append_column(sa.Column("vector", Vector))


def vector(text: str) -> sa.ColumnElement[Any]:
    """Return a vector from its text: asyncpg has no binary form of the type."""
    return sa.cast(sa.cast(text, sa.Text), Vector)


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
