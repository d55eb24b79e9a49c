"""Usage that is kept in a file, and stored in a database hour by hour."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.waiting import eventually

from garrison.workers import Log
from garrison.workers.services.model_support.usage import Counts, Kept, UsageKey, Used
from garrison.workers.services.model_support.usage_file import FILE, UsageKeeper, present_hour
from garrison.workers.testing import Harness


class Database:
    """A database of log entries."""

    service_type = "database"

    def __init__(self, error: str = "") -> None:
        self.logs: dict[str, Log] = {}
        self.error, self.stored = error, asyncio.Event()

    async def create_log(self, log: Log, agent_id: str | None = None) -> str:
        self.stored.set()
        if self.error:
            raise ValueError(self.error)
        assert log.id not in self.logs
        self.logs[log.id] = log
        return log.id

    async def delete_log(self, log_id: str, agent_id: str | None = None) -> None:
        self.logs.pop(log_id, None)


async def stored(folder: Path, database: Database) -> UsageKeeper:
    """Return a provider's usage once the database was asked to store it."""
    hour = present_hour() - 1
    old = Counts(requests=2, read=7, cost=0.5)
    kept = Kept(hour // 24, Counts(), [(UsageKey(hour, "", "chat", "ada"), old)])
    (folder / FILE).write_bytes(msgspec.json.encode(kept))
    harness = Harness("openai", data_folder=folder)
    harness.add_fakes({"database": database})
    keeper = UsageKeeper(harness.runtime, lambda: None)
    try:
        await asyncio.wait_for(database.stored.wait(), 10)
        keeper.add(Used(1, 0, 0, 1, "stop"), False, None)

        async def gone() -> bool:
            return all(key.hour != hour for key in keeper.usage.rows)

        await eventually(gone)
    finally:
        await harness.close()
    harness.raise_failure()
    return keeper


async def test_the_rows_of_an_hour_that_ended_are_stored(tmp_path: Path) -> None:
    """Once, also if a process was killed between the storing and its own file."""
    database = Database()
    await stored(tmp_path, database)
    (row,) = database.logs.values()
    assert (row.type, row.entity_id, row.body["requests"]) == ("model_usage", "ada", 2)
    assert row.body["cost"] == 0.5
    database.stored.clear()
    keeper = await stored(tmp_path, database)
    assert len(database.logs) == 1
    kept = msgspec.json.decode((tmp_path / FILE).read_bytes(), type=Kept)
    assert [key.person for key, _ in kept.rows] == [""]
    assert keeper.rows()[0]["requests"] == 1


async def test_what_a_database_refuses_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be refused again, and hold up all others."""
    await stored(tmp_path, Database("no such agent"))
    assert "usage.refused" in caplog.text


async def test_a_damaged_file_counts_from_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And says so."""
    (tmp_path / FILE).write_text("{")
    harness = Harness("openai", data_folder=tmp_path)
    keeper: Any = UsageKeeper(harness.runtime, lambda: None)
    await harness.close()
    assert keeper.today.requests == 0
    assert "usage.unreadable" in caplog.text
