"""The database's stores without a host: on a file, or on a PostgreSQL server."""

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from garrison.workers.services.database.database import Database
from garrison.workers.services.database.engine import Engine
from garrison.workers.services.database.logs import LogStore
from garrison.workers.services.database.people import PeopleStore
from garrison.workers.services.database.places import PlaceStore
from garrison.workers.services.database.postgres import PostgresEngine, parse_url
from garrison.workers.services.database.retention import RetentionStore
from garrison.workers.services.database.sqlite import SqliteEngine
from garrison.workers.services.database.tasks import TaskStore

T = TypeVar("T")
TIMEOUT_S = 30.0
NUMBERS = itertools.count()


class Opened:
    """The stores of one open database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.people = PeopleStore(database)
        self.places = PlaceStore(database)
        self.logs = LogStore(database)
        self.tasks = TaskStore(database)
        self.retention = RetentionStore(database, {})


class StoreRunner:
    """Runs scenarios on a database; each call opens it anew.

    Args:
        place: The folder of a file, or a server's address.
    """

    def __init__(self, place: Path | str) -> None:
        self._place = place

    def __call__(self, scenario: Callable[[Opened], Awaitable[T]]) -> T:
        """Return the result of a scenario."""
        return asyncio.run(self._run(scenario))

    def agent(self) -> str:
        """Return an agent that has nothing yet."""
        return f"agent-{next(NUMBERS)}-{uuid.uuid4().hex[:6]}"

    def _engine(self) -> Engine:
        if isinstance(self._place, Path):
            return SqliteEngine(self._place / "test.db", TIMEOUT_S)
        return PostgresEngine(parse_url(self._place), "tests", 4, TIMEOUT_S)

    async def _run(self, scenario: Callable[[Opened], Awaitable[T]]) -> T:
        database = Database(self._engine(), TIMEOUT_S, lambda: float("inf"), lambda problem: None)
        await database.migrate()
        writer = asyncio.create_task(database.run())
        try:
            return await asyncio.wait_for(scenario(Opened(database)), TIMEOUT_S)
        finally:
            await database.close(TIMEOUT_S)
            await writer
