"""What the agent has recorded of a person is exported, erased, and erased again after a restore."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from garrison.ipc.tombstones import Tombstones
from garrison.workers import Busy, Content, Memory
from garrison.workers.services.agent.erasure import Finishing, RecordErasure
from garrison.workers.services.agent.record import schema
from garrison.workers.services.agent.record.rows import MessageKey, Part, Record, Why
from garrison.workers.services.agent.record.store import FILE, AnswerStore

SECRET = "my sister lives in Ghent"
QUOTED = "the conversation before: " + SECRET


class FakeRuntime:
    """What the erasure uses of a runtime; no platform runs."""

    def __init__(self, tombstones: Tombstones) -> None:
        self.tombstones = tombstones
        self.client = self
        self.directory: dict[str, Any] = {}
        self.was_forgotten = tombstones.was_forgotten

    def extend(self, seconds: float, reason: str) -> None:
        """A start may take longer."""


class Work:
    """A message that is being answered."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.ended = memory, asyncio.Event()


def record(number: int, person: str, source: str = "discord", text: str = SECRET) -> Record:
    """Return the record of a message, with an answer that repeats it."""
    key = MessageKey(source, f"room of {source}", str(number))
    content = Content(text * 40, source=source)
    memory = Memory(content=content, id=key.id, room_id=key.room, entity_id=person)
    answer = Memory(content=Content(f"So {text}"), id=f"answer-{source}-{number}")
    before = QUOTED if source == "discord" else "another conversation"
    why = Why(context=before, prompt=before)
    return Record(key, memory, 50.0, why=why, done_at=51.0, parts=[Part(0, 0, answer)])


@asynccontextmanager
async def opened(
    folder: Path, tombstones: Tombstones | None = None, works: tuple[Work, ...] = ()
) -> AsyncIterator[tuple[AnswerStore, RecordErasure, list[MessageKey]]]:
    """Yield the record of answers and what erases; the keys are those that were forgotten."""
    store = AnswerStore(folder / FILE, 1 << 26)
    store.start(asyncio.get_running_loop())
    gone: list[MessageKey] = []
    in_progress = {MessageKey("discord", "r", work.memory.id): work for work in works}
    finishing = Finishing(in_progress, 0.05, gone.append)
    runtime: Any = FakeRuntime(tombstones or Tombstones())
    yield store, RecordErasure(runtime, store, finishing), gone
    store.begin_close()
    store.wait_closed()


async def fill(store: AnswerStore) -> None:
    """Record messages of three people; two have the same id on different platforms."""
    for number in range(3):
        await store.execute(lambda at, n=number: schema.put(at, record(n, "42")))  # type: ignore[misc]
    await store.execute(lambda at: schema.put(at, record(3, "43", text="hello")))
    await store.execute(lambda at: schema.put(at, record(4, "42", "telegram", "hello")))


def bytes_of(folder: Path) -> bytes:
    """Return all bytes of the files in a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


async def test_what_is_exported_is_all_that_is_forgotten(tmp_path: Path) -> None:
    """Messages, answers and prompts; nobody else's message; no byte stays on the disk."""
    async with opened(tmp_path) as (store, erasure, gone):
        await fill(store)
        rows = [row async for row in erasure.export("discord", "42")]
        assert [row["memory"]["id"] for row in rows] == ["0", "1", "2"]
        assert all(SECRET in row["parts"][0]["memory"]["content"]["text"] for row in rows)
        assert SECRET.encode() in bytes_of(tmp_path)

        counts = await erasure.forget("discord", "42")

        assert counts == {"messages": 3, "rows": 6, "sends": 0, "contexts": 4}
        assert [key.id for key in gone] == ["0", "1", "2"]
        assert SECRET.encode() not in bytes_of(tmp_path)
        left = await store.execute(lambda at: schema.latest(at, 9))
        assert [one.memory.id for one in left] == ["4", "3"]
        assert [one.why.prompt for one in left] == ["another conversation", ""]
        assert (await erasure.forget("discord", "42"))["messages"] == 0


async def test_a_restored_file_is_cleaned_once(tmp_path: Path) -> None:
    """Whom the tombstones name, and what was recorded before; then the file has their mark."""
    backup = tmp_path / "backup"
    backup.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    async with opened(home) as (store, _erasure, _):
        await fill(store)
        late = record(9, "42", text="I am back")
        late.heard_at = 200.0
        await store.execute(lambda at: schema.put(at, late))
    shutil.copy(home / FILE, backup)
    tombstones = Tombstones(b"salt").adding(("discord",), "42", at=100.0)
    shutil.copy(backup / FILE, home / FILE)

    async with opened(home, tombstones) as (store, erasure, _):
        await erasure.apply_tombstones()
        left = await store.execute(lambda at: schema.latest(at, 9))
        assert [one.memory.id for one in left] == ["9", "4", "3"]
        assert SECRET.encode() not in bytes_of(home)
        await store.execute(lambda at: schema.put(at, record(0, "42")))
        await erasure.apply_tombstones()
        assert len(await store.execute(lambda at: schema.latest(at, 9))) == 4  # not looked at


async def test_a_message_that_is_being_answered_is_waited_for(tmp_path: Path) -> None:
    """It writes its record until it ends; that of another person is not waited for."""
    own = Work(Memory(content=Content(source="discord"), id="1", entity_id="42"))
    other = Work(Memory(content=Content(source="discord"), id="2", entity_id="43"))
    async with opened(tmp_path, works=(own, other)) as (_, erasure, _gone):
        with pytest.raises(Busy, match="still being answered"):
            await erasure.forget("discord", "42")
        own.ended.set()
        assert (await erasure.forget("discord", "42"))["messages"] == 0
