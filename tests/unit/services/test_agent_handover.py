"""What the agent's file holds goes to a database that is configured later: all of it, once."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from garrison.ipc import CallError
from garrison.ipc.messages import Changed, Delisted, State
from garrison.workers import Content, Memory, Task, as_memory
from garrison.workers.services.agent.config import Config
from garrison.workers.services.agent.memory import handover as module
from garrison.workers.services.agent.memory.file_database import FileDatabase
from garrison.workers.services.agent.memory.handover import HandOver
from garrison.workers.services.agent.memory.memory_rows import Wanted
from garrison.workers.services.agent.memory.store import FILE, MemoryStore
from garrison.workers.testing import Harness


class Plain:
    """A database of an author's own: it knows no agents, and stores one memory at a time."""

    service_type = "database"

    def __init__(self) -> None:
        self.memories: dict[str, tuple[str, Memory]] = {}
        self.refuses: Callable[[str], bool] = lambda memory_id: False

    async def create_memory(
        self, memory: Memory, table_name: str = "messages", unique: bool = False
    ) -> str:
        """Store a memory."""
        if self.refuses(memory.id):
            raise ValueError(f"{memory.id} is not wanted")
        self.memories.setdefault(memory.id, (table_name, memory))
        return memory.id


class Whole(Plain):
    """A database that has what the agent has, and notes whose it is."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[str, Task] = {}
        self.values: dict[str, tuple[Any, float | None]] = {}
        self.agents: set[str | None] = set()
        self.batches = 0

    async def create_memories(
        self, memories: list[Memory], table_name: str = "messages", agent_id: str | None = None
    ) -> list[str]:
        """Store memories at once, all or none."""
        for one in memories:
            if self.refuses(one.id):
                raise ValueError(f"{one.id} is not wanted")
        self.agents.add(agent_id)
        self.batches += 1
        for one in memories:
            self.memories.setdefault(one.id, (table_name, one))
        return [one.id for one in memories]

    async def create_task(self, task: Task, agent_id: str | None = None) -> str:
        """Store a task."""
        self.agents.add(agent_id)
        self.tasks.setdefault(task.id, task)
        return task.id

    async def get_cache(self, key: str, agent_id: str | None = None) -> Any:
        """Return a value."""
        return self.values.get(key, (None, None))[0]

    async def set_cache(
        self, key: str, value: Any, ttl: float | None = None, agent_id: str | None = None
    ) -> bool:
        """Store a value."""
        self.agents.add(agent_id)
        self.values[key] = (value, ttl)
        return True


@asynccontextmanager
async def opened(folder: Path, agent: str = "") -> AsyncIterator[tuple[Harness, FileDatabase]]:
    """Open the file of an agent, in a host without a database."""
    harness = Harness("agent", data_folder=folder)
    harness.client.agent = agent
    store = MemoryStore(folder / FILE, 1 << 20)
    store.start(asyncio.get_running_loop())
    try:
        yield harness, FileDatabase(store, Config())
    finally:
        store.begin_close()
        await asyncio.to_thread(store.wait_closed)
        await harness.close()


async def fill(database: FileDatabase, number: int = 500, agent: str = "") -> None:
    """Store memories of two tables, a task, and values."""
    many = [Memory(content=Content("x"), id=f"m{n}", room_id="r") for n in range(number)]
    await database.create_memories(many, "messages", agent)
    await database.create_memories([as_memory({"content": "y", "id": "f"})], "facts", agent)
    await database.create_task(Task(name="t", id="t", lease="x", status="running"), agent)
    await database.set_cache("k", {"a": 1}, None, agent)
    await database.set_cache("brief", 2, 100.0, agent)


def held(database: FileDatabase) -> list[int]:
    """Return how much the file holds."""
    return [database.store.count(table).rows for table in ("memories", "tasks", "cache")]


async def test_a_database_gets_all_of_it_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """For the agent that it belongs to; the file is empty then, and its log says how many."""
    caplog.set_level(logging.INFO)
    whole = Whole()
    whole.values["k"] = ("newer", None)
    async with opened(tmp_path, "ada") as (harness, database):
        await fill(database, agent="ada")
        harness.add_fakes({"shelf": whole})
        hand_over = HandOver(harness.runtime, database.store)
        await hand_over._step()
        await hand_over._step()
        assert held(database) == [0, 0, 0]

    assert len(whole.memories) == 501
    assert whole.memories["f"][0] == "facts"
    assert whole.batches == 4  # of 200, and one for each table
    assert whole.tasks["t"].lease == "x"
    assert whole.values["k"] == ("newer", None)
    assert whole.values["brief"][0] == 2
    assert 0 < (whole.values["brief"][1] or 0.0) <= 100
    assert whole.agents == {"ada"}
    (line,) = [one for one in caplog.messages if one.startswith("memory.handed_over")]
    assert line == "memory.handed_over database=shelf memories=501 tasks=1 cached=2 left=0"


async def test_a_kill_in_between_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Of a batch that the database has, and that is still in the file."""
    whole = Whole()
    async with opened(tmp_path) as (harness, database):
        await fill(database)
        harness.add_fakes({"database": whole})
        hand_over = HandOver(harness.runtime, database.store)
        stored = asyncio.Event()

        async def killed(table: str, numbers: list[int]) -> None:
            if table == "memories":
                stored.set()
                await asyncio.Event().wait()
            await original(table, numbers)

        original, hand_over._remove = hand_over._remove, killed  # type: ignore[method-assign]
        running = asyncio.ensure_future(hand_over._step())
        await stored.wait()
        running.cancel()
    async with opened(tmp_path) as (harness, database):
        assert held(database) == [501, 0, 2]
        harness.add_fakes({"database": whole})
        await HandOver(harness.runtime, database.store)._step()
        assert held(database) == [0, 0, 0]

    assert len(whole.memories) == 501
    assert sorted(whole.tasks) == ["t"]


async def test_what_a_database_refuses_stays_in_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest goes on. It is refused once for each process of the database."""
    whole = Whole()
    whole.refuses = lambda memory_id: memory_id == "m3"
    async with opened(tmp_path) as (harness, database):
        await fill(database, 10)
        harness.add_fakes({"database": whole})
        hand_over = HandOver(harness.runtime, database.store)
        await hand_over._step()
        await hand_over._step()
        assert held(database) == [1, 0, 0]
        assert caplog.text.count("memory.not_taken") == 1

        whole.refuses = lambda memory_id: False
        entry = harness.client.directory.get("database")
        assert entry is not None
        harness.client.directory.apply(
            Changed("database", State.RUNNING, True, entry.generation + 1, entry.token)
        )
        await hand_over._step()
        assert held(database) == [0, 0, 0]


async def test_a_database_that_fails_is_not_asked_for_each_row(tmp_path: Path) -> None:
    """Its fault is not theirs: nothing is left out, and the next attempt has them all."""
    whole = Whole()
    whole.refuses = lambda memory_id: True
    async with opened(tmp_path) as (harness, database):
        await fill(database, 100)
        harness.add_fakes({"database": whole})
        hand_over = HandOver(harness.runtime, database.store)
        with pytest.raises(CallError, match="is not wanted"):
            await hand_over._step()
        assert hand_over._refused == set()
        assert held(database) == [101, 0, 2]


async def test_a_database_of_ones_own_gets_what_it_has_methods_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest stays in the file, and the log says so once."""
    plain = Plain()
    async with opened(tmp_path) as (harness, database):
        await fill(database, 10)
        harness.add_fakes({"database": plain})
        hand_over = HandOver(harness.runtime, database.store)
        await hand_over._step()
        await hand_over._step()
        assert held(database) == [0, 1, 2]
        assert hand_over._rest() == 0

    assert len(plain.memories) == 11
    assert caplog.text.count("memory.not_handed_over table=tasks") == 1


async def test_a_file_that_is_used_again_says_what_it_lacks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once: with the name of the database, and when that took it over."""
    async with opened(tmp_path) as (harness, database):
        await fill(database, 10)
        harness.add_fakes({"database": Whole()})
        hand_over = HandOver(harness.runtime, database.store)
        await hand_over._step()
        assert "used_again" not in caplog.text

        harness.client.directory.apply(Delisted("database"))
        await hand_over._step()
        await hand_over._step()
        day = time.strftime("handed_over=%Y-", time.gmtime())
        (line,) = [one for one in caplog.messages if "memory.file_used_again" in one]
        assert f"database=database {day}" in line


async def test_it_waits_for_the_database_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on by itself with what is added later, when a notice or the time comes."""
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    whole = Whole()
    async with opened(tmp_path) as (harness, database):
        await fill(database, 10)
        harness.add_fakes({"database": whole})
        client = harness.client
        entry = client.directory.get("database")
        assert entry is not None
        client.directory.apply(Changed("database", State.STARTING, True, 1, b""))
        running = asyncio.ensure_future(HandOver(harness.runtime, database.store).run())
        await database.get_memories(Wanted(agent="", table="messages"))
        assert whole.memories == {}

        client.session.handle(Changed("database", State.RUNNING, True, 1, entry.token))
        async with asyncio.timeout(5):
            while held(database) != [0, 0, 0]:
                await database.get_cache("k", "")
            await database.remember(as_memory({"content": "z", "id": "late"}), "")
            client.session.handle(Changed("database", State.RUNNING, True, 1, entry.token))
            while "late" not in whole.memories:
                await database.get_cache("k", "")
        running.cancel()
    assert msgspec.structs.asdict(whole.memories["late"][1])["id"] == "late"
