"""The services tts, image and transcription, by OpenAI's library, against a server with faults."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.support.host import Host, found, hosting
from tests.support.model_server import SOUND, ModelServer, Turn, failing
from tests.support.ports import free_port
from tests.support.waiting import eventually

from garrison.ipc import ModelError
from garrison.workers import Media

pytestmark = pytest.mark.external  # some seconds: several workers load the library

NAMES = ("tts", "image", "transcription")
CONFIG = '[host]\npreload = ["garrison.workers.services.openai.warm"]\n' + "".join(
    f"""
[plugins.{name}]
[services.{name}]
secrets = ["OPENAI_API_KEY"]
[services.{name}.config]
base_url = "{{url}}/v1"
timeout = 5.0
"""
    for name in NAMES
).replace("[services.tts.config]\n", "[services.tts.config]\noffline = false\n")
CONFIG += "[plugins.asker]\n"
OGG = Media.of(b"OggS-sound", "audio/ogg")


@pytest.fixture(scope="module")
def port() -> int:
    """Return the port of the server, which each test starts anew."""
    return free_port()


@pytest.fixture(scope="module")
def running(port: int) -> Iterator[Host]:
    """Return a host that all tests here share."""
    config = CONFIG.format(url=f"http://127.0.0.1:{port}")
    with hosting(config, plugins=["asker"], env={"OPENAI_API_KEY": "sk-media"}) as host:
        yield host


@pytest.fixture
async def server(port: int) -> AsyncIterator[ModelServer]:
    """Return the server."""
    async with ModelServer(port) as there:
        yield there


async def test_each_is_asked_as_the_api_has_it(running: Host, server: ModelServer) -> None:
    """By its model type and by its own method; the key, the file's name and the format are sent."""
    async with running.connect() as client:
        use = found(client, "asker").use_model
        assert await use("TEXT_TO_SPEECH", {"text": "Hi", "voice": "ash", "format": "ogg"}) == SOUND
        assert server.asked[0].headers["authorization"] == "Bearer sk-media"
        assert (server.body["voice"], server.body["response_format"]) == ("ash", "opus")
        spoken = await found(client, "tts").speak("Hi")
        assert spoken["content_type"] == "audio/mpeg"  # what came, whatever was asked for
        assert server.body["response_format"] == "wav"

        assert await use("IMAGE", "a cat") == [{"url": "data:image/png;base64,aGk="}]
        image = await found(client, "image").generate("a cat", "64x64")
        assert (image["title"], image["description"]) == ("image.png", "a cat")
        assert server.body["size"] == "64x64"

        server.script(Turn(" Good day. "))
        assert await use("TRANSCRIPTION", {"audio": OGG.url, "language": "de"}) == "Good day."
        form = server.body["form"]
        assert 'filename="audio.ogg"' in form
        assert "OggS-sound" in form
        assert 'name="language"\r\n\r\nde' in form


FAULTS = [
    (failing(429, retry_after="7"), "busy", 7.0),
    (failing(500), "busy", None),
    (failing(413), "context", None),
    (failing(400), "invalid", None),
    (failing(400, code="content_policy_violation"), "refused", None),
    (Turn(fault="reset"), "busy", None),
    (Turn(fault="half"), "busy", None),
    (Turn(body=b"<html>Hello</html>", content_type="text/html"), "invalid", None),
    (Turn(body={"error": {"message": "no"}}), "invalid", None),
]


@pytest.mark.parametrize(
    ("name", "method", "params"),
    [("tts", "text_to_speech", "Hello"), ("transcription", "transcribe", OGG.url)],
)
async def test_each_fault_has_its_kind(
    running: Host, server: ModelServer, name: str, method: str, params: Any
) -> None:
    """It is the caller's, and nothing is tried again by the library."""
    async with running.connect() as client:
        call = getattr(found(client, name), method)
        for turn, kind, wait in FAULTS:
            server.script(turn)
            with pytest.raises(ModelError) as raised:
                await call(params)
            assert (raised.value.kind, raised.value.retry_after) == (kind, wait), turn
            assert len(server.asked) == 1, turn
        assert running.status(name)["restarts"] == 0


async def test_what_fails_becomes_a_placeholder_for_a_while(
    running: Host, server: ModelServer
) -> None:
    """The server is passed over meanwhile; what it refuses is refused."""
    running.ask("restart", "image")
    async with running.connect() as client:
        generate = found(client, "image").generate_image
        server.script(failing(400, code="content_policy_violation"))
        with pytest.raises(ModelError, match="refused"):
            await generate("a cat")
        server.script(failing(500))
        for _ in range(2):
            (image,) = await generate("a cat")
            assert image["title"] == "placeholder"
            assert image["url"].startswith("data:image/png;base64,iVBORw0KGgo")
        assert len(server.asked) == 1
        running.ask("restart", "image")
        server.script(failing(429, retry_after="0.2"))
        assert (await generate("a cat"))[0]["title"] == "placeholder"

        async def asked_again() -> bool:
            return "title" not in (await generate("a cat"))[0]

        await eventually(asked_again)


async def test_a_wrong_key_is_shown_and_a_placeholder_comes(
    running: Host, server: ModelServer
) -> None:
    """The service runs on: something else answers."""
    running.ask("restart", "image")
    async with running.connect() as client:
        server.script(failing(401, "Incorrect API key"))
        assert (await found(client, "image").generate_image("a cat"))[0]["title"] == "placeholder"

        async def warned() -> bool:
            return "Incorrect API key" in str(running.status("image")["warnings"])

        await eventually(warned)
        assert running.status("image")["state"] == "running"
        assert "sk-media" not in running.log("image")
    running.ask("restart", "image")


@pytest.mark.parametrize(
    ("name", "method", "params"),
    [
        ("tts", "text_to_speech", "Hello"),
        ("image", "generate_image", "a cat"),
        ("transcription", "transcribe", OGG.url),
    ],
)
async def test_killed_in_mid_call_the_call_is_made_again_and_ends_once(
    running: Host, server: ModelServer, name: str, method: str, params: Any
) -> None:
    """Each of these may be repeated: nothing is posted anywhere by it."""
    async with running.connect() as client:
        server.script(Turn(fault="hang"))
        answer = asyncio.ensure_future(getattr(found(client, name), method)(params))

        async def asked() -> bool:
            return len(server.asked) == 1

        await eventually(asked)
        pid = running.kill(name)
        assert await answer
        assert len(server.asked) == 2
        running.until_reborn(name, pid)


async def test_a_voice_message_waits_for_a_service_that_starts(
    running: Host, server: ModelServer
) -> None:
    """Its model type is known before it runs."""
    async with running.connect() as client:
        asker = found(client, "asker")
        pid = running.kill("transcription")
        assert await asker.use_model("TRANSCRIPTION", OGG.url) == "Hello there friend"
        running.until_reborn("transcription", pid)
