"""An agent without a room's history restores it from the messages that a message carries."""

import asyncio
from typing import Any

import pytest

from garrison.ipc.messages import Changed, State
from garrison.workers import Content, GenerateTextParams, Memory, ModelType
from garrison.workers.services.agent import AgentService
from garrison.workers.testing import run


class Model:
    """A model that records its prompts."""

    def __init__(self) -> None:
        self.prompts: list[list[str]] = []

    async def __call__(self, params: GenerateTextParams) -> str:
        self.prompts.append([one["content"] for one in params.messages])
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


async def test_unknown_messages_are_restored_and_known_ones_do_not_change() -> None:
    """In order, before the new message; the answer uses all of them."""
    model = Model()
    earlier = [message(1), message(2)]
    async with running(model) as agent:
        await agent.process_actions(message(3, earlier=earlier))
        changed = [message(1, "changed"), message(2, "changed")]
        await agent.process_actions(message(4, earlier=changed))
        kept = await agent.get_memories(room_id="r")
    assert model.prompts == [
        ["line 1", "line 2", "line 3"],
        ["line 1", "line 2", "line 3", "Well.", "line 4"],
    ]
    assert all("earlier" not in one.metadata for one in kept)


async def test_a_partly_known_history_is_completed() -> None:
    """For example after a kill between two lines, when one message arrived since."""
    model = Model()
    async with running(model) as agent:
        await agent.create_memory(message(2))
        await agent.process_actions(message(4, earlier=[message(1), message(2), message(3)]))
    assert model.prompts == [["line 1", "line 2", "line 3", "line 4"]]


async def test_only_the_own_room_is_restored_up_to_the_conversations_length() -> None:
    """Whatever the sender of the message adds."""
    model = Model()
    foreign = [message(1, "secret", room="other")]
    many = [message(number) for number in range(2, 100)]
    async with running(model, config={"conversation_length": 8}) as agent:
        await agent.process_actions(message(100, earlier=[*many, *foreign]))
        kept = await agent.get_memories()
    assert len(kept) == 8 + 2
    assert {one.room_id for one in kept} == {"r"}


@pytest.mark.parametrize("word", ["yesterday", 3, [1], [{"text": "x"}], None])
async def test_other_uses_of_the_metadata_are_left_alone(word: object) -> None:
    """A value that is no list of messages has another meaning."""
    model = Model()
    async with running(model) as agent:
        await agent.process_actions(message(1, earlier=word))
        (mine,) = [one for one in await agent.get_memories() if one.id == "m1"]
    assert mine.metadata == {"earlier": word}
    assert model.prompts == [["line 1"]]


async def test_a_database_that_hangs_is_called_once_for_it() -> None:
    """The answer must not wait for 32 timeouts. Meanwhile the messages are in the agent's file."""

    class Database:
        def __init__(self) -> None:
            self.created: list[str] = []

        async def count_memories(self, room_id: str | None = None) -> int:
            return 0

        async def create_memory(self, memory: dict[str, Any]) -> str:
            self.created.append(memory["id"])
            await asyncio.Event().wait()
            return ""

    model, database = Model(), Database()
    earlier = [message(number) for number in range(1, 20)]
    config = {"provider_timeout": 0.1}
    async with running(model, fakes={"database": database}, config=config) as agent:
        await agent.process_actions(message(20, earlier=earlier))
    assert database.created[:2] == ["m1", "m20"]
    assert model.prompts == [[f"line {number}" for number in range(1, 21)]]


class Kept:
    """A database that records what it is given."""

    service_type = "database"

    def __init__(self) -> None:
        self.created: list[str] = []

    async def create_memory(self, memory: Memory, table: str = "messages") -> str:
        self.created.append(memory.id)
        return memory.id

    async def get_memories(self, **query: Any) -> list[Memory]:
        return []

    async def get_memory_by_id(self, memory_id: str) -> None:
        return None

    async def count_memories(self, room_id: str) -> int:
        return 0


@pytest.mark.parametrize(
    ("state", "timeout", "logged"),
    [(State.BACKOFF, 3600.0, "database.left_out"), (State.STARTING, 0.05, "database.failed")],
)
async def test_a_database_that_does_not_run_is_waited_for_once_at_most(
    state: State, timeout: float, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In backoff not even that; once it runs it is used again."""
    model, database = Model(), Kept()
    config = {"provider_timeout": timeout}
    async with running(model, fakes={"database": database}, config=config) as agent:
        client = agent.runtime.client
        entry = client.directory.get("database")
        client.session.handle(Changed("database", state, True, 1, b""))
        for number in range(3):
            await agent.process_actions(message(number))
        lines = [line for line in caplog.messages if line.startswith("database.")]
        assert [line.split()[0] for line in lines] == [logged]
        assert database.created == []
        client.session.handle(Changed("database", State.RUNNING, True, 1, entry.token))
        await agent.process_actions(message(9))
    assert "m9" in database.created
