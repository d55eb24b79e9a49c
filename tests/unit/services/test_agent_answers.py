"""The agent and its record in one process: posted messages, full records, several lives."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from garrison.ipc.mail import MESSAGE, PostedMessage
from garrison.workers import (
    Busy,
    Content,
    Memory,
    ModelType,
    NotSent,
    RetryLater,
    Sent,
    idempotent,
)
from garrison.workers.agents.registry import as_model_handler
from garrison.workers.services.agent import AgentService
from garrison.workers.services.agent.record import schema
from garrison.workers.services.agent.record.rows import MessageKey, MessageState, Outcome
from garrison.workers.services.agent.record.store import RecordFull
from garrison.workers.services.agent.recording import Origin, open_recording
from garrison.workers.testing import Harness


class Chat:
    """A platform whose sends the test decides, and whose calls it records."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.error: Exception | None = None
        self.gives: Any = None

    @idempotent
    async def send_message(self, channel: str, text: str) -> Any:
        if self.error is not None:
            raise self.error
        self.said.append(text)
        return self.gives


def message(id: str = "m1", source: str = "chat") -> Memory:
    """Return a message."""
    content = Content("Hi", source=source)
    return Memory(content=content, id=id, room_id="r", entity_id="ada", created_at=1.0)


Living = Callable[..., AbstractAsyncContextManager[AgentService]]


@pytest.fixture
def chat() -> Chat:
    """Return the platform."""
    return Chat()


@pytest.fixture
def calls() -> list[Any]:
    """Return the calls of the model."""
    return []


@pytest.fixture
def living(tmp_path: Path, chat: Chat, calls: list[Any]) -> Living:
    """Return a context manager that is one life of the agent in a folder that lasts."""

    def model(params: Any) -> str:
        calls.append(params)
        return "Hello"

    @asynccontextmanager
    async def live(**config: Any) -> AsyncIterator[AgentService]:
        harness = Harness("agent", data_folder=tmp_path)
        harness.add_fakes({"chat": chat})
        harness.runtime.register_model(ModelType.TEXT_LARGE, as_model_handler(model), "test")
        agent = await harness.start(AgentService, config)
        try:
            yield agent
            await agent.stop()
        finally:
            await harness.close()
        harness.raise_failure()

    return live


def posted(attempt: int = 1) -> None:
    """Have the calls that follow be deliveries of the mailbox."""
    MESSAGE.set(PostedMessage("p", attempt))


async def recorded(agent: AgentService, wanted: str = "m1") -> Any:
    """Return the message's record."""
    (found,) = await agent._answers.execute(lambda at: schema.find_by_id(at, wanted, 9))
    return found


async def test_an_answer_outlasts_the_agent(living: Living, chat: Chat, calls: list[Any]) -> None:
    """A repeated message gets it from the record."""
    chat.gives = {"outcome": "sent", "ids": ["platform-7"]}
    async with living() as agent:
        first = await agent.process_actions(message())
    async with living() as agent:
        assert await agent.process_actions(message()) == first
        assert (await recorded(agent, "platform-7")).key.id == "m1"
        record = await recorded(agent)

    assert (chat.said, len(calls)) == (["Hello"], 1)
    assert record.state is MessageState.DONE
    assert record.parts[0].outcome is Outcome.SENT
    assert (record.why.how, record.why.models[0].model_type) == ("validate", "TEXT_LARGE")


async def test_a_posted_message_waits_for_its_platform(
    living: Living, chat: Chat, calls: list[Any]
) -> None:
    """It is delivered again, and says what was decided."""
    posted()
    async with living() as agent:
        chat.error = Busy("later", retry_after=7.0)
        with pytest.raises(RetryLater, match="later") as raised:
            await agent.process_actions(message())
        chat.error = None
        assert (await recorded(agent)).state is MessageState.DECIDED
        posted(2)
        answer = await agent.process_actions(message())

    assert raised.value.seconds == 7.0
    assert (chat.said, len(calls)) == (["Hello"], 1)
    assert [one.content.text for one in answer.responses] == ["Hello"]
    assert answer.results == []


@pytest.mark.parametrize(
    ("error", "problem"), [(NotSent("too long"), "too long"), (Busy("full"), "full")]
)
async def test_what_a_platform_refuses_is_a_failure_that_the_caller_sees(
    living: Living, chat: Chat, error: Exception, problem: str
) -> None:
    """For good; a direct call is not delivered again."""
    chat.error = error
    async with living() as agent:
        answer = await agent.process_actions(message())
        chat.error = None
        assert await agent.process_actions(message()) == answer
        kept = await agent.get_memories(room_id="r")

    assert problem in answer.results[0].error
    assert chat.said == []
    assert [one.content.text for one in kept] == ["Hi"]


async def test_an_uncertain_part_is_a_failure_too(living: Living, chat: Chat) -> None:
    """As the platform says; it is part of the conversation."""
    chat.gives = Sent("uncertain", [""])
    async with living() as agent:
        answer = await agent.process_actions(message())
        kept = await agent.get_memories(room_id="r")

    assert "does not know" in answer.results[0].error
    assert [one.content.text for one in kept] == ["Hello", "Hi"]


@pytest.mark.parametrize(("is_posted", "error"), [(False, Busy), (True, RetryLater)])
async def test_a_full_record_accepts_no_new_message(
    living: Living, is_posted: bool, error: type[Exception], chat: Chat
) -> None:
    """One that was answered before still gets its answer."""
    async with living(answers_bytes=1 << 20) as agent:
        first = await agent.process_actions(message())
        agent._answers._max_pages = 0
        agent._answered.remove(MessageKey("chat", "r", "m1"))
        if is_posted:
            posted()
        with pytest.raises(error, match="record of answers is full"):
            await agent.process_actions(message("m2"))
        assert await agent.process_actions(message()) == first

    assert chat.said == ["Hello"]


async def test_a_record_that_cannot_be_read_is_an_error(living: Living, chat: Chat) -> None:
    """The mailbox delivers the message again; nothing is said on a guess."""
    async with living() as agent:
        await agent.process_actions(message())
    async with living() as agent:
        await agent._answers.execute(
            lambda at: at.execute("UPDATE parts SET memory = x'c1'").rowcount
        )
        with pytest.raises(Exception, match="cannot be read"):
            await agent.process_actions(message())

    assert chat.said == ["Hello"]


async def test_a_damaged_record_is_announced(living: Living, tmp_path: Path) -> None:
    """And a new one is begun."""
    async with living() as agent:
        await agent.process_actions(message())
    (tmp_path / "answers.db").write_bytes(b"x" * 8192)
    async with living() as agent:
        await asyncio.sleep(0)
        emitted: list[Any] = agent.runtime.emitted  # type: ignore[attr-defined]
        assert await agent.process_actions(message())

    assert "answers.db.damaged-" in dict(emitted)["answers.damaged"]["set_aside"]


async def test_a_record_of_a_backup_may_not_have_what_was_said(living: Living) -> None:
    """It was made while the message was answered: the message is delivered again, and decided."""
    memory, key = message(), MessageKey("chat", "r", "m1")
    async with living() as agent:
        first = await open_recording(agent._answers, key, memory, Origin(posted=True), 1.0)
        await first.write()
        again = await open_recording(agent._answers, key, memory, Origin(True, 2), 2.0)

    assert not first.perhaps_sent
    assert again.record.state is MessageState.DECIDING
    assert again.perhaps_sent


async def test_a_full_disk_does_not_crash_the_agent_that_prunes(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old records stay until there is room."""
    async with living() as agent:

        async def execute(operation: Any) -> Any:
            raise RecordFull("no room")

        with monkeypatch.context() as patched:
            patched.setattr(agent._answers, "execute", execute)
            await agent._prune()


class Plain(Chat):
    """A platform whose sends may not be repeated."""

    async def send_message(self, channel: str, text: str) -> Any:
        if self.error is not None:
            raise self.error
        self.said.append(text)
        return self.gives


@pytest.fixture
def plain() -> Plain:
    """Return the platform."""
    return Plain()


async def test_what_was_put_off_is_no_uncertain_part(plain: Plain, tmp_path: Path) -> None:
    """It was surely not sent, so the next attempt sends it, also where it may not be repeated."""
    harness = Harness("agent", data_folder=tmp_path)
    harness.add_fakes({"chat": plain})
    model = as_model_handler(lambda params: "Hello")
    harness.runtime.register_model(ModelType.TEXT_LARGE, model, "test")
    agent = await harness.start(AgentService, {})
    posted()
    plain.error = Busy("later")
    for _ in range(2):
        with pytest.raises(RetryLater):
            await agent.process_actions(message())
    plain.error = None
    answer = await agent.process_actions(message())
    assert (await recorded(agent)).parts[0].outcome is Outcome.SENT
    await agent.stop()
    await harness.close()

    assert plain.said == ["Hello"]
    assert answer.results == []
