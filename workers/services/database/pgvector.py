"""PostgreSQL's extension for vectors, where a server has it."""

import logging

import sqlalchemy as sa
from sqlalchemy import Connection, exc

from . import dialect
from .vector_data import text_of, unpacked

log = logging.getLogger(__name__)

BATCH = 500  # vectors that one statement converts


def prepare(connection: Connection) -> bool:
    """Create the extension and its column, and fill that; return False if the server has none.

    Args:
        connection: In a transaction that excludes other migrations.
    """
    if not _extend(connection):
        return False
    column = (
        "SELECT 1 FROM pg_attribute WHERE attrelid = 'embeddings'::regclass "
        "AND attname = 'vector' AND NOT attisdropped"
    )
    if not connection.exec_driver_sql(column).scalar():
        connection.exec_driver_sql("ALTER TABLE embeddings ADD COLUMN vector vector")
        # Kept in the row: the search reads this one, and never `data`.
        connection.exec_driver_sql("ALTER TABLE embeddings ALTER vector SET STORAGE MAIN")
        connection.exec_driver_sql("ALTER TABLE embeddings ALTER data SET STORAGE EXTERNAL")
    _fill(connection)
    return True


def _extend(connection: Connection) -> bool:
    installed = "SELECT 1 FROM pg_extension WHERE extname = 'vector'"
    if connection.exec_driver_sql(installed).scalar():
        return True
    offered = "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"
    if not connection.exec_driver_sql(offered).scalar():
        return False
    connection.exec_driver_sql("SAVEPOINT extension")
    try:
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS vector")
    except exc.DBAPIError as error:
        connection.exec_driver_sql("ROLLBACK TO extension")
        log.warning(
            "database.pgvector_missing error=%s: have an owner of the database run "
            "CREATE EXTENSION vector; until then, searches are made in the service's process",
            getattr(error, "orig", error),
        )
        return False
    return True


def _fill(connection: Connection) -> None:
    """Convert what was written by a host that did not use the extension."""
    table = dialect.server_embeddings
    key = [table.c.agent_id, table.c.memory_id, table.c.dimension, table.c.model]
    query = sa.select(*key, table.c.data).where(table.c.vector.is_(None)).limit(BATCH)
    while rows := connection.execute(query).all():
        for row in rows:
            connection.execute(
                sa.update(table)
                .where(*(column == getattr(row, column.name) for column in key))
                .values(vector=dialect.vector(text_of(unpacked(row.data))))
            )
