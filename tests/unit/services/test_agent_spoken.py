"""A voice message is answered by what it says, where a service transcribes."""

from typing import Any

import pytest

from garrison.workers import Content, GenerateTextParams, Media, Memory, ModelError, ModelType
from garrison.workers.services.agent import AgentService
from garrison.workers.testing import run

VOICE = Media.of(b"OggS-sound", "audio/ogg")
IMAGE = Media.of(b"\x89PNG", "image/png")


class Platform:
    """Sends nothing anywhere."""

    async def send_message(self, channel_id: str, text: str) -> str:
        return "1"


def repeat(params: GenerateTextParams) -> str:
    """Return the last message."""
    return f"You said: {params.as_messages()[-1]['content']}"


@pytest.mark.parametrize(
    ("text", "attachments", "heard"),
    [
        ("", [IMAGE, VOICE], "Hello there."),
        (" ", [VOICE, VOICE], "Hello there.\nHello there."),
        ("Look", [VOICE], "Look"),
        ("Look", [], "Look"),
    ],
)
async def test_what_is_spoken_is_answered(text: str, attachments: list[Media], heard: str) -> None:
    """A message with a text keeps it; a transcript is marked."""
    asked: list[Any] = []

    def transcribe(params: Any) -> str:
        asked.append(params["audio"])
        return "Hello there."

    models: dict[str, Any] = {ModelType.TRANSCRIPTION: transcribe, ModelType.TEXT_LARGE: repeat}
    content = Content(text, source="platform", attachments=attachments)
    memory = Memory(content=content, id="m1", room_id="r", entity_id="ada")
    async with run(AgentService, fakes={"platform": Platform()}, models=models) as agent:
        done = await agent.process_actions(memory)
        (answer,) = done.responses
        assert answer.content.text.partition("\n[attached")[0] == f"You said: {heard}"
        kept = await agent.get_memories(table_name="messages", room_id="r")
        (mine,) = [one for one in kept if one.id == "m1"]
    assert mine.content.text == heard
    assert bool(mine.metadata.get("spoken")) is (len(asked) > 0)


async def test_what_cannot_be_transcribed_is_answered_all_the_same() -> None:
    """The message is passed on without a text."""

    def refuse(params: Any) -> str:
        raise ModelError("busy", text="later")

    models: dict[str, Any] = {ModelType.TRANSCRIPTION: refuse, ModelType.TEXT_LARGE: repeat}
    content = Content(source="platform", attachments=[VOICE])
    memory = Memory(content=content, id="m1", room_id="r", entity_id="ada")
    async with run(AgentService, fakes={"platform": Platform()}, models=models) as agent:
        done = await agent.process_actions(memory)
    assert len(done.responses) == 1
