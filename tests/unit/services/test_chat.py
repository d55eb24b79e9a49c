"""chat between a terminal and an agent: messages, conversations, and no text shown twice."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from garrison.ipc import RemoteError
from garrison.workers import Content, Memory, ModelUnavailable, Processed
from garrison.workers.services.chat import (
    MAX_HISTORY,
    MAX_HISTORY_TEXT,
    MAX_LINE,
    NO_AGENT,
    ChatService,
    Conversation,
    Reply,
)
from garrison.workers.testing import run


class Agent:
    """Answers each line with its text in capitals, and sends that to the room as well."""

    def __init__(self) -> None:
        self.messages: list[Memory] = []
        self.chat: Any = None
        self.also: list[str] = []  # other texts that it sends to the room
        self.answers = 1
        self.error: Exception | None = None
        self.called, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def process_actions(self, memory: Memory, responses: list[Memory]) -> Processed:
        self.messages.append(memory)
        self.called.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        text = memory.content.text
        answers = [f"{text.upper()} {n}" if n else text.upper() for n in range(self.answers)]
        for one in [*self.also, *answers]:
            await self.chat.send_message(memory.room_id, one)
        return Processed([self._response(memory, one) for one in answers])

    def _response(self, memory: Memory, text: str) -> Memory:
        return Memory(
            id=f"to {memory.id} {text[:20]}",
            content=Content(text, source="chat", in_reply_to=memory.id),
            room_id=memory.room_id,
            embedding=[0.5] * 100,
            created_at=memory.created_at,
        )

    async def greeting(self) -> dict[str, str]:
        return {"name": "Ada", "text": "Hello"}


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    """Run chat and a fake agent, which calls chat as services call each other."""
    agent = Agent()
    character = {"name": "Ada", "bio": "Counts."}
    async with run(ChatService, fakes={"agent": agent}, character=character) as service:
        agent.chat = service.runtime.get_service(ChatService)
        yield agent


async def say(agent: Agent, text: str, before: Reply | None = None) -> Reply:
    """Send a line as the terminal does, with the conversation as JSON."""
    conversation = msgspec.json.decode(msgspec.json.encode(before.conversation)) if before else None
    return await asyncio.wait_for(agent.chat.say(text, conversation), 10)


async def test_a_line_is_a_message_of_its_room(agent: Agent) -> None:
    """With the source, the room and the sender."""
    hello = await agent.chat.greeting()
    assert (hello.text, hello.answerer) == ("Hello", "Ada")
    one = await say(agent, "hi", hello)
    two = await say(agent, "you", one)
    assert (one.text, one.answerer, one.messages) == ("HI", "Ada", [])
    first, second = agent.messages
    assert first.room_id == second.room_id == two.conversation.room == hello.conversation.room
    assert first.entity_id == second.entity_id
    assert first.content.source == "chat"
    assert first.id != second.id


async def test_two_conversations_share_nothing(agent: Agent) -> None:
    """Not the room, not the sender, not the messages' ids."""
    await say(agent, "hi")
    await say(agent, "hi")
    one, other = agent.messages
    assert len({one.id, other.id}) == len({one.room_id, other.room_id}) == 2
    assert one.entity_id != other.entity_id


async def test_a_conversation_may_state_who_writes(agent: Agent) -> None:
    """The console does: one person in several rooms, with a name that the agent reads; what waits
    in their rooms is forgotten with them."""
    for room in ("one", "two"):
        before = Reply("", Conversation(room, person="lea", name="Lea"), "Ada")
        after = await say(agent, "hi", before)
        assert (after.conversation.person, after.conversation.name) == ("lea", "Lea")
        await agent.chat.send_message(room, "later")
    assert [memory.entity_id for memory in agent.messages] == ["lea", "lea"]
    assert agent.messages[0].metadata["entity_name"] == "Lea"
    exported = [row async for row in agent.chat.export_person("chat", "lea")]
    assert [row["text"] for row in exported] == ["later", "later"]
    assert await agent.chat.forget_person("chat", "lea") == {"waiting texts": 2}


async def test_a_repeated_line_is_the_same_message(agent: Agent) -> None:
    """Another line in its place, after a failure, is another message; so is the same line later."""
    hello = await agent.chat.greeting()
    for line in ("hi", "hi", "you"):
        after = await say(agent, line, hello)
    await say(agent, "you", after)
    ids = [memory.id for memory in agent.messages]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


async def test_earlier_lines_are_sent_along(agent: Agent) -> None:
    """With their answers and ids, so that a restarted agent can continue. Their number and size are
    limited, whatever the terminal sends."""
    reply = await say(agent, "x" * 2 * MAX_HISTORY_TEXT)
    assert "earlier" not in agent.messages[0].metadata
    for number in range(MAX_HISTORY):
        reply = await say(agent, f"line {number}", reply)
    earlier = msgspec.convert(agent.messages[2].metadata["earlier"], list[Memory])
    assert [memory.content.text for memory in earlier] == [
        *("x" * MAX_HISTORY_TEXT, "X" * MAX_HISTORY_TEXT),
        *("line 0", "LINE 0"),
    ]
    assert [memory.id for memory in earlier][2] == agent.messages[1].id
    assert earlier[3].content.in_reply_to == agent.messages[1].id
    assert all(memory.embedding is None and not memory.metadata for memory in earlier)
    assert sorted(memory.created_at for memory in earlier) == [m.created_at for m in earlier]

    assert len(reply.conversation.lines) == MAX_HISTORY
    reply.conversation.lines *= 3
    reply = await say(agent, "last", reply)
    assert len(agent.messages[-1].metadata["earlier"]) == MAX_HISTORY
    assert len(reply.conversation.lines) == MAX_HISTORY


async def test_several_answers_to_a_line_are_one_reply(agent: Agent) -> None:
    agent.answers = 2
    assert (await say(agent, "hi")).text == "HI\nHI 1"
    agent.answers = 0
    reply = await say(agent, "hi")
    assert (reply.text, reply.messages) == ("", [])
    assert len(reply.conversation.lines) == 1


async def test_other_texts_come_with_the_reply_and_the_answer_comes_once(agent: Agent) -> None:
    """With or without a listener: the agent sends each answer to the room as well."""
    agent.also = ["a notification"]
    reply = await say(agent, "hi")
    assert (reply.text, reply.messages) == ("HI", ["a notification"])
    listening = agent.chat.listen(reply.conversation.room)
    next_text = asyncio.ensure_future(anext(listening))
    reply = await say(agent, "you", reply)
    assert (reply.text, reply.messages) == ("YOU", ["a notification"])
    await agent.chat.send_message(reply.conversation.room, "later")
    assert await asyncio.wait_for(next_text, 10) == "later"
    await listening.aclose()


async def test_a_text_between_two_lines_waits_for_a_listener_or_the_next_line(
    agent: Agent,
) -> None:
    reply = await say(agent, "hi")
    room = reply.conversation.room
    await agent.chat.send_message(room, "one")
    listening = agent.chat.listen(room)
    assert await asyncio.wait_for(anext(listening), 10) == "one"
    await agent.chat.send_message(room, "two")
    assert await asyncio.wait_for(anext(listening), 10) == "two"
    await listening.aclose()
    await agent.chat.send_message("elsewhere", "not here")
    await agent.chat.send_message(room, "three")
    assert (await say(agent, "you", reply)).messages == ["three"]


async def test_an_answer_to_a_line_that_failed_is_shown(agent: Agent) -> None:
    """The answer may have been sent before the call failed."""
    hello = await agent.chat.greeting()
    agent.gate.clear()
    saying = asyncio.ensure_future(say(agent, "hi", hello))
    await agent.called.wait()
    await agent.chat.send_message(hello.conversation.room, "HI")
    agent.error = RuntimeError("no luck")
    agent.gate.set()
    with pytest.raises(RemoteError, match="no luck"):
        await saying
    listening = agent.chat.listen(hello.conversation.room)
    assert await asyncio.wait_for(anext(listening), 10) == "HI"
    await listening.aclose()


async def test_an_unused_room_leaves_nothing_behind(agent: Agent) -> None:
    """Neither after a line nor after a listener."""
    reply = await say(agent, "hi")
    listening = agent.chat.listen(reply.conversation.room)
    await agent.chat.send_message(reply.conversation.room, "one")
    await anext(listening)
    await listening.aclose()
    async with run(ChatService, fakes={"agent": agent}) as service:
        agent.chat = service.runtime.get_service(ChatService)
        await say(agent, "hi")
        agent.error = RuntimeError("no luck")
        with pytest.raises(RemoteError):
            await say(agent, "hi")
        assert (len(service._rooms), len(service._changed)) == (0, 0)


async def test_an_agent_without_a_greeting_gives_an_empty_one() -> None:
    class Silent:
        async def process_actions(self, memory: Memory, responses: list[Memory]) -> None: ...

    async with run(
        ChatService, fakes={"agent": Silent()}, character={"name": "Ada", "bio": ""}
    ) as service:
        hello = await service.greeting()
        assert (hello.text, hello.answerer) == ("", "Ada")
        assert (await service.say("hi", hello.conversation)).text == ""


async def test_without_an_agent_the_error_says_what_to_add() -> None:
    async with run(ChatService) as service:
        with pytest.raises(LookupError, match=r"\[plugins.agent\]"):
            await service.greeting()
        with pytest.raises(LookupError) as raised:
            await service.say("hi")
        assert str(raised.value) == NO_AGENT


async def test_without_a_model_the_error_is_the_runtimes(agent: Agent) -> None:
    agent.error = ModelUnavailable("TEXT_LARGE", "no plugin offers it")
    with pytest.raises(RemoteError) as raised:
        await say(agent, "hi")
    assert raised.value.detail == "LookupError: no model TEXT_LARGE: no plugin offers it"


async def test_a_line_that_is_too_long_is_rejected(agent: Agent) -> None:
    with pytest.raises(RemoteError, match=f"at most {MAX_LINE}"):
        await say(agent, "x" * (MAX_LINE + 1))
    assert agent.messages == []
