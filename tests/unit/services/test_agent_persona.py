"""The agent's character in its prompts: recalled knowledge, templates, and what has no room."""

import asyncio
import logging
from typing import Any

import pytest
from tests.support.waiting import eventually

from garrison.workers import Content, EmbedParams, GenerateTextParams, Memory, ModelType
from garrison.workers.services.agent import AgentService
from garrison.workers.testing import run

FILLER = "filler " * 60
FACTS = [f"{FILLER} fact {number}" for number in range(20)]


class Models:
    """A text model that keeps its prompts, and an embedding model that knows one word."""

    def __init__(self) -> None:
        self.systems: list[str] = []
        self.embedded: list[str] = []
        self.answer = "Hello."
        self.size = 2
        self.gate = asyncio.Event()
        self.gate.set()

    async def text(self, params: GenerateTextParams) -> str:
        self.systems.append(params.system or "")
        return self.answer

    async def embed(self, params: EmbedParams) -> list[float]:
        await self.gate.wait()
        self.embedded.append(params.text)
        near = "bird" in params.text or "fact 7" in params.text
        return [float(near), float(not near), *[0.0] * (self.size - 2)]

    def all(self) -> dict[str, Any]:
        """Return both."""
        return {ModelType.TEXT_LARGE: self.text, ModelType.TEXT_EMBEDDING: self.embed}


async def say(agent: AgentService, text: str, **content: Any) -> str:
    """Return the agent's answer to a message in a room of its own."""
    done = await agent.process_actions(
        Memory(content=Content(text, **content), id=text, entity_id="u")
    )
    return done.responses[0].content.text


def character(**fields: Any) -> dict[str, Any]:
    """Return a character with long knowledge."""
    return {"name": "Ada", "knowledge": [*FACTS, "Penguins swim."], **fields}


async def test_knowledge_is_recalled_by_an_embedding_model_once_it_has_read_it() -> None:
    """Until then, and where it fails, by shared words: no answer waits for it."""
    models = Models()
    models.gate.clear()
    async with run(AgentService, models=models.all(), character=character()) as agent:
        await say(agent, "do penguins swim?")
        assert "Penguins swim." in models.systems[-1]
        models.gate.set()

        async def read() -> bool:
            await say(agent, f"a bird, {len(models.systems)}")
            return "fact 7" in models.systems[-1] and models.embedded[-1].startswith("a bird")

        await eventually(read)
        assert len(models.systems[-1]) < 6_000
        models.size = 3  # another model answers now
        await say(agent, "do penguins swim, please?")
        assert "Penguins swim." in models.systems[-1]


async def test_without_an_embedding_model_it_is_recalled_by_words() -> None:
    """Short knowledge is shown whole."""
    models = Models()
    only = {ModelType.TEXT_LARGE: models.text}
    async with run(AgentService, models=only, character=character()) as agent:
        await say(agent, "do penguins swim?")
        assert "Penguins swim." in models.systems[-1]
        assert len(models.systems[-1]) < 6_000
    async with run(AgentService, models=only, character=character(knowledge=FACTS[:3])) as agent:
        await say(agent, "hi")
        assert all(fact in models.systems[-1] for fact in FACTS[:3])


async def test_a_template_reaches_the_model_and_its_form_stays_inside() -> None:
    """The user is sent the text alone."""
    models = Models()
    templates = {"replyTemplate": "Answer {{senderName}} in <text>, after:\n{{recentMessages}}"}
    ada = character(knowledge=[], templates=templates)
    async with run(AgentService, models=models.all(), character=ada) as agent:
        models.answer = "<response><text>Hi.</text></response>"
        assert await say(agent, "one") == "Hi."
        assert models.systems[-1].endswith("Answer the user in <text>, after:\nthe user: one")
        assert await say(agent, "two", channel_type="FEED") == models.answer
    config = {"decide": "model"}
    async with run(AgentService, models=models.all(), character=ada, config=config) as agent:
        models.systems.clear()
        assert await say(agent, "three") == "Hi."
        assert ["<text>" in system for system in models.systems] == [False, True]


async def test_what_has_no_room_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the key to change."""
    models = Models()
    ada = character(knowledge=[], lore=["x" * 100, "y" * 100], style=["Short."])
    config = {"character_length": 150}
    with caplog.at_level(logging.WARNING):
        async with run(AgentService, models=models.all(), character=ada, config=config) as agent:
            await say(agent, "one")
            await say(agent, "two")
    assert [line for line in caplog.messages if "character.too_long" in line] == [
        "character.too_long 2 of its lore are left out of prompts, which have room for 150 "
        "characters of it: shorten the character file, or set character_length"
    ]
    assert "How you write" in models.systems[-1]
