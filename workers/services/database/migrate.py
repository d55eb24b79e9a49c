"""Brings the tables up to date, by alembic's migrations."""

import logging
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from garrison.ipc import PermanentFailure
from garrison.workers import load_library

log = logging.getLogger(__name__)
logging.getLogger("alembic").setLevel(logging.WARNING)  # it reports its own plugins

FOLDER = Path(__file__).with_name("migrations")
REVISIONS = ("0001",)  # oldest first; those of `migrations/versions`
VERSION_TABLE = "garrison_version"


def upgrade(connection: Connection, name: str) -> None:
    """Apply the migrations that a database lacks, in the caller's transaction.

    Args:
        connection: Its transaction excludes other migrations.
        name: The database, for texts.

    Raises:
        PermanentFailure: A later version of garrison wrote it. It is left as it is.
    """
    found = _revision(connection)
    if found == REVISIONS[-1]:
        return
    if found is not None and found not in REVISIONS:
        raise PermanentFailure(
            f"{name} was written by a later version of garrison (its tables are {found}, this "
            f"version knows {REVISIONS[-1]}). Install that version: pip install --upgrade "
            f"'alembic>=1.18', or name another database"
        )
    _run(connection)
    log.info("database.migrated from=%s to=%s", found or "none", REVISIONS[-1])


def is_current(connection: Connection) -> bool:
    """Return whether a database has all migrations."""
    return _revision(connection) == REVISIONS[-1]


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()


def _run(connection: Connection) -> None:
    load_library("alembic", "alembic>=1.18")  # slow to import, and needed once
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    with EnvironmentContext(
        config, script, fn=lambda revision, _: script._upgrade_revs("head", revision)
    ) as environment:
        environment.configure(
            connection=connection, version_table=VERSION_TABLE, transactional_ddl=False
        )
        environment.run_migrations()
