"""A lane whose platform gets a notice of a dead message goes on once the notice is taken."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from tests.support.waiting import eventually

from garrison.ipc import PostRequest
from garrison.ipc.messages import Delisted
from garrison.supervisor.cli import mail
from garrison.supervisor.cli.render import table
from garrison.workers import DeadLetter
from garrison.workers.runtime import Runtime
from garrison.workers.services.mailbox import MailboxService, notices
from garrison.workers.services.mailbox.delivery import Dispatcher
from garrison.workers.services.mailbox.notices import HeldLane, PendingNotices
from garrison.workers.testing import run


class Agent:
    """Takes messages; some it refuses."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    async def take(self, number: int) -> None:
        """Take a message, unless it is odd."""
        if number % 2:
            raise ValueError("not this one")
        self.taken.append(number)


class Poster:
    """Takes notices of dead letters, while its gate is open."""

    def __init__(self) -> None:
        self.notices: list[int] = []
        self.gate = asyncio.Event()
        self.fails = False

    async def dead_letter(self, mail: DeadLetter, reason: str) -> None:
        """Note it."""
        if self.fails:
            raise ValueError("not taken")
        await self.gate.wait()
        self.notices.append(mail.args[0])


@asynccontextmanager
async def mailbox(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **fakes: Any
) -> AsyncIterator[MailboxService]:
    """Yield a mailbox of which each message has one attempt; `chat` is a platform."""
    monkeypatch.setattr(Dispatcher, "_is_platform", lambda _, name: name == "chat")
    monkeypatch.setattr(Runtime, "data_folder", folder)
    monkeypatch.setattr("garrison.workers.services.mailbox.retry.INITIAL_BACKOFF_S", 0.001)
    async with run(MailboxService, fakes=fakes, config={"max_attempts": 1}) as service:
        client: Any = service.runtime.client
        client.mail_window_of = lambda _: 8
        yield service


def post(number: int, lane: str = "room", sender: str = "chat") -> PostRequest:
    """Return a message for the agent."""
    args = Raw(msgspec.msgpack.encode([number]))
    return PostRequest("bot", "take", args, sender=sender, lane=lane)


def stop(service: MailboxService, name: str) -> Callable[[], None]:
    """Have a service not run; return what starts it."""
    client: Any = service.runtime.client
    there = client.generation_of
    client.generation_of = lambda one: 0 if one == name else there(one)

    def start() -> None:
        client.generation_of = there
        service.dispatcher.receiver_changed(name)

    return start


async def taken(agent: Agent, number: int) -> None:
    """Wait until the agent has taken a message."""

    async def there() -> bool:
        return number in agent.taken

    await eventually(there, what=f"{number} is taken")


async def dead(service: MailboxService, count: int = 1) -> list[str]:
    """Return the ids of the dead letters once there are so many."""
    found: list[str] = []

    async def there() -> bool:
        found[:] = [row["id"] for row in (await service.ls())["letters"] if row["state"] == "dead"]
        return len(found) == count

    await eventually(there, what=f"{count} dead letters")
    return found


async def waits(service: MailboxService, agent: Agent, number: int) -> None:
    """Check that a message is not delivered although those of another lane are."""
    await service.post(post(1000 + number, "other", "poster"))
    await taken(agent, 1000 + number)
    assert number not in agent.taken


async def test_a_platform_says_its_text_before_the_next_answer_of_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane waits for the notice, also when the mailbox has begun anew; other lanes do not."""
    agent, chat = Agent(), Poster()
    async with mailbox(tmp_path, monkeypatch, bot=agent, chat=chat, poster=Poster()) as service:
        stop(service, "chat")
        await asyncio.gather(service.post(post(1)), service.post(post(2)))
        await dead(service)
        await service.post(post(4))
        await waits(service, agent, 2)
    async with mailbox(tmp_path, monkeypatch, bot=agent, chat=chat, poster=Poster()) as service:
        await waits(service, agent, 2)
        await service.dispatcher.check_notices()
        await waits(service, agent, 4)
        chat.gate.set()
        await taken(agent, 4)
    assert chat.notices == [1]
    assert [one for one in agent.taken if one < 1000] == [2, 4]


async def test_what_waits_for_a_notice_is_listed_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In `mail ls` and `mail show`, with the notice's id; other messages name none."""
    agent, chat = Agent(), Poster()
    async with mailbox(tmp_path, monkeypatch, bot=agent, chat=chat, poster=Poster()) as service:
        stop(service, "chat")
        await service.post(post(1))
        behind = await service.post(post(2))
        await dead(service)
        listed = await service.ls()
        (notice,) = [row["id"] for row in listed["letters"] if row["method"] == "$dead_letter"]
        named = {row["id"]: row["notice"] for row in listed["letters"]}
        assert {one for one in named if named[one]} == {behind}
        assert named[behind] == notice
        assert list(listed["letters"][0])[-1] == "notice"
        assert (await service.show(behind))["notice"] == notice
        table.show(*mail._list(mail._merge([listed], 20)))
        assert f"lane room of bot waits for the notice {notice}\n" in capsys.readouterr().out
        chat.gate.set()


async def test_a_poster_that_is_no_platform_is_told_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends nothing to the lane's room."""
    agent, poster = Agent(), Poster()
    async with mailbox(tmp_path, monkeypatch, bot=agent, poster=poster) as service:
        await service.post(post(1, sender="poster"))
        await service.post(post(2, sender="poster"))
        await taken(agent, 2)
        assert not poster.notices
        poster.gate.set()


@pytest.mark.parametrize("end", ["notice", "dead letter", "replay", "platform", "failure"])
async def test_a_lane_goes_on_when_no_notice_will_be_handled(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It, or its dead letter, was dropped or replayed; its platform is not configured any more; it
    failed for good."""
    agent, chat = Agent(), Poster()
    async with mailbox(tmp_path, monkeypatch, bot=agent, chat=chat, poster=Poster()) as service:
        start = stop(service, "chat")
        await service.post(post(1))
        await service.post(post(2))
        (dead_id,) = await dead(service)
        await waits(service, agent, 2)
        match end:
            case "notice":
                rows = (await service.ls())["letters"]
                await service.drop([row["id"] for row in rows if row["method"] == "$dead_letter"])
            case "dead letter":
                await service.drop([dead_id])
                await service.dispatcher.check_notices()
            case "replay":
                await service.replay([dead_id])
                await service.dispatcher.check_notices()
            case "platform":
                service.runtime.client.directory.apply(Delisted("chat"))
                await service.dispatcher.check_notices()
            case _:
                chat.fails = True
                start()
                await dead(service, 2)
        await taken(agent, 2)


def test_notices_that_lanes_wait_for_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane goes on once none of its notices is pending; one too many is not waited for."""
    monkeypatch.setattr(notices, "PENDING_MOST", 3)
    pending, room, hall = PendingNotices(), HeldLane("bot", "room"), HeldLane("bot", "hall")
    assert [pending.add(one, room) for one in "ab"] == [True, True]
    assert pending.add("c", hall)
    assert not pending.add("d", HeldLane("bot", "cellar"))
    assert pending.end(["a", "d"]) == []
    pending.rename(["bot"], "robot")
    assert sorted(pending.lanes_of("robot")) == ["hall", "room"]
    assert list(pending.lanes_of("bot")) == []
    assert pending.end(["b"]) == [HeldLane("robot", "room")]
    assert pending.ids == ["c"]
