"""What differs between SQLite and PostgreSQL, and what statements of both share."""

import functools
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
    return insert_of(connection.dialect.name, table)


def insert_of(name: str, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """Return the same, by the name of the connection's dialect."""
    return postgresql.insert(table) if name == "postgresql" else sqlite.insert(table)


@functools.cache
def insert_new(name: str, table: sa.Table) -> sa.Insert:
    """Return the statement that inserts a row unless its key exists; its parameters are columns.

    Such statements are built once: building one takes longer than running it.

    Args:
        name: Of the connection's dialect.
        table: Where to.
    """
    return insert_of(name, table).on_conflict_do_nothing()


@functools.cache
def upsert(name: str, table: sa.Table, *changed: str) -> sa.Insert:
    """Return the statement that inserts a row, or changes some columns of the one with its key.

    Args:
        name: Of the connection's dialect.
        table: Where to.
        changed: Names of these columns. `vector` has its text as the parameter `vector_text`.
    """
    made = insert_of(name, table)
    key = [column.name for column in table.primary_key]
    values: dict[str, Any] = {one: sa.bindparam(one) for one in (*key, *changed)}
    if "vector" in values:
        values["vector"] = sa.cast(sa.bindparam("vector_text", type_=sa.Text), Vector)
    made = made.values(values)
    return made.on_conflict_do_update(
        index_elements=key, set_={one: made.excluded[one] for one in changed}
    )


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield items in parts: a statement takes only so many parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
