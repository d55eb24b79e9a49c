"""The services openai and anthropic, by the real libraries, against a server with faults."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.support.host import Host, found, hosting
from tests.support.model_server import ModelServer, Turn, completion, failing, message
from tests.support.ports import free_port
from tests.support.waiting import eventually

from garrison.ipc import ModelError, RemoteError

HELLO = {"messages": [{"role": "user", "content": "Hello"}], "system": "Be kind", "max_tokens": 9}
COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}},
    "required": ["colour"],
}
NEEDS_ANTHROPIC = (
    pytest.mark.external,
    pytest.mark.skipif(
        importlib.util.find_spec("anthropic") is None,
        reason="the library anthropic is not installed: pip install '.[external]'",
    ),
)
BOTH = ["openai", pytest.param("anthropic", marks=NEEDS_ANTHROPIC)]
SERVICES = {"openai": "/v1", "anthropic": ""}
CONFIG = """
[plugins.{name}]
[services.{name}]
secrets = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"]
[services.{name}.config]
base_url = "{url}"
timeout = 5.0
[plugins.eliza]
[plugins.asker]
"""
KEYS = {"OPENAI_API_KEY": "key-of-openai", "ANTHROPIC_API_KEY": "key-of-anthropic"}


@pytest.fixture(scope="module", params=BOTH)
def name(request: pytest.FixtureRequest) -> str:
    """Return the NAME of the service under test."""
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def port() -> int:
    """Return the port of the server, which each test starts anew."""
    return free_port()


@pytest.fixture(scope="module")
def running(name: str, port: int) -> Iterator[Host]:
    """Return a host that all tests of a service share."""
    config = CONFIG.format(name=name, url=f"http://127.0.0.1:{port}{SERVICES[name]}")
    with hosting(config, plugins=["asker"], env=KEYS) as host:
        yield host


@pytest.fixture
async def server(port: int) -> AsyncIterator[ModelServer]:
    """Return the server."""
    async with ModelServer(port) as there:
        yield there


async def test_text_objects_and_streams(running: Host, server: ModelServer, name: str) -> None:
    """What is asked for goes over the wire as the API has it, and its answers come back."""
    async with running.connect() as client:
        asker = found(client, "asker")
        server.script(Turn("Good day."))
        assert await asker.use_model("TEXT_LARGE", HELLO, name) == "Good day."
        assert server.asked[0].headers["authorization"] == f"Bearer key-of-{name}"
        large = server.body["model"]
        pieces = [one async for one in asker.use_model_stream("TEXT_SMALL", HELLO)]
        assert pieces == ["Hello ", "there ", "friend "]
        assert server.body["model"] != large

        chosen = {"colour": "blue"}
        tool = [{"type": "tool_use", "id": "t", "name": "answer", "input": chosen}]
        said = {"role": "assistant", "content": '{"colour": "blue"}'}
        body = completion(said) if name == "openai" else message(tool, "tool_use")
        server.script(Turn(body=body))
        wanted = {**HELLO, "schema": COLOUR}
        assert await asker.use_model("OBJECT_SMALL", wanted, name) == chosen

        async def counted() -> bool:
            facts = running.status(name)["facts"]
            return bool(facts.get("requests", 0) >= 3 and facts["tokens_out"] >= 9)

        await eventually(counted, what="the use is shown")


FAULTS = [
    (failing(429, retry_after="7"), "busy", 7.0),
    (failing(429, retry_after_ms="1500"), "busy", 1.5),
    (failing(500), "busy", None),
    (failing(529), "busy", None),
    (failing(401), "auth", None),
    (failing(403), "auth", None),
    (failing(413), "context", None),
    (failing(400), "invalid", None),
    (failing(422), "invalid", None),
    (Turn(fault="reset"), "busy", None),
    (Turn(fault="half"), "busy", None),
    (Turn(body=b"<html>Hello</html>", content_type="text/html"), "invalid", None),
    (Turn(body=b'{"id": "c1", "cho', content_type="application/json"), "busy", None),
    (Turn(body=b""), "busy", None),
    (Turn(body=b"Hello", content_type="text/plain"), "invalid", None),
    (Turn(body=[]), "invalid", None),
    (Turn(body={"choices": ["a"], "content": ["a"], "stop_reason": "end_turn"}), "invalid", None),
    (Turn(body={"error": {"message": "no"}}), "invalid", None),
    (Turn(headers={"content-encoding": "gzip"}, body=b"Hello"), "busy", None),
    (failing(429, retry_after="soon"), "busy", None),
    (failing(503, retry_after="nan"), "busy", None),
]
OF_OPENAI = [
    (failing(429, code="insufficient_quota"), "auth", None),
    (failing(400, code="context_length_exceeded"), "context", None),
    (failing(400, code="exceed_context_size_error"), "context", None),
    (failing(400, code="content_policy_violation"), "refused", None),
    (Turn(finish="content_filter"), "refused", None),
    (Turn(body=completion({"role": "assistant", "refusal": "No."})), "refused", None),
    (Turn(body={**completion({}), "choices": []}), "invalid", None),
]
OF_ANTHROPIC = [
    (failing(400, "Your credit balance is too low"), "auth", None),
    (failing(400, "prompt is too long: 9 tokens"), "context", None),
    (Turn(finish="refusal"), "refused", None),
    (Turn(finish="model_context_window_exceeded"), "context", None),
    (Turn(body=message([])), "refused", None),
]


async def test_each_fault_has_its_kind(running: Host, server: ModelServer, name: str) -> None:
    """Of an answer, by the real library; nothing is tried again but by the caller."""
    async with running.connect() as client:
        provider = found(client, name)
        for turn, kind, wait in [*FAULTS, *(OF_OPENAI if name == "openai" else OF_ANTHROPIC)]:
            server.script(turn)
            with pytest.raises(ModelError) as raised:
                await provider.generate_text(HELLO)
            assert (raised.value.kind, raised.value.retry_after) == (kind, wait), turn
            assert len(server.asked) == 1, turn
        assert running.status(name)["restarts"] == 0


async def read(stream: AsyncIterator[str]) -> list[str]:
    """Return the pieces of a stream."""
    return [piece async for piece in stream]


BROKEN = [
    (Turn(fault="cut"), "busy"),  # it ends in order, without a finish
    (Turn(fault="dropped"), "busy"),
    (Turn(body=b"<html>Hello</html>", content_type="text/html"), "invalid"),
    (Turn(body={"text": "Hello"}), "invalid"),
    (Turn(body=b"data: \xff\xfe\n\n", content_type="text/event-stream"), "invalid"),
    (failing(429), "busy"),
]
ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


async def test_a_stream_that_breaks_is_an_error(
    running: Host, server: ModelServer, name: str
) -> None:
    """What was sent of it has come; then there is an error, also where nothing says so."""
    async with running.connect() as client:
        provider = found(client, name)
        overloaded = Turn(events=[ERROR] if name == "anthropic" else [{"error": ERROR["error"]}])
        for turn, kind in [*BROKEN, (overloaded, "busy")]:
            server.script(turn)
            with pytest.raises(ModelError) as raised:
                await read(provider.stream_text(HELLO))
            assert raised.value.kind == kind, turn


async def test_a_stream_that_is_left_ends_at_the_server(
    running: Host, server: ModelServer, name: str
) -> None:
    """Otherwise the server generates, and bills, what nobody reads."""
    async with running.connect() as client:
        server.script(Turn(fault="hang"))
        stream = found(client, name).stream_text(HELLO)
        assert await anext(stream) == "Hello "
        await stream.aclose()
        async with asyncio.timeout(30):
            await server.asked[0].gone.wait()


async def test_a_wrong_key_is_shown_and_the_next_provider_answers(
    running: Host, server: ModelServer, name: str
) -> None:
    """The service runs on, with its warning, until an answer comes."""
    async with running.connect() as client:
        asker, provider = found(client, "asker"), found(client, name)
        server.script(failing(401, "Incorrect API key"))
        assert await asker.use_model("TEXT_LARGE", HELLO)  # by eliza

        async def warned() -> Any:
            return "Incorrect API key" in str(running.status(name))

        await eventually(warned)
        row = running.status(name)
        assert (row["state"], row["restarts"]) == ("running", 0)
        server.script()
        assert await provider.generate_text(HELLO)

        async def unwarned() -> Any:
            return not await warned()

        await eventually(unwarned)


async def test_an_unknown_model_is_shown(running: Host, server: ModelServer, name: str) -> None:
    """The request ends, as the caller may have named the model; the operator sees it."""
    async with running.connect() as client:
        provider = found(client, name)
        server.script(failing(404, "The model does not exist"))
        with pytest.raises(ModelError, match="invalid: HTTP 404: The model does not exist"):
            await provider.generate_text(HELLO)

        async def warned() -> Any:
            return "knows no such model" in str(running.status(name)["warnings"])

        await eventually(warned)
        assert await provider.generate_text(HELLO)


async def test_killed_while_it_is_asked_the_next_provider_answers(
    running: Host, server: ModelServer, name: str
) -> None:
    """The conversation goes on; then the killed one is asked again."""
    async with running.connect() as client:
        running.ask("restart", "asker")  # it passes over nothing
        server.script(Turn(fault="hang"))
        answer = asyncio.ensure_future(found(client, "asker").use_model("TEXT_LARGE", HELLO))

        async def asked() -> bool:
            return len(server.asked) == 1

        await eventually(asked)
        pid = running.kill(name)
        assert await answer  # by eliza, which runs
        running.until_reborn(name, pid)
        assert await found(client, "asker").use_model("TEXT_LARGE", HELLO) == "Hello there friend"


async def test_killed_in_the_middle_of_a_stream_the_next_provider_goes_on(
    running: Host, server: ModelServer, name: str
) -> None:
    """The one who reads it has an error; a further request is answered meanwhile."""
    async with running.connect() as client:
        asker = found(client, "asker")
        running.ask("restart", "asker")  # it passes over nothing
        server.script(Turn(fault="hang"))
        stream = asker.use_model_stream("TEXT_LARGE", HELLO)
        assert await anext(stream) == "Hello "
        pid = running.kill(name)
        with pytest.raises(RemoteError, match="lost"):
            await read(stream)
        server.script(failing(500), failing(500))
        assert await asker.use_model("TEXT_LARGE", HELLO)  # by either; there is an answer
        running.until_reborn(name, pid)
        server.script()
        running.ask("restart", "asker")
        assert await asker.use_model("TEXT_LARGE", HELLO, name) == "Hello there friend"
