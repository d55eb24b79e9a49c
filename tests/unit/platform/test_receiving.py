"""Messages reach the agent: in order, behind catch-up, once they are on disk."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.platforms import Agent, Mailbox, Scripted, started
from tests.support.waiting import until_true

from garrison.workers import Busy, Content, DeadLetter, Heard, Memory, RetryLater
from garrison.workers.agents.answer_ids import answer_id
from garrison.workers.platform import handing_over, receiving, typing_indicator
from garrison.workers.platform.send_log import LogFull, SendLog
from garrison.workers.testing import TestRuntime

WAIT_S = 5.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried at once."""
    monkeypatch.setattr(handing_over, "RETRY_S", 0.001)
    monkeypatch.setattr(receiving, "RETRY_S", 0.001)


def said(number: int, room: str = "lobby", **metadata: Any) -> Memory:
    """Return a message."""
    return Memory(id=str(number), room_id=room, content=Content(f"m{number}"), metadata=metadata)


def posted_ids(mailbox: Mailbox) -> list[str]:
    """Return the keys of what was posted."""
    return [request["key"] for request in mailbox.posted]


class Missed(Scripted):
    """Its test opens the gate of its catch-up."""

    since: dict[str, str]

    def __init__(self, runtime: Any) -> None:
        super().__init__(runtime)
        self.gate = asyncio.Event()
        self.failures = 0

    async def catch_up(self, since: dict[str, str]) -> AsyncIterator[Heard]:
        """Yield two messages, the second when the gate is open."""
        self.since = dict(since)
        yield Heard(said(1), "lobby", "1")
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("gone")
        yield Heard(said(2), "lobby", "2")


async def test_live_messages_follow_those_that_were_missed(tmp_path: Path) -> None:
    """The room's order is the platform's; the next start catches up from the last position."""
    mailbox = Mailbox()
    async with started(Missed, tmp_path, agent=Agent(), mailbox=mailbox) as radio:
        live = asyncio.create_task(radio.receive(said(3), "lobby", "3"))
        other = asyncio.create_task(radio.receive(said(4, "attic"), "attic", "1"))
        await until_true(lambda: mailbox.posted)
        assert not live.done()
        radio.gate.set()
        await asyncio.wait_for(asyncio.gather(live, other), WAIT_S)
        assert radio.since == {}

    rooms = [one for one in posted_ids(mailbox) if "lobby" in one]
    assert rooms == ["radio/lobby/1", "radio/lobby/2", "radio/lobby/3"]
    async with started(Missed, tmp_path, agent=Agent(), mailbox=mailbox) as radio:
        radio.gate.set()
        await asyncio.wait_for(radio.receive(said(5), "lobby", "5"), WAIT_S)
        assert radio.since == {"lobby": "3", "attic": "1"}


async def test_a_catch_up_that_fails_is_tried_again(tmp_path: Path) -> None:
    """No position is saved before it has succeeded: what it misses would be lost."""
    mailbox = Mailbox()
    async with started(Missed, tmp_path, agent=Agent(), mailbox=mailbox) as radio:
        radio.failures = 2
        radio.gate.set()
        await asyncio.wait_for(radio.receive(said(3), "lobby", "3"), WAIT_S)

    assert posted_ids(mailbox)[-2:] == ["radio/lobby/2", "radio/lobby/3"]


async def test_no_position_is_saved_before_catch_up_has_succeeded(tmp_path: Path) -> None:
    """A process that ends in the middle of it begins it again."""
    mailbox = Mailbox()
    async with started(Missed, tmp_path, agent=Agent(), mailbox=mailbox):
        await until_true(lambda: mailbox.posted)
        await asyncio.sleep(0.01)

    async with started(Missed, tmp_path, agent=Agent(), mailbox=mailbox) as radio:
        await until_true(lambda: len(mailbox.posted) > 1)
        assert radio.since == {}


async def test_a_position_that_cannot_be_saved_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: what was heard is heard again, and known by its key."""
    tried: list[str] = []

    async def move(self: SendLog, stream: str, position: str) -> None:
        tried.append(position)
        raise LogFull("no room")

    monkeypatch.setattr(SendLog, "move", move)
    mailbox = Mailbox()
    async with started(Missed, tmp_path, agent=Agent(), mailbox=mailbox) as radio:
        radio.gate.set()
        await until_true(lambda: "2" in tried)
        await asyncio.wait_for(radio.receive(said(3), "lobby", "3"), WAIT_S)
        await asyncio.wait_for(radio.receive(said(4, own=True), "lobby", "4"), WAIT_S)
        assert tried[-2:] == ["3", "4"]


async def test_a_message_is_posted_until_it_is_on_disk(tmp_path: Path) -> None:
    """The next one of its room waits, and another room does not."""
    mailbox = Mailbox(failures=3)
    async with started(Scripted, tmp_path, agent=Agent(), mailbox=mailbox) as radio:
        await asyncio.wait_for(
            asyncio.gather(*(radio.receive(said(number)) for number in range(3))), WAIT_S
        )

    assert posted_ids(mailbox) == [f"radio/lobby/{number}" for number in range(3)]
    request = mailbox.posted[0]
    assert (request["service"], request["method"]) == ("agent", "process_actions")
    assert request["args"][0]["content"]["source"] == "radio"


async def test_a_message_without_an_id_is_refused(tmp_path: Path) -> None:
    """Its author is told at once."""
    async with started(Scripted, tmp_path, agent=Agent(), mailbox=Mailbox()) as radio:
        with pytest.raises(ValueError, match="the memory's id is empty"):
            await radio.receive(Memory(room_id="lobby", content=Content("hi")))


async def test_a_message_with_a_number_for_an_id_is_refused(tmp_path: Path) -> None:
    """Its author is told at once: the agent would refuse it after it was confirmed."""
    mailbox = Mailbox()
    async with started(Scripted, tmp_path, agent=Agent(), mailbox=mailbox) as radio:
        number: Any = 5
        with pytest.raises(TypeError, match="the memory's id is of type int"):
            await radio.receive(Memory(id=number, room_id="lobby", content=Content("hi")))
    assert not mailbox.posted


async def test_what_the_config_does_not_want_is_passed_over(tmp_path: Path) -> None:
    """Its position counts."""
    mailbox = Mailbox()
    async with started(Missed, tmp_path, agent=Agent(), mailbox=mailbox) as radio:
        radio.gate.set()
        await asyncio.wait_for(radio.receive(said(3), "lobby", "3"), WAIT_S)
        await radio.receive(said(4, bot=True), "lobby", "4")
    assert "radio/lobby/4" not in posted_ids(mailbox)

    async with started(Missed, tmp_path, agent=Agent(), mailbox=mailbox) as radio:
        radio.gate.set()
        await asyncio.wait_for(radio.receive(said(5), "lobby", "5"), WAIT_S)
        assert radio.since["lobby"] == "4"


async def test_an_edit_is_an_event(tmp_path: Path) -> None:
    """It gets no second answer."""
    mailbox = Mailbox()
    async with started(Scripted, tmp_path, agent=Agent(), mailbox=mailbox) as radio:
        await radio.receive(said(1, edited=True))
        assert isinstance(radio.runtime, TestRuntime)
        ((event, memory),) = radio.runtime.emitted

    assert not mailbox.posted
    assert (event, memory.id) == ("MESSAGE_EDITED", "radio/lobby/1")


async def test_what_was_missed_may_be_answered_already(tmp_path: Path) -> None:
    """The agent is told, so that it has the platform asked; also the platform's failure text."""
    mailbox, config = Mailbox(), {"failure_text": "later"}
    async with started(Missed, tmp_path, config, agent=Agent(), mailbox=mailbox) as radio:
        radio.gate.set()
        await asyncio.wait_for(radio.receive(said(3)), WAIT_S)

    metadata = [request["args"][0]["metadata"] for request in mailbox.posted]
    assert metadata == [
        {"failure_text": "later", "caught_up": True},
        {"failure_text": "later", "caught_up": True},
        {"failure_text": "later"},
    ]


async def test_too_many_messages_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused is heard again: no later position of its stream is saved."""
    monkeypatch.setattr(receiving, "WAITING_MOST", 1)
    async with started(Missed, tmp_path, agent=Agent(), mailbox=Mailbox()) as radio:
        held = asyncio.create_task(radio.receive(said(3), "lobby", "3"))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await radio.receive(said(4), "lobby", "4")
        held.cancel()


# --- without a mailbox ------------------------------------------------------------------------


async def test_without_a_mailbox_the_agent_is_called(tmp_path: Path) -> None:
    """`receive` does not wait for the answer."""
    agent = Agent()
    async with started(Scripted, tmp_path, agent=agent) as radio:
        await radio.receive(said(1))
        memory = await asyncio.wait_for(agent.heard.get(), WAIT_S)

    assert memory.id == "radio/lobby/1"


async def test_a_message_does_not_wait_for_a_mailbox_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload took it out of the config: the agent is called."""
    agent, looks = Agent(), iter([True, True])
    has_mailbox = "_has_mailbox"
    monkeypatch.setattr(handing_over.HandingOver, has_mailbox, lambda self: next(looks, False))
    async with started(Scripted, tmp_path, agent=agent, mailbox=Mailbox(failures=9)) as radio:
        await asyncio.wait_for(radio.receive(said(1)), WAIT_S)
        memory = await asyncio.wait_for(agent.heard.get(), WAIT_S)

    assert memory.id == "radio/lobby/1"


@pytest.mark.parametrize("problem", [Busy("too many"), RetryLater(30.0, "no room")])
async def test_a_busy_agent_is_answered_with_the_failure_text(
    tmp_path: Path, problem: Exception
) -> None:
    """A burst does not vanish."""
    agent = Agent()
    agent.problem = problem
    async with started(Scripted, tmp_path, agent=agent) as radio:
        await radio.receive(said(1))
        await until_true(lambda: radio.tried)
        (said_so,) = radio.tried

    assert said_so.text == "Sorry, I cannot answer just now."
    assert said_so.reply_to == "1"
    assert said_so.id == f"{answer_id('radio', 'lobby', 'radio/lobby/1', '', 0)}/0"


# --- dead letters -----------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "said_so"), [("later", ["later"]), ("", [])])
async def test_a_dead_letter_is_answered_once_under_the_id_of_the_answer(
    tmp_path: Path, text: str, said_so: list[str]
) -> None:
    """An answer that was said after all is not followed by an excuse."""
    memory = Memory(
        id="radio/lobby/1",
        room_id="lobby",
        content=Content("hi", source="radio"),
        metadata={"failure_text": text},
    )
    mail = DeadLetter("1", "agent", "process_actions", [msgspec.to_builtins(memory)])
    async with started(Scripted, tmp_path) as radio:
        await radio.dead_letter(mail, "ten attempts")
        await radio.dead_letter(mail, "ten attempts")
        assert [m.text for m in radio.tried] == said_so


# --- typing -----------------------------------------------------------------------------------


class Typing(Scripted):
    """Counts how often it shows that an answer is written."""

    typed = 0

    async def typing(self, channel: str) -> None:
        """Count."""
        self.typed += 1
        if self.typed == 1:
            raise ConnectionError("an ornament")


async def test_typing_is_shown_until_the_answer_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of it does no harm."""
    monkeypatch.setattr(typing_indicator, "EVERY_S", 0.005)
    async with started(Typing, tmp_path, agent=Agent(), mailbox=Mailbox()) as radio:
        await radio.receive(said(1))
        await until_true(lambda: radio.typed >= 3)
        await radio.send_message("lobby", "hi", "a")
        await asyncio.sleep(0)
        seen = radio.typed
        await asyncio.sleep(0.02)
        assert radio.typed == seen


async def test_typing_can_be_switched_off(tmp_path: Path) -> None:
    """By the config."""
    agent = Agent()
    async with started(Typing, tmp_path, {"typing": False}, agent=agent) as radio:
        await radio.receive(said(1))
        await asyncio.wait_for(agent.heard.get(), WAIT_S)
        assert not radio.typed
