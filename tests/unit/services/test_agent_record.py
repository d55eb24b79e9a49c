"""The file of the record of answers: what is stored is read again, or an error is raised."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from garrison.workers import ActionResult, Content, Memory
from garrison.workers.services.agent.record import schema
from garrison.workers.services.agent.record.rows import (
    MessageKey,
    MessageState,
    Outcome,
    Part,
    PlannedStep,
    Record,
    StepKind,
    StepState,
    Why,
)
from garrison.workers.services.agent.record.store import AnswerStore, RecordFull
from garrison.workers.sqlite.opening import NewerFile

KEY = MessageKey("radio", "r", "1")
MIB = 1 << 20


def record(key: MessageKey = KEY, text: str = "Hi", **more: object) -> Record:
    """Return a new message's record."""
    memory = Memory(content=Content(text, source=key.source), id=key.id, room_id=key.room)
    return Record(key, memory, 5.0, **more)  # type: ignore[arg-type]


def part(number: int, outcome: Outcome | None = None, **more: object) -> Part:
    """Return a part."""
    memory = Memory(content=Content(str(number)), id=f"part-{number}")
    return Part(number, 0, memory, outcome, **more)  # type: ignore[arg-type]


Opened = Callable[..., AnswerStore]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    """Return a function that opens the file; it closes the one before."""
    stores: list[AnswerStore] = []

    def close() -> None:
        for store in stores:
            store.begin_close()
            store.wait_closed()
        stores.clear()

    def opening(max_bytes: int = 64 * MIB) -> AnswerStore:
        close()
        store = AnswerStore(tmp_path / "answers.db", max_bytes)
        store.start(asyncio.get_running_loop())
        stores.append(store)
        return store

    yield opening
    close()


async def test_what_is_recorded_is_read_after_a_restart(opened: Opened) -> None:
    """All of it: the message, why, the steps, the parts and what the platform calls them."""
    whole = record(
        posted=True,
        state=MessageState.DECIDED,
        why=Why("validate", {"A": True, "B": False}, ["TIME"], "noon"),
        decided_at=6.0,
        steps=[
            PlannedStep(
                0,
                StepKind.RUN,
                "A",
                state=StepState.ENDED,
                results=[ActionResult(text="done")],
                started_at=6.0,
                ended_at=7.0,
            ),
            PlannedStep(1, StepKind.SAY, content=Content("x"), otherwise=True),
        ],
        parts=[part(0, Outcome.SENT, ids=["p1", ""]), part(1, problem="lost")],
    )
    store = opened()
    whole.seq = await store.execute(lambda at: schema.put(at, whole))
    assert await store.execute(lambda at: schema.put(at, whole)) == whole.seq
    store = opened()

    assert await store.execute(lambda at: schema.find(at, KEY)) == whole
    assert await store.execute(lambda at: schema.find(at, KEY._replace(given="x"))) is None
    for wanted in ("1", "part-1", "p1"):
        assert await store.execute(partial(schema.find_by_id, wanted=wanted, most=9)) == [whole]
    assert await store.execute(lambda at: schema.find_by_id(at, "", 9)) == []
    assert await store.execute(lambda at: schema.of_room(at, "radio", "r", 9)) == [whole]
    assert await store.execute(lambda at: schema.latest(at, 9)) == [whole]


async def test_a_record_that_cannot_be_read_is_an_error(opened: Opened, tmp_path: Path) -> None:
    """It never reads as a message that was not answered."""
    store = opened()
    await store.execute(lambda at: schema.put(at, record()))
    await store.execute(lambda at: at.execute("UPDATE messages SET memory = x'c1'").rowcount)

    with pytest.raises(schema.UnreadableRecord, match="message '1' cannot be read"):
        await store.execute(lambda at: schema.find(at, KEY))
    await store.execute(lambda at: schema.put(at, record(KEY._replace(id="2"))))


async def test_an_operator_sees_the_others_beside_a_record_that_cannot_be_read(
    opened: Opened,
) -> None:
    """It is there, with the reason."""
    store = opened()
    for number in ("1", "2"):
        await store.execute(partial(schema.put, record=record(KEY._replace(id=number))))
    await store.execute(lambda at: at.execute("UPDATE messages SET why = x'c1' WHERE id = '1'"))

    whole, broken = await store.execute(lambda at: schema.latest(at, 9))
    assert (whole.key.id, broken.key.id) == ("2", "1")
    assert "message '1' cannot be read" in broken.why.problem
    assert [one.key.id for one in await store.execute(lambda at: schema.since(at, 0.0, 9))] == ["2"]


async def test_records_since_a_time_come_in_order(opened: Opened) -> None:
    """At most the newest ones."""
    store = opened()
    for number in range(6):
        one = record(KEY._replace(id=str(number)))
        one.heard_at = float(number)
        await store.execute(partial(schema.put, record=one))

    for since, most, expected in ((3.0, 9, "345"), (0.0, 2, "45"), (9.0, 9, "")):
        found = await store.execute(partial(schema.since, heard_at=since, most=most))
        assert "".join(one.key.id for one in found) == expected


async def test_dropped_messages_are_kept_up_to_a_number(opened: Opened) -> None:
    """The oldest are deleted first; other records do not count."""
    store = opened()
    for number in range(8):
        state = MessageState.DONE if number in {0, 5} else MessageState.DROPPED
        one = record(KEY._replace(id=str(number)), state=state)
        await store.execute(partial(schema.put, record=one))

    assert await store.execute(lambda at: schema.prune_dropped(at, 2)) == 4
    assert await store.execute(lambda at: schema.prune_dropped(at, 2)) == 0
    left = await store.execute(lambda at: schema.latest(at, 9))
    assert [one.key.id for one in left] == ["7", "6", "5", "0"]


async def test_a_message_is_found_by_the_id_of_its_platform(opened: Opened) -> None:
    """Which is the end of its own, where that begins with the service and the room."""
    store = opened()
    key = KEY._replace(id=f"{KEY.source}/{KEY.room}/77")
    for one in (key, KEY._replace(id="other/r/78")):
        await store.execute(partial(schema.put, record=record(one)))

    for wanted, count in (("77", 1), (key.id, 1), ("78", 0), ("other/r/78", 1)):
        found = await store.execute(partial(schema.find_by_id, wanted=wanted, most=9))
        assert len(found) == count


async def test_old_records_are_deleted(opened: Opened) -> None:
    """Not the unfinished ones of posted messages, which are delivered again, until they are so old
    that the mailbox has given them up."""
    store = opened()
    for number, posted, done_at in ((1, True, 6.0), (2, True, 9.0), (3, True, None)):
        one = record(KEY._replace(id=str(number)), posted=posted, done_at=done_at, parts=[part(0)])
        await store.execute(partial(schema.put, record=one))
    await store.execute(lambda at: schema.put(at, record(KEY._replace(id="4"))))

    assert await store.execute(lambda at: schema.prune(at, 8.0, 0.0)) == 2
    left = await store.execute(lambda at: schema.latest(at, 9))
    assert [one.key.id for one in left] == ["3", "2"]
    assert await store.execute(lambda at: schema.prune(at, 8.0, left[0].heard_at + 1)) == 1
    assert [one.key.id for one in await store.execute(lambda at: schema.latest(at, 9))] == ["2"]


async def test_a_full_file_accepts_no_more(opened: Opened) -> None:
    """What is in progress still has room, and a message that does not fit is an error."""
    store = opened(MIB)
    count = 0
    while not store.is_full:
        count += 1
        one = record(KEY._replace(id=str(count)), "x" * 20_000)
        one.seq = await store.execute(partial(schema.put, record=one))
    await store.execute(lambda at: schema.put_parts(at, 1, [part(0)]))

    assert 30 < count < 50
    with pytest.raises(RecordFull, match="no room"):
        await store.execute(lambda at: schema.put(at, record(KEY._replace(id="0"), "x" * MIB)))
    await store.execute(lambda at: schema.find(at, KEY))


async def test_a_damaged_file_is_set_aside(opened: Opened, tmp_path: Path) -> None:
    """And a new one is begun."""
    store = opened()
    await store.execute(lambda at: schema.put(at, record()))
    store.begin_close()
    store.wait_closed()
    path = tmp_path / "answers.db"
    path.write_bytes(b"x" * path.stat().st_size)
    store = opened()

    assert store.set_aside is not None
    assert store.set_aside.name.startswith("answers.db.damaged-")
    assert store.set_aside.read_bytes().startswith(b"xxx")
    assert await store.execute(lambda at: schema.latest(at, 9)) == []


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    """The operator decides."""
    path = tmp_path / "answers.db"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA user_version = 9")
    db.close()
    before = path.read_bytes()

    with pytest.raises(NewerFile, match="format 9"):
        AnswerStore(path, MIB)
    assert path.read_bytes() == before
