"""The database service's file: opening, migrations, transactions, and outages, in one process."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import exc

from garrison.ipc import Busy, PermanentFailure
from garrison.workers.services.database import migrate, tables
from garrison.workers.services.database.database import Database, DatabaseUnavailable
from garrison.workers.services.database.engine import Operation, UncertainCommit
from garrison.workers.services.database.sqlite import SqliteEngine


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[SqliteEngine]:
    """Return an open file."""
    made = SqliteEngine(tmp_path / "database.db", 5.0)
    await made.migrate()
    yield made
    await made.close()


async def test_the_migrations_make_the_tables(engine: SqliteEngine) -> None:
    """What alembic would change is nothing; a second start finds nothing to do."""

    def compare(connection: sa.Connection) -> Any:
        context = MigrationContext.configure(
            connection, opts={"version_table": migrate.VERSION_TABLE, "compare_type": True}
        )
        return compare_metadata(context, tables.metadata)

    assert await engine.read(compare) == []
    files = {path.name for path in migrate.FOLDER.glob("versions/v*.py")}
    assert {name[1:5] for name in files} == set(migrate.REVISIONS)
    assert engine.path.stat().st_mode & 0o777 == 0o600
    await engine.migrate()


async def test_a_later_version_s_file_is_left_alone(engine: SqliteEngine) -> None:
    """The start is refused for good, with the command."""
    await engine.write([_sql(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")])
    again = SqliteEngine(engine.path, 5.0)
    with pytest.raises(PermanentFailure, match=r"later version.*9999.*pip install"):
        await again.migrate()
    await again.close()


async def test_a_damaged_file_is_left_alone(tmp_path: Path) -> None:
    """The start is refused for good, with what to do."""
    path = tmp_path / "database.db"
    path.write_bytes(b"no database " * 1000)
    engine = SqliteEngine(path, 5.0)
    with pytest.raises(PermanentFailure, match="Put a backup in its place"):
        await engine.migrate()
    await engine.close()
    assert path.read_bytes() == b"no database " * 1000


def _sql(text: str) -> Operation[Any]:
    return lambda connection: connection.exec_driver_sql(text)


def put(key: str) -> Operation[str]:
    """Return an operation that stores a world; the same one twice is an error."""

    def run(connection: sa.Connection) -> str:
        row = {"agent_id": "ada", "id": key, "names": [], "metadata": {}}
        connection.execute(sa.insert(tables.entities), row)
        return key

    return run


async def stored(engine: SqliteEngine) -> list[str]:
    """Return the ids of what is stored."""
    query = sa.select(tables.entities.c.id).order_by(tables.entities.c.id)
    return await engine.read(lambda connection: list(connection.execute(query).scalars()))


def fail(connection: sa.Connection) -> None:
    """Fail as an author's code may."""
    put("half")(connection)
    raise ValueError("an author's")


async def test_one_transaction_leaves_out_what_fails(engine: SqliteEngine) -> None:
    """Also what the failed one had written; the others have their results."""
    outcomes = await engine.write([put("a"), fail, put("a"), put("b")])

    assert outcomes[0] == "a"
    assert isinstance(outcomes[1], ValueError)
    assert isinstance(outcomes[2], exc.IntegrityError)
    assert outcomes[3] == "b"
    assert await stored(engine) == ["a", "b"]


async def test_a_long_read_is_ended(tmp_path: Path) -> None:
    """At the statement_timeout, and when its caller is cancelled; the next one is answered."""
    engine = SqliteEngine(tmp_path / "database.db", 0.2)
    await engine.migrate()
    endless = _sql("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
                   "SELECT max(x) FROM n")  # fmt: skip
    with pytest.raises(exc.OperationalError, match="interrupted"):
        await engine.read(endless)
    engine._timeout = 60.0
    reads = [asyncio.ensure_future(engine.read(endless)) for _ in range(8)]
    await asyncio.sleep(0)
    for read in reads:
        read.cancel()
    async with asyncio.timeout(30.0):
        await asyncio.gather(*reads, return_exceptions=True)
        assert await stored(engine) == []
    await engine.close()


# --- a server that is lost --------------------------------------------------------------------


class FakeEngine:
    """A server that fails as it is told."""

    name = "PostgreSQL at nowhere"
    has_pgvector = False

    def __init__(self, *faults: Exception | None) -> None:
        self.faults = list(faults)
        self.written: list[Any] = []
        self.known = dict[str, bool]()

    async def read(self, operation: Operation[Any]) -> Any:
        if self.faults and (fault := self.faults.pop(0)) is not None:
            raise fault
        return "read"

    async def write(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None and not isinstance(fault, UncertainCommit):
            raise fault
        outcomes = [operation(None) for operation in operations]  # type: ignore[arg-type]
        if fault is None or self.known[fault.transaction]:
            self.written += outcomes
        if fault is not None:
            fault.outcomes = outcomes
            raise fault
        return outcomes

    async def committed(self, transaction: str) -> bool:
        return self.known[transaction]

    async def migrate(self) -> None: ...
    async def backup(self, path: Path) -> int:
        raise NotImplementedError

    async def close(self) -> None: ...


class Running:
    """A database over a fake server."""

    def __init__(self, *faults: Exception | None, time_left: float = 60.0) -> None:
        self.engine, self.outages = FakeEngine(*faults), list[str | None]()
        self.database = Database(self.engine, 30.0, lambda: time_left, self.outages.append)

    async def __aenter__(self) -> Database:
        self._run = asyncio.ensure_future(self.database.run())
        return self.database

    async def __aexit__(self, *_: object) -> None:
        await self.database.close(5.0)
        await self._run


async def test_calls_wait_for_a_lost_server() -> None:
    """Reads and writes; the outage is told once, and its end."""
    running = Running(ConnectionRefusedError("no one"), ConnectionRefusedError("no one"))
    async with running as database:
        assert await database.write(lambda _: "done") == "done"
        assert await database.read(lambda _: "unused") == "read"
    first, last = running.outages
    assert first == "PostgreSQL at nowhere cannot be reached: no one"
    assert last is None
    assert running.engine.written == ["done"]


async def test_a_call_ends_before_its_deadline() -> None:
    """With the reason; a write that was not begun is not made afterwards."""
    faults = [ConnectionRefusedError("no one")] * 100
    running = Running(*faults, time_left=0.2)
    async with running as database:
        with pytest.raises(DatabaseUnavailable, match="PostgreSQL at nowhere cannot be reached"):
            await database.read(lambda _: None)
        with pytest.raises(DatabaseUnavailable, match="no one"):
            await database.write(lambda _: "late")
        running.engine.faults.clear()
    assert running.engine.written == []


@pytest.mark.parametrize("took_effect", [True, False])
async def test_an_uncertain_commit_is_looked_up(took_effect: bool) -> None:
    """What took effect is not done a second time, and what did not is done."""
    running = Running(UncertainCommit("7", []))
    running.engine.known["7"] = took_effect
    async with running as database:
        assert await database.write(lambda _: "done") == "done"
    assert running.engine.written == ["done"]


async def test_a_full_disk_is_said() -> None:
    """The call fails at once; the service goes on."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorname = "SQLITE_FULL"
    running = Running(error)
    async with running as database:
        with pytest.raises(Busy, match="no room on the disk"):
            await database.write(lambda _: None)
        assert await database.write(lambda _: "done") == "done"
