"""A platform in the process of a test: heard, posted, delivered, logged."""

import asyncio
from typing import Any

import msgspec
import pytest

from garrison.ipc.mail import DeadLetter
from garrison.workers import (
    Action,
    Choice,
    Content,
    Memory,
    NotSent,
    Outgoing,
    Platform,
    Plugin,
    Processed,
    Sent,
)
from garrison.workers.platform.platform import parts_of
from garrison.workers.testing import run


class Radio(Platform):
    """A platform that keeps what it was sent."""

    service_type = "radio"

    def __init__(self, runtime: Any) -> None:
        super().__init__(runtime)
        self.said: list[Outgoing] = []

    async def deliver(self, m: Outgoing) -> str:
        """Keep it."""
        if m.text == "forbidden":
            raise NotSent("forbidden here")
        self.said.append(m)
        return f"r{len(self.said)}"


class Agent:
    """Keeps what it is to answer."""

    service_type = "agent"

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Memory] = asyncio.Queue()
        self.responses: list[Memory] = []

    async def process_actions(self, memory: Memory, responses: list[Memory]) -> Processed:
        """Keep it."""
        self.responses = responses
        self.heard.put_nowait(memory)
        return Processed()


async def test_a_message_is_handed_over_with_an_id_of_the_host() -> None:
    """An id is made of the service's NAME, the room and the platform's own id."""
    agent = Agent()
    async with run(Radio, fakes={"agent": agent}) as radio:
        await radio.receive(Memory(id="7", room_id="lobby", content=Content("hi")))

        memory = await asyncio.wait_for(agent.heard.get(), 5)

    assert (memory.id, memory.content.source) == ("radio/lobby/7", "radio")


async def test_an_answer_is_delivered_once_under_its_id() -> None:
    """A repeated send is answered from the log."""
    async with run(Radio) as radio:
        content = Content("hello", in_reply_to="radio/lobby/7")
        first = await radio.send_message("lobby", content, "a1")
        again = await radio.send_message("lobby", content, "a1")

        (said,) = radio.said

    assert first == again == Sent("sent", ["r1"])
    assert (said.id, said.reply_to, said.part, said.parts) == ("a1/0", "7", 0, 1)


async def test_a_dead_letter_is_answered_with_the_agents_text() -> None:
    """The platform's own text goes before it; without an agent, it is the default."""

    class Sorry(Agent):
        async def failure_text(self) -> str:
            """Say it."""
            return "Ask me tomorrow."

    agent = Sorry()
    async with run(Radio, fakes={"agent": agent}) as radio:
        await radio.receive(Memory(id="7", room_id="lobby", content=Content("hi")))
        memory = await asyncio.wait_for(agent.heard.get(), 5)
        mail = DeadLetter("m1", "agent", "process_actions", [msgspec.to_builtins(memory)])
        await radio.dead_letter(mail, "ten attempts failed")

    assert [one.text for one in radio.said] == ["Ask me tomorrow."]


async def test_what_a_platform_heard_and_sent_is_counted() -> None:
    """`garrison status NAME` shows it."""
    async with run(Radio, fakes={"agent": Agent()}) as radio:
        await radio.receive(Memory(id="7", room_id="lobby", content=Content("hi")))
        await radio.receive(
            Memory(id="8", room_id="lobby", content=Content("hi"), metadata={"bot": True})
        )
        await radio.send_message("lobby", "hello", "a1")
        with pytest.raises(NotSent):
            await radio.send_message("lobby", "forbidden", "a2")
        counts = parts_of(radio).counts()

    assert {name: n for name, n in counts.items() if n} == {
        "heard": 1,
        "passed_over": 1,
        "sent": 1,
        "refused": 1,
    }


async def test_a_command_is_handed_over_with_its_action_and_options() -> None:
    """The agent runs it instead of deciding."""
    agent = Agent()
    data = {"options": {"city": "Rome"}}
    async with run(Radio, fakes={"agent": agent}) as radio:
        content = Content("now", actions=["WEATHER"], data=data)
        await radio.receive(Memory(id="7", room_id="lobby", content=content))
        memory = await asyncio.wait_for(agent.heard.get(), 5)

    assert [one.content for one in agent.responses] == [Content(actions=["WEATHER"], data=data)]
    assert (memory.content.text, memory.metadata["command"]) == ("now", True)


async def test_actions_are_commands_by_the_config() -> None:
    """Built-in ones never are."""
    actions = [
        Action(name, "about it", handler=lambda runtime: None)
        for name in ("WEATHER", "SEND_TIP", "REPLY")
    ]
    plugin = Plugin("radio", services=[Radio], actions=actions)
    async with run(Radio, plugin=plugin) as radio:
        assert [one.name for one in radio.commands()] == ["weather", "send_tip"]
    async with run(Radio, plugin=plugin, config={"commands": ["WEATHER"]}) as radio:
        assert [one.action for one in radio.commands()] == ["WEATHER"]


async def test_choices_and_the_message_that_is_answered_reach_the_platform() -> None:
    """Choices are those of the last part; each part names what it answers, also without `reply`."""
    content = Content("a" * 8, in_reply_to="radio/lobby/7", data={"choices": ["Yes", 7]})
    async with run(Radio, config={"max_length": 4, "reply": False}) as radio:
        await radio.send_message("lobby", content, "a1")

    assert [one.choices for one in radio.said] == [[], [Choice("Yes")]]
    assert [(one.answers, one.reply_to) for one in radio.said] == [("7", None)] * 2


async def test_a_message_that_may_not_be_split_is_refused() -> None:
    """`split = false`: one that fits is sent."""
    async with run(Radio, config={"max_length": 4, "split": False}) as radio:
        with pytest.raises(NotSent, match="5 characters; at most 4"):
            await radio.send_message("lobby", "hello", "a1")
        await radio.send_message("lobby", "hell", "a2")

    assert [one.text for one in radio.said] == ["hell"]


@pytest.mark.parametrize(
    ("channel", "author", "metadata", "answers"),
    [
        ("lobby", "ada", {}, 1),
        ("lobby", "bob", {}, 0),
        ("other", "ada", {}, 0),
        ("lobby", "ada", {"bot": True}, 0),
        ("lobby", "ada", {"edited": True}, 0),
    ],
)
async def test_operators_are_answered_where_the_platform_reads(
    channel: str, author: str, metadata: dict[str, Any], answers: int
) -> None:
    """Also without a mention; in a channel that is not read they are not."""
    config = {"channels": ["lobby"], "mentions_only": True, "operators": ["ada"]}
    async with run(Radio, fakes={"agent": Agent()}, config=config) as radio:
        content = Content("/restart nothing")
        await radio.receive(
            Memory(id="7", room_id=channel, entity_id=author, content=content, metadata=metadata)
        )

    assert [one.text for one in radio.said] == [
        "There is no service 'nothing'. /services lists them."
    ] * answers
    assert all(one.answers == "7" for one in radio.said)


async def test_traffic_is_noted_and_an_end_for_good_is_shown() -> None:
    """By `receive`, `deliver`, and what the author notes."""
    async with run(Radio, fakes={"agent": Agent()}) as radio:
        quiet = await radio.check_link()
        await radio.receive(Memory(id="7", room_id="lobby", content=Content("hi")))
        await radio.send_message("lobby", "hello", "a1")
        radio.disconnected("the session is over")
        gone = await radio.check_link()
        radio.connected()
        back = await radio.check_link()

    assert (quiet["has_probe"], quiet["last_in_s"], quiet["last_out_s"]) == (False, None, None)
    assert quiet["last_alive_s"] is not None
    assert gone["disconnected"] == "the session is over"
    assert gone["last_in_s"] >= gone["last_out_s"] >= 0
    assert back["disconnected"] is None
