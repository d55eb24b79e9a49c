"""What an agent that has forgotten learns from a message that brings the ones before it."""

import asyncio
from typing import Any

import pytest

from garrison.workers import Content, GenerateTextParams, Memory, ModelType
from garrison.workers.services.agent import AgentService
from garrison.workers.testing import run


class Model:
    """A model that remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []

    async def __call__(self, params: GenerateTextParams) -> str:
        self.requests.append([one["content"] for one in params.messages])
        return "Well."


def running(model: Model, **more: Any) -> Any:
    return run(AgentService, models={ModelType.TEXT_LARGE: model}, **more)


def message(number: int, text: str = "", room: str = "r", **metadata: Any) -> Memory:
    return Memory(
        id=f"m{number}",
        content=Content(text or f"line {number}"),
        created_at=float(number),
        entity_id="ada",
        room_id=room,
        metadata=metadata,
    )


async def test_what_is_unknown_is_learnt_and_what_is_known_stays_as_it_was() -> None:
    """In its order, before the message; the answer follows from all of it."""
    model = Model()
    earlier = [message(1), message(2)]
    async with running(model) as agent:
        await agent.process_actions(message(3, earlier=earlier))
        changed = [message(1, "changed"), message(2, "changed")]
        await agent.process_actions(message(4, earlier=changed))
        kept = await agent.get_memories(room_id="r")
    assert model.requests == [
        ["line 1", "line 2", "line 3"],
        ["line 1", "line 2", "line 3", "Well.", "line 4"],
    ]
    assert all("earlier" not in one.metadata for one in kept)


async def test_what_is_partly_known_is_completed() -> None:
    """As where an agent was killed between two lines, and heard one since."""
    model = Model()
    async with running(model) as agent:
        await agent.create_memory(message(2))
        await agent.process_actions(message(4, earlier=[message(1), message(2), message(3)]))
    assert model.requests == [["line 1", "line 2", "line 3", "line 4"]]


async def test_only_its_own_room_is_learnt_and_no_more_than_a_model_is_shown() -> None:
    """Whoever sends the message."""
    model = Model()
    foreign = [message(1, "secret", room="other")]
    many = [message(number) for number in range(2, 100)]
    async with running(model, config={"conversation_length": 8}) as agent:
        await agent.process_actions(message(100, earlier=[*many, *foreign]))
        kept = await agent.get_memories()
    assert len(kept) == 8 + 2
    assert {one.room_id for one in kept} == {"r"}


@pytest.mark.parametrize("word", ["yesterday", 3, [1], [{"text": "x"}], None])
async def test_an_authors_own_word_is_left_alone(word: object) -> None:
    """What is no list of messages means something else."""
    model = Model()
    async with running(model) as agent:
        await agent.process_actions(message(1, earlier=word))
        (mine,) = [one for one in await agent.get_memories() if one.id == "m1"]
    assert mine.metadata == {"earlier": word}
    assert model.requests == [["line 1"]]


async def test_a_database_that_hangs_is_asked_once_for_it() -> None:
    """People wait for the answer: 32 messages must not take 32 deadlines."""

    class Database:
        def __init__(self) -> None:
            self.requests: list[str] = []

        async def count_memories(self, room_id: str | None = None) -> int:
            return 0

        async def create_memory(self, memory: dict[str, Any]) -> str:
            self.requests.append(memory["id"])
            await asyncio.Event().wait()
            return ""

    model, database = Model(), Database()
    earlier = [message(number) for number in range(1, 20)]
    config = {"provider_timeout": 0.1}
    async with running(model, fakes={"database": database}, config=config) as agent:
        await agent.process_actions(message(20, earlier=earlier))
    assert database.requests[:2] == ["m1", "m20"]
    assert model.requests == [["line 20"]]
