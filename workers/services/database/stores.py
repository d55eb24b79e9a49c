"""Opens the database, and holds what reads and writes its tables.

It imports SQLAlchemy; the service imports it when it starts.
"""

import asyncio
import logging
from pathlib import Path
from typing import Any, Self

from sqlalchemy import exc

from garrison.ipc import PermanentFailure
from garrison.workers import Runtime

from .cache import CacheStore
from .database import FIRST_S, LONGEST_S, Database
from .engine import Engine
from .erasure import ErasureStore
from .failures import Failure, failure_of
from .logs import LogStore
from .memories import MemoryStore
from .people import PeopleStore
from .places import PlaceStore
from .postgres import CONNECT_S, PostgresEngine, parse_url
from .retention import RetentionStore
from .sqlite import SqliteEngine
from .tasks import TaskStore
from .vectors import VectorStore

log = logging.getLogger(__name__)

FILE = "database.db"
OUTAGE = "outage"  # key of the warning
DAY_S = 86_400.0
# seconds; 0 keeps them: tasks that are done or failed, log entries, what models used by day
RETENTION = {"tasks": 7 * DAY_S, "logs": 30 * DAY_S, "usage": 400 * DAY_S}


class Stores:
    """The database, and one object for each family of tables."""

    def __init__(self, database: Database, config: Any) -> None:
        self.database = database
        self.vectors = VectorStore(database, config.vector_cache)
        self.memories = MemoryStore(database, self.vectors)
        self.cache = CacheStore(database, config.cache_entries)
        self.people = PeopleStore(database)
        self.places = PlaceStore(database)
        self.tasks = TaskStore(database)
        self.logs = LogStore(database)
        self.retention = RetentionStore(database, RETENTION | config.retention)
        self.erasure = ErasureStore(database, self.memories)

    @classmethod
    async def open(cls, runtime: Runtime, config: Any) -> Self:
        """Open the database and bring its tables up to date; wait for a server that is away.

        Raises:
            PermanentFailure: A retry cannot help.
        """

        def note(problem: str | None) -> None:
            runtime.warn(OUTAGE, None if problem is None else runtime.redacted(problem))

        engine = open_engine(runtime, config)
        database = Database(engine, config.wait, lambda: runtime.time_left, note)
        delay = FIRST_S
        while True:
            try:
                await database.migrate()
                break
            except (exc.DBAPIError, OSError) as error:
                failure, problem = failure_of(error), runtime.redacted(problem_of(engine, error))
                if failure is Failure.REFUSED:
                    raise PermanentFailure(f"{problem}. Correct `url`, then start it") from error
                if failure not in {Failure.LOST, Failure.AGAIN}:
                    raise
            log.warning("database.unreachable wait_s=%.1f error=%s", delay, problem)
            note(problem)
            runtime.extend(delay + 4 * CONNECT_S, problem)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_S)
        note(None)
        return cls(database, config)


def open_engine(runtime: Runtime, config: Any) -> Engine:
    """Return the engine that the config wants."""
    if config.url:
        name = f"garrison {runtime.name}"
        return PostgresEngine(
            parse_url(config.url), name, config.pool, config.statement_timeout, config.pgvector
        )
    path = runtime.data_folder / Path(config.path or FILE).expanduser()
    return SqliteEngine(path, config.statement_timeout)


def problem_of(engine: Engine, error: Exception) -> str:
    """Return what is wrong with a database, as one line."""
    cause = getattr(error, "orig", None) or error
    return f"{engine.name} cannot be reached: {str(cause) or type(cause).__name__}"
