"""The owner's messages on their way: with and without a mailbox, refused, and over a restart."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.waiting import until_true

from garrison.ipc.log_events import LogEvent
from garrison.ipc.mail import DeadLetter
from garrison.workers import idempotent
from garrison.workers.services.agent.owner import telling
from garrison.workers.services.agent.owner.outbox import State, load, unix_time
from garrison.workers.services.agent.owner.telling import FILE, OwnerNews
from garrison.workers.sqlite.files import replace_file
from garrison.workers.testing import Harness

EVERY_S = 0.02


class Platform:
    """Keeps what it was to send."""

    service_type = "chat"

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str]] = []
        self.problem: Exception | None = None

    @idempotent
    async def send_direct(self, person: str, text: str, id: str, expect: bool = False) -> None:
        """Keep it."""
        if self.problem is not None:
            raise self.problem
        self.said.append((person, text, id))


class Other:
    """A service that dies."""

    service_type = "other"

    async def work(self) -> None:
        """Do nothing."""


class Events:
    """The host's events."""

    def __init__(self) -> None:
        self.recorded: list[LogEvent] = []
        self.changed = asyncio.Event()

    def add(self, after: str, **data: Any) -> None:
        """Record a transition of the other service."""
        number = len(self.recorded) + 1
        time = f"2026-05-06T07:08:{number:02}.000Z"
        fields = {"from": "running", "to": after, **data}
        self.recorded.append(LogEvent(number, time, "service.state", "other", fields))
        self.changed.set()
        self.changed = asyncio.Event()

    async def follow(self, *_: str, number: int = 0, **__: Any) -> AsyncIterator[LogEvent]:
        """Yield the last ones, and what follows."""
        at = max(len(self.recorded) - number, 0)
        while True:
            changed = self.changed
            while at < len(self.recorded):
                at += 1
                yield self.recorded[at - 1]
            await changed.wait()


class Rig:
    """One life of the news in a folder that lasts."""

    def __init__(self, folder: Path, events: Events, platform: Platform) -> None:
        self.harness = Harness("agent", data_folder=folder)
        self.harness.add_fakes({"chat": platform, "other": Other()})
        client: Any = self.harness.client
        client.events = events.follow
        owner = {"chat": "ada"}
        self.news = OwnerNews(self.harness.runtime, owner, folder, EVERY_S)

    async def __aenter__(self) -> "Rig":
        self.work = asyncio.create_task(self.news.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.work.cancel()
        await asyncio.wait({self.work})
        await self.harness.close()

    @property
    def warnings(self) -> str:
        """Return what `status` shows."""
        return " ".join(self.harness.reports.warnings.values())


@pytest.fixture
def events() -> Events:
    """Return a host's events: one, from before."""
    made = Events()
    made.add("failed", exit="was killed by SIGKILL")
    return made


async def test_what_was_before_the_first_start_is_not_told(tmp_path: Path, events: Events) -> None:
    """What follows is, without a mailbox by a call."""
    platform = Platform()
    async with Rig(tmp_path, events, platform):
        await until_true(lambda: load(tmp_path / FILE).cursor)
        events.add("running")
        events.add("backoff", exit="was killed by SIGKILL")
        await until_true(lambda: platform.said)

    assert [(person, text) for person, text, _ in platform.said] == [
        ("ada", "other is down: it was killed by SIGKILL. It is tried again.")
    ]


async def test_what_was_told_is_not_told_by_the_next_life(tmp_path: Path, events: Events) -> None:
    """What happened in between is."""
    platform = Platform()
    async with Rig(tmp_path, events, platform):
        await until_true(lambda: load(tmp_path / FILE).cursor)
        events.add("backoff", exit="was killed by SIGKILL")
        await until_true(lambda: platform.said and not load(tmp_path / FILE).outbox["chat"])
    events.add("running")
    async with Rig(tmp_path, events, platform):
        await until_true(lambda: len(platform.said) > 1)

    assert [text for _, text, _ in platform.said][1] == "other is back after 1.0 s."


async def test_what_was_read_and_not_told_is_told_by_the_next_life(
    tmp_path: Path, events: Events
) -> None:
    """Nothing new has to happen for that."""
    state = State(cursor=(events.recorded[-1].time, events.recorded[-1].n))
    state.news.take("service.state", "other", {"from": "running", "to": "backoff"}, 1.0)
    (tmp_path / FILE).write_bytes(msgspec.json.encode(state))
    platform = Platform()
    async with Rig(tmp_path, events, platform):
        await until_true(lambda: platform.said, 5.0)

    assert [text for _, text, _ in platform.said] == ["other is down. It is tried again."]


async def test_what_is_not_on_the_disk_is_not_told(
    tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed agent would make another message of the same events, if the disk is slow."""
    platform, begun, told = Platform(), threading.Event(), threading.Event()

    def replace_slowly(path: Path, data: bytes) -> None:
        if b"is down" in data and not begun.is_set():
            begun.set()
            told.wait(0.5)  # too early, if it is: nothing is to be told here
        replace_file(path, data)

    kept: list[set[str]] = []  # what the file has as something is told

    async def send_direct(*message: Any) -> None:
        told.set()
        kept.append({item.id for item in load(tmp_path / FILE).outbox.get("chat", [])})
        platform.said.append(message[:3])

    monkeypatch.setattr(telling, "replace_file", replace_slowly)
    monkeypatch.setattr(platform, "send_direct", idempotent(send_direct))
    async with Rig(tmp_path, events, platform):
        await until_true(lambda: load(tmp_path / FILE).cursor)
        events.add("backoff", exit="was killed by SIGKILL")
        await until_true(begun.is_set)
        events.add("running")  # wakes what sends, while the file is being written
        await until_true(lambda: len(platform.said) > 1)

    for (_, _, id), on_disk in zip(platform.said, kept, strict=True):
        assert id in on_disk


async def test_a_message_that_cannot_be_sent_is_tried_again(tmp_path: Path, events: Events) -> None:
    """By the next life too, under the same id; `status` shows it."""
    platform = Platform()
    platform.problem = ConnectionError("no network")
    async with Rig(tmp_path, events, platform) as rig:
        await until_true(lambda: load(tmp_path / FILE).cursor)
        events.add("backoff", exit="was killed by SIGKILL")
        await until_true(lambda: "no network" in rig.warnings)
    (waiting,) = load(tmp_path / FILE).outbox["chat"]
    platform.problem = None
    async with Rig(tmp_path, events, platform):
        await until_true(lambda: platform.said)

    assert platform.said == [("ada", waiting.text, waiting.id)]


async def test_a_message_that_is_refused_is_shown(tmp_path: Path, events: Events) -> None:
    """The mailbox has given it up."""
    async with Rig(tmp_path, events, Platform()) as rig:
        rig.news.dead_letter(DeadLetter("m", "chat", "send_direct"), "NotSent: closed")
        rig.news.dead_letter(DeadLetter("m", "chat", "other_method"), "another")

    assert rig.warnings == "the owner at chat cannot be reached: NotSent: closed"


def test_a_damaged_file_begins_anew(tmp_path: Path) -> None:
    """As the first start does."""
    (tmp_path / FILE).write_text("{")
    assert load(tmp_path / FILE) == State()
    assert load(tmp_path / "none") == State()


@pytest.mark.parametrize(
    ("text", "seconds"), [("1970-01-01T00:01:40.500Z", 100.5), ("", 0.0), ("x", 0.0)]
)
def test_times_of_events(text: str, seconds: float) -> None:
    """UTC; one that is damaged is the beginning."""
    assert unix_time(text) == seconds
