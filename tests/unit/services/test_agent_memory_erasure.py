"""What the agent's file keeps of a person is exported, erased, and erased again after a restore."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from garrison.ipc.tombstones import Tombstones
from garrison.workers import Content, Memory, Task
from garrison.workers.services.agent.config import Config
from garrison.workers.services.agent.memory.erasure import MemoryErasure
from garrison.workers.services.agent.memory.file_database import FileDatabase
from garrison.workers.services.agent.memory.store import FILE, MemoryStore

SECRET = "my sister lives in Ghent"


class FakeRuntime:
    """What the erasure uses of a runtime."""

    def __init__(self, tombstones: Tombstones) -> None:
        self.tombstones, self.was_forgotten = tombstones, tombstones.was_forgotten

    def extend(self, seconds: float, reason: str) -> None:
        """A start may take longer."""


def memory(one: str, person: str, source: str = "discord", **content: Any) -> Memory:
    """Return a memory with a vector."""
    return Memory(
        id=one,
        entity_id=person,
        room_id="r",
        content=Content(**{"text": SECRET, "source": source, **content}),
        embedding=[1.0, 2.0],
        created_at=50.0,
    )


@asynccontextmanager
async def opened(
    folder: Path, tombstones: Tombstones | None = None
) -> AsyncIterator[tuple[FileDatabase, MemoryErasure]]:
    """Yield the file of memories, and what erases in it."""
    store = MemoryStore(folder / FILE, 1 << 26)
    store.start(asyncio.get_running_loop())
    runtime: Any = FakeRuntime(tombstones or Tombstones())
    yield FileDatabase(store, Config()), MemoryErasure(runtime, store)
    store.begin_close()
    store.wait_closed()


async def fill(database: FileDatabase) -> None:
    """Store memories of three people and the answers to them; two have the same id."""
    create = partial(database.create_memory, table_name="messages", unique=False, agent_id="")
    for number in range(3):
        await create(memory(f"m{number}", "42"))
        await create(memory(f"a{number}", "agent", in_reply_to=f"m{number}"))
    await create(memory("other", "43", text="hello"))
    await create(memory("answer", "agent", in_reply_to="other", text="hello"))
    await create(memory("telegram", "42", "telegram", text="hello"))
    for person in ("42", "43"):
        task = Task(id=f"t{person}", name="remind", entity_id=person, description=f"for {person}")
        await database.create_task(task, "")
    await database.set_cache("profile:42", SECRET, None, "")
    await database.set_cache("profile:142", "kept", None, "")


async def left(database: FileDatabase) -> list[str]:
    """Return the ids of all memories."""

    def read(at: Any) -> list[str]:
        return [row[0] for row in at.execute("SELECT id FROM memories ORDER BY id")]

    return await database.store.execute(read)


def bytes_of(folder: Path) -> bytes:
    """Return all bytes of the files in a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


async def test_what_is_exported_is_forgotten(tmp_path: Path) -> None:
    """Memories with the answers to them, tasks, cached values; no byte stays on the disk, and the
    counts of the file are right."""
    async with opened(tmp_path) as (database, erasure):
        await fill(database)
        rows = [row async for row in erasure.export("discord", "42")]
        stores = [row["store"] for row in rows]
        assert {one: stores.count(one) for one in stores} == {"memories": 6, "tasks": 1}
        assert rows[0]["memory"].embedding == [1.0, 2.0]

        counts = await erasure.forget("discord", "42")

        assert counts == {"memories": 6, "tasks": 1, "cached values": 1}
        assert await left(database) == ["answer", "other", "telegram"]
        assert await database.get_cache("profile:142", "") == "kept"
        assert database.store.count("memories").rows == 3
        assert database.store.count("cache").rows == 1
        assert SECRET.encode() not in bytes_of(tmp_path)
        assert sum((await erasure.forget("discord", "42")).values()) == 0


async def test_a_restored_file_is_cleaned_once(tmp_path: Path) -> None:
    """Of what was stored before the person was forgotten."""
    async with opened(tmp_path) as (database, _):
        await fill(database)
        late = memory("late", "42", text="I am back")
        late.created_at = 200.0
        await database.create_memory(late, "messages", False, "")
    tombstones = Tombstones(b"salt").adding(("discord",), "42", at=100.0)

    async with opened(tmp_path, tombstones) as (database, erasure):
        await erasure.apply_tombstones()
        assert await left(database) == ["answer", "late", "other", "telegram"]
        await database.create_memory(memory("m0", "42"), "messages", False, "")
        await erasure.apply_tombstones()
        assert "m0" in await left(database)  # it was not looked through again
