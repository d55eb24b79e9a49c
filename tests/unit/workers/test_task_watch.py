"""Tasks whose exception nothing retrieves, and a loop that is blocked."""

import asyncio
import logging
import time
from typing import Any

import pytest
from tests.support.waiting import until_true

from garrison.workers.process import loop_watch, task_watch
from garrison.workers.process.loop_watch import LoopWatch
from garrison.workers.process.task_watch import TaskWatch, is_authors


class Noted:
    """What a watch reports."""

    def __init__(self) -> None:
        self.warned: dict[str, str] = {}
        self.crashes: list[tuple[str, BaseException]] = []

    def warn(self, key: str, text: str) -> None:
        """Note a warning."""
        self.warned[key] = text

    def crash(self, title: str, error: BaseException) -> None:
        """Note a crash."""
        self.crashes.append((title, error))


@pytest.fixture
async def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    """Watch the tasks of this test."""
    monkeypatch.setattr(task_watch, "RETRIEVE_S", 0.05)
    made = Noted()
    factory: Any = TaskWatch("bot", made.warn, made.crash)
    asyncio.get_running_loop().set_task_factory(factory)
    return made


async def fail(text: str) -> None:
    """Fail."""
    raise ValueError(text)


async def test_an_exception_that_nothing_retrieves_is_logged_and_shown(
    noted: Noted, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, with the name and where the task was created, although a reference is kept."""
    kept = asyncio.create_task(fail("poll ended"), name="poller")
    gathered = asyncio.gather(fail("inner"))  # retrieved by the gathering future, which is not
    await until_true(lambda: noted.crashes)
    assert [text for text in noted.warned.values() if "poll ended" in text] == [
        noted.warned["task.failed fail"]
    ]
    assert "task fail, created in test_task_watch.py:" in noted.warned["task.failed fail"]
    (record,) = [one for one in caplog.records if "poll ended" in one.getMessage()]
    assert record.getMessage().startswith("task.failed service=bot task=poller coroutine=fail")
    assert "raise ValueError(text)" in record.getMessage()
    assert noted.crashes[0][0] == "task fail"
    assert kept.done()
    with pytest.raises(ValueError, match="inner"):
        await gathered


async def test_an_awaited_task_is_no_failure(
    noted: Noted, caplog: pytest.LogCaptureFixture
) -> None:
    """At its end it looks as one that nothing awaits."""
    tasks = [asyncio.create_task(fail("awaited")) for _ in range(3)]
    await asyncio.wait(tasks)
    for task in tasks:
        with pytest.raises(ValueError, match="awaited"):
            await task
    cancelled = asyncio.create_task(asyncio.sleep(60))
    cancelled.cancel()
    late = asyncio.create_task(fail("late"))  # this one shows that the others were looked at
    await until_true(lambda: noted.warned)
    assert list(noted.warned.values()) == [text for text in noted.warned.values() if "late" in text]
    assert late.done()
    assert [one for one in caplog.records if "awaited" in one.getMessage()] == []


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/srv/bot/discord.py", True),
        ("/srv/venv/lib/python3.11/site-packages/discord/client.py", False),
        ("/usr/lib/python3/dist-packages/x.py", False),
        (asyncio.__file__, False),
        (task_watch.__file__, False),
        ("<frozen importlib._bootstrap>", False),
    ],
)
def test_only_the_authors_code_crashes(file: str, own: bool) -> None:
    """Not that of libraries."""
    assert is_authors(file) is own


# --- a blocked loop -----------------------------------------------------------------------


def block(seconds: float) -> None:
    """Block the loop."""
    time.sleep(seconds)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the times."""
    monkeypatch.setattr(loop_watch, "BLOCKED_S", 0.2)
    monkeypatch.setattr(loop_watch, "TICK_S", 0.02)


async def test_a_blocked_loop_is_logged_once_with_its_stack(
    short: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stack is that of the blocking code; a second one within a minute is not logged."""
    caplog.set_level(logging.WARNING)

    def entries() -> list[str]:
        return [one.getMessage() for one in caplog.records if "loop.blocked" in one.getMessage()]

    watch = LoopWatch("bot")
    watch.begin()
    block(0.05)
    await asyncio.sleep(0.05)
    assert entries() == []
    block(0.4)
    await asyncio.sleep(0.05)
    (entry,) = entries()
    assert entry.startswith("loop.blocked service=bot blocked_s=0.")
    assert "block(0.4)" in entry
    block(0.4)
    await asyncio.sleep(0.05)
    assert len(entries()) == 1
    monkeypatch.setattr(loop_watch, "QUIET_S", 0.1)
    sum(n * n for n in range(10_000_000))
    await asyncio.sleep(0.05)
    assert len(entries()) == 2
    watch.end()
