"""Warms SQLAlchemy: the launcher imports this module before it forks workers.

A first statement builds types, compilers and readers of rows. A database in memory has each of the
tables made and read once; nothing of it stays open.
"""

import sqlalchemy as sa

from . import documents, migrate, stores, tables  # noqa: F401 (`stores` is what workers import)


def _warm() -> None:
    engine = sa.create_engine(
        "sqlite://",
        isolation_level="AUTOCOMMIT",
        json_serializer=documents.encode,
        json_deserializer=documents.decode,
    )
    with engine.connect() as connection:
        tables.metadata.create_all(connection)
        migrate.is_current(connection)
        for table in tables.metadata.sorted_tables:
            connection.execute(sa.select(table).limit(1)).all()
            connection.execute(sa.delete(table).where(sa.false()))
    engine.dispose()


_warm()
