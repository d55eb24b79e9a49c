"""chat between a terminal and an agent: what it hands on, what travels, what is said once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from garrison.ipc import RemoteError
from garrison.workers import Content, Memory, ModelUnavailable, Processed
from garrison.workers.services.chat import LINE, LINES, LONGEST, NOBODY, ChatService, Reply
from garrison.workers.testing import run


class Agent:
    """Answers each line with its text, in capitals, and says so in the room as well."""

    def __init__(self) -> None:
        self.heard: list[Memory] = []
        self.chat: Any = None
        self.also: list[str] = []  # what is said in the room besides
        self.answers = 1
        self.error: Exception | None = None
        self.called, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def process_actions(self, memory: Memory, responses: list[Memory]) -> Processed:
        self.heard.append(memory)
        self.called.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        text = memory.content.text
        texts = [f"{text.upper()} {n}" if n else text.upper() for n in range(self.answers)]
        for one in [*self.also, *texts]:
            await self.chat.send_message(memory.room_id, one)
        return Processed([self._response(memory, one) for one in texts])

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
    """Run chat beside an agent, which has both as other services have them."""
    agent = Agent()
    character = {"name": "Ada", "bio": "Counts."}
    async with run(ChatService, fakes={"agent": agent}, character=character) as service:
        agent.chat = service.runtime.get_service(ChatService)
        yield agent


async def say(agent: Agent, text: str, before: Reply | None = None) -> Reply:
    """Say a line as a terminal does: the conversation passes through it as JSON."""
    conversation = msgspec.json.decode(msgspec.json.encode(before.conversation)) if before else None
    return await asyncio.wait_for(agent.chat.say(text, conversation), 10)


async def test_a_line_is_a_message_of_its_room(agent: Agent) -> None:
    """It says who heard it, where the answer is to go, who speaks and to whom."""
    hello = await agent.chat.greeting()
    assert (hello.text, hello.answerer) == ("Hello", "Ada")
    one = await say(agent, "hi", hello)
    two = await say(agent, "you", one)
    assert (one.text, one.answerer, one.messages) == ("HI", "Ada", [])
    first, second = agent.heard
    assert first.room_id == second.room_id == two.conversation.room == hello.conversation.room
    assert first.entity_id == second.entity_id
    assert first.content.source == "chat"
    assert first.id != second.id


async def test_two_conversations_have_nothing_in_common(agent: Agent) -> None:
    """Not the room, not the speaker, and not the messages' ids."""
    await say(agent, "hi")
    await say(agent, "hi")
    one, other = agent.heard
    assert len({one.id, other.id}) == len({one.room_id, other.room_id}) == 2
    assert one.entity_id != other.entity_id


async def test_a_line_that_is_said_again_is_the_same_message(agent: Agent) -> None:
    """And another line at the same place, after one that failed, is another; so is the same line
    later on."""
    hello = await agent.chat.greeting()
    for line in ("hi", "hi", "you"):
        after = await say(agent, line, hello)
    await say(agent, "you", after)
    ids = [memory.id for memory in agent.heard]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


async def test_the_lines_before_go_along(agent: Agent) -> None:
    """With what was said to them, as the agent itself knew it, so that one that has forgotten
    all can answer; bounded in number and size, whoever made them longer."""
    reply = await say(agent, "x" * 2 * LINE)
    assert "earlier" not in agent.heard[0].metadata
    for number in range(LINES):
        reply = await say(agent, f"line {number}", reply)
    earlier = msgspec.convert(agent.heard[2].metadata["earlier"], list[Memory])
    assert [memory.content.text for memory in earlier] == [
        *("x" * LINE, "X" * LINE),
        *("line 0", "LINE 0"),
    ]
    assert [memory.id for memory in earlier][2] == agent.heard[1].id
    assert earlier[3].content.in_reply_to == agent.heard[1].id
    assert all(memory.embedding is None and not memory.metadata for memory in earlier)
    assert sorted(memory.created_at for memory in earlier) == [m.created_at for m in earlier]

    assert len(reply.conversation.lines) == LINES
    reply.conversation.lines *= 3
    reply = await say(agent, "last", reply)
    assert len(agent.heard[-1].metadata["earlier"]) == LINES
    assert len(reply.conversation.lines) == LINES


async def test_all_that_was_said_to_a_line_is_one_reply(agent: Agent) -> None:
    agent.answers = 2
    assert (await say(agent, "hi")).text == "HI\nHI 1"
    agent.answers = 0
    reply = await say(agent, "hi")
    assert (reply.text, reply.messages) == ("", [])
    assert len(reply.conversation.lines) == 1


async def test_what_is_said_besides_comes_with_the_reply_and_the_answer_once(agent: Agent) -> None:
    """Whether somebody listens or not: the agent says each answer in the room as well."""
    agent.also = ["a notification"]
    reply = await say(agent, "hi")
    assert (reply.text, reply.messages) == ("HI", ["a notification"])
    listening = agent.chat.listen(reply.conversation.room)
    heard = asyncio.ensure_future(anext(listening))
    reply = await say(agent, "you", reply)
    assert (reply.text, reply.messages) == ("YOU", ["a notification"])
    await agent.chat.send_message(reply.conversation.room, "later")
    assert await asyncio.wait_for(heard, 10) == "later"
    await listening.aclose()


async def test_what_is_said_between_two_lines_waits_for_a_listener_or_the_next(
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


async def test_what_was_said_to_a_line_that_failed_is_shown(agent: Agent) -> None:
    """The answer may have been given, and only its end be lost."""
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


async def test_nothing_is_kept_of_a_room_that_nobody_is_in(agent: Agent) -> None:
    """Neither after a line, nor after a listener."""
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


async def test_an_agent_without_a_greeting_is_one_who_waits() -> None:
    class Silent:
        async def process_actions(self, memory: Memory, responses: list[Memory]) -> None: ...

    async with run(
        ChatService, fakes={"agent": Silent()}, character={"name": "Ada", "bio": ""}
    ) as service:
        hello = await service.greeting()
        assert (hello.text, hello.answerer) == ("", "Ada")
        assert (await service.say("hi", hello.conversation)).text == ""


async def test_where_nobody_can_answer_it_says_what_to_add() -> None:
    async with run(ChatService) as service:
        with pytest.raises(LookupError, match=r"\[plugins.agent\]"):
            await service.greeting()
        with pytest.raises(LookupError) as raised:
            await service.say("hi")
        assert str(raised.value) == NOBODY


async def test_where_there_is_no_model_it_says_so_in_the_runtimes_words(agent: Agent) -> None:
    agent.error = ModelUnavailable("TEXT_LARGE", "nobody offers it")
    with pytest.raises(RemoteError) as raised:
        await say(agent, "hi")
    assert raised.value.detail == "LookupError: no model TEXT_LARGE: nobody offers it"


async def test_a_line_that_is_too_long_is_refused(agent: Agent) -> None:
    with pytest.raises(RemoteError, match=f"at most {LONGEST}"):
        await say(agent, "x" * (LONGEST + 1))
    assert agent.heard == []
