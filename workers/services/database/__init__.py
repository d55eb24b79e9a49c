"""The database service: memories, people, rooms, tasks, logs and cached values of all agents.

They are in a SQLite file of the service's own, or on a PostgreSQL server. Each family of methods is
a class, whose statements are in the store of the same name. Durations are seconds, sizes bytes.
"""

import asyncio
import importlib
from typing import Annotated, Self

import msgspec
from msgspec import Meta

from garrison.ipc import DeclaredError
from garrison.workers import Plugin, Runtime, load_library

from .admin_methods import AdminMethods
from .cache_methods import CacheMethods
from .erasure_methods import ErasureMethods
from .log_methods import LogMethods
from .memory_methods import MemoryMethods
from .people_methods import PeopleMethods
from .place_methods import PlaceMethods
from .task_methods import TaskMethods

LIBRARIES = ("sqlalchemy",)  # alembic is imported where there is something to migrate
SERVER_LIBRARIES = ("asyncpg", "greenlet")
REQUIREMENTS = ("alembic>=1.18", "asyncpg>=0.31", "numpy>=1.26", "sqlalchemy[asyncio]>=2.0.45")
PROBE_S = 10.0  # between looks whether the server answers
PAUSE_S = 0.05  # between parts of a deletion, for others who write
PRUNE_S = 60.0  # between deletions of cached values that expired
STOP_S = 5.0  # for what waits to be written

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class DatabaseService(
    MemoryMethods,
    CacheMethods,
    PeopleMethods,
    PlaceMethods,
    TaskMethods,
    LogMethods,
    ErasureMethods,
    AdminMethods,
):
    """Memories, people, rooms, tasks, logs and cached values."""

    service_type = "database"
    capability_description = "Memories, people, rooms, tasks, logs and cached values of all agents"

    class Config(msgspec.Struct):
        """`[services.database.config]`. Times are seconds."""

        url: str = ""  # of PostgreSQL; empty is the secret DATABASE_URL, else a SQLite file
        path: str = ""  # of the SQLite file; empty is database.db in the service's folder
        pool: Annotated[int, Meta(ge=2, le=200)] = 8  # connections to PostgreSQL
        statement_timeout: Seconds = 30.0  # for one statement
        wait: Seconds = 30.0  # for a server that is away, before a call fails
        pgvector: bool = True  # let the server search vectors where it has that extension
        vector_cache: Annotated[int, Meta(ge=1 << 20)] = 256 << 20  # where it does not
        cache_entries: Annotated[int, Meta(ge=1)] = 100_000  # the oldest are deleted
        # table to the age at which its rows are deleted; 0 keeps them
        retention: dict[str, Annotated[float, Meta(ge=0)]] = {}

    config: Config

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        config = service.config
        config.url = config.url or runtime.get_setting("DATABASE_URL", "")
        for library in LIBRARIES + (SERVER_LIBRARIES if config.url else ()):
            load_library(library, *REQUIREMENTS)
        stores = importlib.import_module(".stores", __name__)
        service._stores = await stores.Stores.open(runtime, config)
        service.spawn(service._stores.database.run(), "writer")
        await service._apply_tombstones()
        service.every(PROBE_S, service._stores.database.probe, while_paused=True)
        service.every(PRUNE_S, service._prune, while_paused=True)
        service.spawn(service._stores.retention.run(service._note_deleted), "retention")
        return service

    def _note_deleted(self, rows: int) -> None:
        self.runtime.report(deleted_by_age=rows)

    async def _prune(self) -> None:
        """Delete cached values that expired, in parts; what a lost server leaves is for later."""
        rows = 0
        try:
            while deleted := await self._stores.cache.prune():
                rows += deleted
                await asyncio.sleep(PAUSE_S)
        except (DeclaredError, TimeoutError) as error:
            self.runtime.logger.warning("database.prune_failed deleted=%d error=%s", rows, error)

    async def stop(self) -> None:
        """Write what waits, and close the connections."""
        await self._stores.database.close(STOP_S)


plugin = Plugin(
    name="database",
    services=[DatabaseService],
    preload=["asyncpg", "garrison.workers.services.database.warm"],
)
