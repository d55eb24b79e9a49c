"""A sound that is named by its address is fetched within limits, then transcribed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.model_server import ModelServer, Turn
from tests.support.web_server import Reply, WebServer

from garrison.ipc import Busy, ModelError
from garrison.workers.services.openai import OpenAIService
from garrison.workers.services.transcription import TranscriptionService
from garrison.workers.testing import run

MOST = 2048
OGG = "audio/ogg"
PAGES = {
    "/voice": Reply(b"OggS-sound", content_type=OGG),
    "/moved": Reply(status=302, headers={"Location": "/voice"}),
    "/circle": Reply(status=302, headers={"Location": "/circle"}),
    "/large": Reply(b"OggS" + bytes(MOST), content_type=OGG),
    "/empty": Reply(b"", content_type=OGG),
    "/page": Reply(b"<html>"),
    "/reset": Reply(fault="reset", content_type=OGG),
    "/slow": Reply(b"OggS" * 99, fault="trickle", content_type=OGG),
    "/limit": Reply(status=429, headers={"Retry-After": "7"}),
}
REFUSED = [
    ("/gone", "HTTP 404"),
    ("/circle", "more than 5 redirects"),
    ("/large", f"more than {MOST} bytes"),
    ("/empty", "the sound has 0 bytes"),
    ("/page", "'text/html', which is not read"),
    ("/reset", "invalid"),
    ("/slow", "was not fetched within 0.5 s"),
]


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    """Return a server with sounds."""
    async with WebServer() as there:
        there.pages.update(PAGES)
        yield there


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """Return a server with OpenAI's API."""
    async with ModelServer() as there:
        yield there


def config(server: ModelServer, **more: Any) -> dict[str, Any]:
    """Return a config of the service transcription."""
    return {"base_url": f"{server.url}/v1", "sound_bytes": MOST, "fetch_timeout": 0.5, **more}


async def test_a_sound_is_fetched(web: WebServer, server: ModelServer) -> None:
    """Over redirects; what cannot be fetched is never sent to the model."""
    async with run(TranscriptionService, config=config(server, allow_private=True)) as service:
        for path in ("/voice", "/moved"):
            assert await service.transcribe(f"{web.url}{path}") == "Hello there friend"
            assert "OggS-sound" in server.body["form"]
            assert 'filename="audio.ogg"' in server.body["form"]
        number = len(server.asked)
        for path, reason in REFUSED:
            with pytest.raises(ModelError, match=reason) as raised:
                await service.transcribe({"audioUrl": f"{web.url}{path}"})
            assert raised.value.kind == "invalid", path
        with pytest.raises(ModelError) as raised:
            await service.transcribe(f"{web.url}/limit")
        assert (raised.value.kind, raised.value.retry_after) == ("busy", 7.0)
        assert len(server.asked) == number


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost"])
async def test_addresses_of_this_machine_are_not_fetched(
    web: WebServer, server: ModelServer, host: str
) -> None:
    """Not by a name, nor by another spelling; neither by the service openai."""
    url = f"http://{host}:{web.port}/voice"
    async with run(TranscriptionService, config=config(server)) as service:
        with pytest.raises(ModelError, match=r"invalid.*port \d+ is not allowed"):
            await service.transcribe(url)
        with pytest.raises(ModelError, match=r"invalid.*not an address of the public internet"):
            await service.transcribe(f"http://{host}/voice")
    async with run(OpenAIService, config={"base_url": f"{server.url}/v1"}) as openai:
        with pytest.raises(ModelError, match=r"invalid.*not an address of the public internet"):
            await openai.transcribe(f"http://{host}/voice")
    assert not web.asked
    assert not server.asked


async def test_few_sounds_wait_for_their_turn(server: ModelServer) -> None:
    """Each may be large, so further ones are refused at once."""
    server.script(*[Turn(fault="hang")] * 2)
    async with run(TranscriptionService, config=config(server, concurrency=1)) as service:
        calls = [asyncio.ensure_future(service.transcribe(b"OggS")) for _ in range(18)]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert [type(one.exception()) for one in done] == [Busy]
        for call in waiting:
            call.cancel()
        await asyncio.wait(waiting)
