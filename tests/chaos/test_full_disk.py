"""A full disk is no reason for an agent or a platform not to start."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.test_mailbox_disk import mounted

from garrison.workers.platform.decision import SendState
from garrison.workers.platform.send_log import LogFull, SendLog
from garrison.workers.services.agent.record import schema
from garrison.workers.services.agent.record.store import AnswerStore, RecordFull

pytestmark = pytest.mark.external

MIB = 1 << 20


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a small disk."""
    with mounted("tmpfs", tmp_path, "2m") as folder:
        yield folder


def fill(folder: Path) -> None:
    """Leave no room on a disk."""
    with (folder / "rest").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert os.statvfs(folder).f_bfree == 0


async def test_an_agent_s_record_opens_on_a_full_disk(place: Path) -> None:
    """It can be read; what is to be written has an error of its own."""

    def opened() -> AnswerStore:
        store = AnswerStore(place / "answers.db", 8 * MIB)
        store.start(asyncio.get_running_loop())
        return store

    async def closed(store: AnswerStore) -> None:
        store.begin_close()
        await asyncio.to_thread(store.wait_closed)

    await closed(opened())
    fill(place)
    store = opened()
    assert await store.execute(lambda at: schema.latest(at, 9)) == []
    with pytest.raises(RecordFull):
        await store.execute(lambda at: at.execute("CREATE TABLE more (x)"))
    await closed(store)


async def test_a_platform_s_log_opens_on_a_full_disk(place: Path) -> None:
    """What was sent is known; nothing is sent."""

    def opened() -> SendLog:
        log = SendLog(place, 3600.0)
        log.start(asyncio.get_running_loop())
        return log

    async def closed(log: SendLog) -> None:
        log.begin_close()
        await asyncio.to_thread(log.wait_closed)

    log = opened()
    await log.end("a", 0, "c", 0, SendState.SENT, "7")
    await closed(log)
    fill(place)
    log = opened()
    (row,) = await log.rows("a")
    assert row.theirs == "7"
    with pytest.raises(LogFull):
        await log.begin("b", 0, "c", 0)
    await closed(log)
