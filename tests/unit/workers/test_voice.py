"""voice_text and Media's content: what is sound becomes text, and nothing that fails stops it."""

from typing import Any

import pytest

from garrison.workers import Media, ModelError, Service, voice_text
from garrison.workers.testing import run

SOUND = Media.of(b"OggS-sound", "audio/ogg", "voice.ogg")


class Ears(Service):
    service_type = "ears"


async def test_a_voice_message_becomes_its_text() -> None:
    """Its content is sent as bytes, its type and the language with it; an address as it is."""
    asked: list[Any] = []

    def transcribe(params: Any) -> str:
        asked.append(params)
        return " Hello there. "

    async with run(Ears, models={"TRANSCRIPTION": transcribe}) as ears:
        assert await voice_text(ears.runtime, SOUND, language="en") == "Hello there."
        link = Media("https://cdn.example/voice", content_type="Audio/Ogg; codecs=opus")
        assert await voice_text(ears.runtime, link) == "Hello there."
    assert asked == [
        {"audio": b"OggS-sound", "content_type": "audio/ogg", "language": "en"},
        {"audio": "https://cdn.example/voice", "content_type": "audio/ogg"},
    ]


@pytest.mark.parametrize(
    "media",
    [
        Media.of(b"image", "image/png"),
        Media("https://cdn.example/voice"),
        Media("data:audio/ogg;base64,damaged", content_type="audio/ogg"),
        SOUND,  # which its provider refuses
    ],
    ids=["image", "unknown", "damaged", "refused"],
)
async def test_what_gives_no_text_is_passed_on_without(media: Media) -> None:
    """No sound, a damaged address, a provider that fails: an empty text, and no exception."""

    def refuse(params: Any) -> str:
        raise ModelError("busy", text="later")

    async with run(Ears, models={"TRANSCRIPTION": refuse}) as ears:
        assert await voice_text(ears.runtime, media) == ""


async def test_without_a_provider_nothing_is_asked() -> None:
    """A host that transcribes nothing passes voice messages on at once."""
    async with run(Ears) as ears:
        assert await voice_text(ears.runtime, SOUND) == ""


def test_the_content_of_a_data_address() -> None:
    """Base64 or percent-encoded; of another address none; a damaged one is an error."""
    assert SOUND.data() == b"OggS-sound"
    assert SOUND.type == "audio/ogg"
    assert Media("data:,a%20b").data() == b"a b"
    assert Media("data:text/plain;charset=utf-8,a").type == "text/plain"
    assert Media("https://x.org/a").data() is None
    assert Media("https://x.org/a").type == ""
    for url in ("data:audio/ogg;base64", "data:;base64,a"):
        with pytest.raises(ValueError, match="data: address"):
            Media(url).data()
