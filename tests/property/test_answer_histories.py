"""An agent that dies at any point of any answers: none is lost, none said twice where that can be
known, and each room is in order."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.ipc.mail import MESSAGE, PostedMessage
from garrison.workers import (
    Action,
    Content,
    GenerateTextParams,
    Memory,
    ModelType,
    Plugin,
    Processed,
    idempotent,
)
from garrison.workers.agents.registry import as_model_handler
from garrison.workers.services.agent import AgentService
from garrison.workers.services.agent.recording import Recording
from garrison.workers.testing import Harness

ROOM = "r"


class Death:
    """Ends the agent at a point: from then on nothing of it goes on."""

    def __init__(self, after: int) -> None:
        self.left, self.happened = after, asyncio.Event()

    async def point(self) -> None:
        """Be a point at which it may die."""
        self.left -= 1
        if self.left <= 0:
            self.happened.set()
        if self.happened.is_set():
            await asyncio.Event().wait()


class World:
    """What outlasts the agent: its folder, what was said, what was done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.deeds: list[str] = []
        self.death = Death(1_000_000)


class Repeatable:
    """A platform that knows what it said, by ids that it is not given: texts are unique here."""

    def __init__(self, world: World) -> None:
        self._world = world

    @idempotent
    async def send_message(self, channel: str, text: str) -> None:
        await self._world.death.point()
        if text not in self._world.said:
            self._world.said.append(text)
        await self._world.death.point()


class Forgetful:
    """A platform that says what it is told."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def send_message(self, channel: str, text: str) -> None:
        await self._world.death.point()
        self._world.said.append(text)
        await self._world.death.point()


def plugin_of(world: World) -> Plugin:
    """Return actions with effects, one of which may run twice."""

    async def act(memory: Memory) -> AsyncIterator[str]:
        text = memory.content.text
        world.deeds.append(text)
        await world.death.point()
        yield f"{text} 1"
        await world.death.point()
        yield f"{text} 2"
        await world.death.point()

    async def once(runtime: Any, memory: Memory) -> AsyncIterator[str]:
        async for one in act(memory):
            yield one

    @idempotent
    async def again(runtime: Any, memory: Memory) -> AsyncIterator[str]:
        async for one in act(memory):
            yield one

    def applies(word: str) -> Callable[[Any, Memory], bool]:
        return lambda runtime, memory: word in memory.content.text

    return Plugin(
        "p",
        actions=[
            Action("ONCE", handler=once, validate=applies("once")),
            Action("AGAIN", handler=again, validate=applies("again")),
        ],
    )


async def life(world: World, platform: type, messages: list[str], attempt: int) -> list[Processed]:
    """Run the agent until it has answered all messages, or has died; return the answers."""

    async def model(params: GenerateTextParams) -> str:
        await world.death.point()
        return f"{params.as_messages()[-1]['content']} model"

    harness = Harness("agent", data_folder=world.folder)
    harness.add_fakes({"platform": platform(world)})
    harness.runtime.register_model(ModelType.TEXT_LARGE, as_model_handler(model), "test")
    await harness.init(plugin_of(world), {})
    agent = await harness.start(AgentService, {})
    answers: list[Processed] = []

    async def deliver() -> None:
        for text in messages:
            MESSAGE.set(PostedMessage(text, attempt, key=text))
            content = Content(text, source="platform")
            memory = Memory(content=content, id=text, room_id=ROOM, entity_id="ada", created_at=1)
            answers.append(await agent.process_actions(memory))

    async def die() -> None:
        await world.death.happened.wait()

    tasks = [asyncio.create_task(deliver()), asyncio.create_task(die())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await harness.close()
    agent._answers.begin_close()
    await asyncio.to_thread(agent._answers.wait_closed)
    await agent._stop_database()
    harness.raise_failure()
    return answers


@contextmanager
def dying(world: World, loses: bool) -> Iterator[None]:
    """Make each write a point at which the agent may die.

    Args:
        world: Has the death.
        loses: What is written without waiting is not on disk before the next write.
    """
    write, soon, now = Recording.write, Recording.write_soon, Recording.write_now

    async def dying_write(self: Recording) -> None:
        await world.death.point()
        await write(self)
        await world.death.point()

    def dying_soon(self: Recording) -> None:
        if not (loses or world.death.happened.is_set()):
            soon(self)

    def dying_now(self: Recording) -> None:
        if not (loses or world.death.happened.is_set()):
            now(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recording, "write", dying_write)
        patch.setattr(Recording, "write_soon", dying_soon)
        patch.setattr(Recording, "write_now", dying_now)
        yield


KINDS = st.sampled_from(["plain", "once", "again"])
HISTORY = st.tuples(
    st.lists(KINDS, min_size=1, max_size=3), st.lists(st.integers(1, 22), max_size=4), st.booleans()
)


async def play(
    world: World, platform: type, kinds: list[str], deaths: list[int]
) -> tuple[list[str], list[Processed]]:
    """Deliver the messages until none dies; return them and the last answers."""
    messages = [f"{number} {kind}" for number, kind in enumerate(kinds)]
    attempt, answers = 1, list[Processed]()
    for after in [*deaths, 1_000_000]:
        world.death = Death(after)
        answers = await life(world, platform, messages, attempt)
        attempt += 1
    assert await life(world, platform, messages, attempt) == answers  # the same when repeated
    return messages, answers


def expected(message: str) -> list[str]:
    """Return what is said to a message if nothing dies."""
    if message.endswith("plain"):
        return [f"{message} model"]
    return [f"{message} 1", f"{message} 2"]


@settings(max_examples=15, deadline=None)
@given(history=HISTORY)
def test_nothing_is_lost_or_said_twice(
    history: tuple[list[str], list[int], bool],
) -> None:
    """Towards a platform that may be called twice; an action that may not says what happened."""
    kinds, deaths, loses = history
    with tempfile.TemporaryDirectory(prefix="garrison-") as folder:
        world = World(Path(folder))
        with dying(world, loses):
            messages, answers = asyncio.run(play(world, Repeatable, kinds, deaths))

    assert max(Counter(world.said).values()) == 1
    order = [text.partition(" ")[0] for text in world.said if not text.startswith("I was")]
    assert order == sorted(order)
    for message, answer in zip(messages, answers, strict=True):
        texts = [one.content.text for one in answer.responses]
        if "once" in message and texts != expected(message):
            assert texts[-1].startswith("I was interrupted during ONCE")
            assert texts[:-1] == expected(message)[: len(texts) - 1]
            assert not answer.results[0].success
        else:
            assert texts == expected(message)
        assert set(texts) <= set(world.said)
    deeds = Counter(world.deeds)
    assert all(deeds[one] <= 1 for one in messages if "once" in one)


@settings(max_examples=10, deadline=None)
@given(history=HISTORY)
def test_where_a_repetition_would_be_said_twice_it_is_not(
    history: tuple[list[str], list[int], bool],
) -> None:
    """Each part that was not said is a failed result that the caller sees."""
    kinds, deaths, loses = history
    with tempfile.TemporaryDirectory(prefix="garrison-") as folder:
        world = World(Path(folder))
        with dying(world, loses):
            messages, answers = asyncio.run(play(world, Forgetful, kinds, deaths))

    interruptions = [text for text in world.said if text.startswith("I was")]
    others = Counter(text for text in world.said if not text.startswith("I was"))
    assert not others or max(others.values()) == 1
    assert len(interruptions) <= sum("once" in message for message in messages)
    for answer in answers:
        unsaid = [one for one in answer.responses if one.content.text not in world.said]
        failed = [one for one in answer.results if "not confirmed as sent" in one.error]
        assert len(unsaid) <= len(failed)
