"""The sql service: named databases of others, read only by default, within limits.

Durations are seconds, sizes bytes.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import msgspec

from garrison.ipc import DeclaredError, PermanentFailure, RetryLater
from garrison.workers import Plugin, Runtime, Service, idempotent

from ..model_support.turns import Turns
from . import config as keys
from .config import DatabaseConfig, check_url
from .offers import query_action, schema_provider
from .parameters import bind
from .postgres import PostgresSource
from .results import Executed, Piece, Result, SqlError
from .schema import Schema
from .source import Bounds, Source, Statement
from .sqlite import SqliteSource

ANSWER_S = 0.25  # before a caller's deadline, for an error to reach it
SCHEMA_S = 60.0  # how long the schema in prompts is kept
PROMPT_S = 3.0  # for the schemas of a prompt
PROBE_S = 30.0  # between looks whether each database answers
Params = dict[str, Any] | list[Any] | None


class DatabaseInfo(msgspec.Struct):
    """A database of the config."""

    name: str
    dialect: str
    write: bool
    agent: bool


class _Database:
    """A database, and its limits."""

    def __init__(self, name: str, config: DatabaseConfig, source: Source) -> None:
        self.name, self.config, self.source = name, config, source
        self.turns = Turns(config.pool)
        self.schema: tuple[float, Schema] | None = None  # and since when


class SqlService(Service):
    """Queries databases."""

    service_type = "sql"
    capability_description = "Queries databases of SQLite and PostgreSQL, read only by default"

    class Config(keys.Config):
        """`[services.sql.config]`."""

    config: Config
    _databases: dict[str, _Database]

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service._counts = dict.fromkeys(("queries", "rows", "failed"), 0)
        service._databases = {
            name: _Database(name, one, service._source(name, one))
            for name, one in service.config.databases.items()
        }
        if not service._databases:
            raise PermanentFailure(
                f"no database is configured: add [services.{runtime.name}.config.databases.NAME] "
                "with a url"
            )
        names = [name for name, one in service._databases.items() if one.config.agent]
        if names:
            action = query_action(service, names, service.config.result_characters)
            runtime.register_action(action)
            if service.config.schema_in_prompt:
                most = service.config.schema_characters
                runtime.register_provider(schema_provider(service._shown, most))
        service.every(PROBE_S, service._probe, while_paused=True)
        return service

    async def stop(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(one.source.close() for one in self._databases.values()))

    @idempotent
    async def query(self, database: str, sql: str, params: Params = None) -> Result:
        """Return the rows of a query, within the database's limits.

        Args:
            database: Its NAME in the config.
            sql: One statement that returns rows and changes nothing. `:name` is a parameter.
            params: The values by name; or in order, for `?` in SQLite and `$1` in PostgreSQL.

        Raises:
            SqlError: It is not allowed, wrong, too slow or too large.
            RetryLater: The server is away.
            Busy: Too many statements wait.
        """
        chosen = self._chosen(database)
        statement = _statement(chosen, sql, params)
        async with self._counted(chosen):
            found = await chosen.source.query(statement, self._bounds(chosen))
        self._count("rows", len(found.rows))
        return found

    async def stream(
        self, database: str, sql: str, params: Params = None
    ) -> AsyncGenerator[Piece, None]:
        """Yield all rows of a query, up to 200 in each piece.

        The limits of time and size hold for each piece, the number of rows has none. Raises as
        `query` does.
        """
        chosen = self._chosen(database)
        statement = _statement(chosen, sql, params)
        bounds = Bounds(chosen.config.seconds, chosen.config.rows, chosen.config.size)
        async with self._counted(chosen), aclosing(chosen.source.stream(statement, bounds)) as all:
            async for piece in all:
                self._count("rows", len(piece.rows))
                yield piece

    async def execute(self, database: str, sql: str, params: Params = None) -> Executed:
        """Run a statement that changes something, in a transaction of its own.

        Raises as `query` does. After `RetryLater` or a lost call it may have been carried out.
        """
        chosen = self._chosen(database)
        if not chosen.config.write:
            text = f"{database} is read only: `write = true` in the config allows changes"
            raise SqlError(text, kind="refused")
        statement = _statement(chosen, sql, params)
        async with self._counted(chosen):
            return await chosen.source.execute(statement, self._bounds(chosen))

    @idempotent
    async def schema(self, database: str) -> Schema:
        """Return the tables of a database, with their columns and keys. Raises as `query` does."""
        chosen = self._chosen(database)
        async with self._counted(chosen):
            found = await chosen.source.schema(database, self._bounds(chosen))
        chosen.schema = (time.monotonic(), found)
        return found

    async def databases(self) -> list[DatabaseInfo]:
        """Return the databases of the config."""
        return [
            DatabaseInfo(name, one.source.dialect, one.config.write, one.config.agent)
            for name, one in self._databases.items()
        ]

    # --- parts of these ---------------------------------------------------------------------

    def _source(self, name: str, config: DatabaseConfig) -> Source:
        """Return a database as the config describes it.

        Raises:
            PermanentFailure: A secret or a library is missing, or the url is none.
        """
        url = config.url or self._secret(name, config.url_secret)
        try:
            check_url(url)
        except ValueError as error:
            raise PermanentFailure(
                f"database {name}, secret {config.url_secret}: {error}"
            ) from None
        parts = urlsplit(url)
        if parts.scheme == "sqlite":
            path = Path(unquote(parts.path[1:])).expanduser()
            return SqliteSource(path, config.write, config.pool, config.size)
        password = self._secret(name, config.password_secret) if config.password_secret else ""
        return PostgresSource(
            url,
            password,
            config.write,
            config.pool,
            f"garrison {self.runtime.name}",
            lambda text: self._note_outage(name, text),
        )

    def _secret(self, name: str, secret: str) -> str:
        value = self.runtime.get_setting(secret)
        if not value:
            raise PermanentFailure(
                f"database {name}: there is no {secret}: set it, and name it in the `secrets` of "
                f"this service, then run garrison start {self.runtime.name}"
            )
        return str(value)

    def _chosen(self, name: str) -> _Database:
        found = self._databases.get(name)
        if found is None:
            names = ", ".join(self._databases)
            raise SqlError(
                f"there is no database {str(name)[:60]!r}; there are {names}", kind="database"
            )
        return found

    def _bounds(self, chosen: _Database) -> Bounds:
        left = max(self.runtime.time_left - ANSWER_S, 0.05)
        config = chosen.config
        return Bounds(min(config.seconds, left), config.rows, config.size)

    def _counted(self, chosen: _Database) -> "_Counted":
        return _Counted(self, chosen)

    def _count(self, what: str, number: int = 1) -> None:
        self._counts[what] += number
        self.runtime.report(**self._counts)

    def _note_outage(self, name: str, text: str | None) -> None:
        self.runtime.warn(f"database {name}", text and f"{name}: {text}")

    async def _probe(self) -> None:
        """Note which databases do not answer, also while there are no queries."""
        for name, one in self._databases.items():
            try:
                bounds = Bounds(min(one.config.seconds, PROMPT_S), 1, 1024)
                await one.source.query(Statement("SELECT 1", [], []), bounds)
            except DeclaredError as error:
                self._note_outage(name, error.reason)
            else:
                self._note_outage(name, None)

    async def _shown(self) -> list[Schema]:
        """Return the schemas that a prompt has; a database that does not answer is left out."""
        found = []
        for name, one in self._databases.items():
            if not one.config.agent:
                continue
            if one.schema is None or time.monotonic() - one.schema[0] > SCHEMA_S:
                try:
                    async with asyncio.timeout(PROMPT_S):
                        await self.schema(name)
                except (DeclaredError, TimeoutError) as error:
                    self.runtime.logger.warning("schema.failed database=%s error=%s", name, error)
            if one.schema is not None:
                found.append(one.schema[1])
        return found


class _Counted:
    """A turn at a database; counts the statement, and whether it failed."""

    def __init__(self, service: SqlService, chosen: _Database) -> None:
        self._service, self._turn = service, chosen.turns.turn()

    async def __aenter__(self) -> None:
        await self._turn.__aenter__()
        self._service._count("queries")

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        await self._turn.__aexit__(kind, error, traceback)
        if isinstance(error, RetryLater | SqlError):
            self._service._count("failed")


def _statement(
    chosen: _Database, sql: str, params: Mapping[str, Any] | list[Any] | None
) -> Statement:
    bound = bind(sql, params or {}, chosen.source.numbered)
    return Statement(bound.sql, bound.values, bound.names)


plugin = Plugin(name="sql", services=[SqlService], preload=["garrison.workers.services.sql"])
