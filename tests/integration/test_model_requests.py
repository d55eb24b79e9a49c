"""The service openai in the test's own process: limits, media, and what comes too late.

Another service of these has the same parts.
"""

import asyncio
import importlib
import importlib.util
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from tests.support.counterparts import openai as llmock
from tests.support.model_server import ModelServer, Turn, completion, failing, message
from tests.support.waiting import eventually

from garrison.ipc import ModelError, PermanentFailure
from garrison.workers import (
    EmbedParams,
    Generated,
    GenerateObjectParams,
    GenerateTextParams,
    ModelTrace,
    ModelUnavailable,
    ToolCall,
    load_library,
)
from garrison.workers.services.anthropic import AnthropicService
from garrison.workers.services.model_support import bounds, key_check
from garrison.workers.services.model_support.ledger import Ledger, Spent
from garrison.workers.services.openai import OpenAIService
from garrison.workers.testing import run

HELLO = GenerateTextParams("Hello", max_tokens=3)
KEY = {"OPENAI_API_KEY": "sk-test"}


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """Return a server with OpenAI's API."""
    async with ModelServer() as there:
        yield there


async def refused(service: OpenAIService) -> ModelError:
    """Return the error of a request."""
    with pytest.raises(ModelError) as raised:
        await service.generate_text(HELLO)
    return raised.value


async def test_vectors_images_and_sound(server: ModelServer) -> None:
    """Each by its own path; vectors are in the order of their texts."""
    config = {"base_url": f"{server.url}/v1"}
    async with run(OpenAIService, config=config, settings=KEY) as service:
        assert await service.embed_many(["a", "bcd"]) == [[1.0, 1.0], [3.0, 1.0]]
        assert await service.embed(EmbedParams("ab", "other")) == [2.0, 1.0]
        assert server.body["model"] == "other"
        assert await service.embed_many([]) == []

        use = service.runtime.use_model
        assert await use("IMAGE", "a cat") == [{"url": "data:image/png;base64,aGk="}]
        server.script(Turn("Good day."))
        assert await use("TRANSCRIPTION", b"sound") == "Good day."
        assert "whisper-1" in server.body["form"]
        server.script(Turn(body=b"\x00mp3", content_type="audio/mpeg"))
        assert await use("TEXT_TO_SPEECH", {"text": "hi", "voice": "ash"}) == b"\x00mp3"
        assert (server.body["input"], server.body["voice"]) == ("hi", "ash")
        server.script(Turn('{"title": "Cat", "description": "A cat."}'))
        found = await use("IMAGE_DESCRIPTION", "http://127.0.0.1/cat.png")
        assert found == {"title": "Cat", "description": "A cat."}
        assert server.body["messages"][0]["content"][1]["type"] == "image_url"


class Mood(msgspec.Struct):
    """What a model is to fill in."""

    word: Literal["good", "bad"]


async def test_an_object_is_of_the_type_that_was_asked_for(server: ModelServer) -> None:
    """Its tokens are counted for the request; another object is the provider's refusal."""
    async with run(OpenAIService, config={"base_url": f"{server.url}/v1"}) as service:
        server.script(Turn('{"word": "good"}'), Turn('{"word": "odd"}'))
        asked = {"prompt": "How are you?", "schema": Mood}
        with ModelTrace() as trace:
            assert await service.runtime.use_model("OBJECT_SMALL", asked) == Mood("good")
        assert (trace.service, trace.tokens) == ("openai", {"input": 7, "cached": 2, "output": 3})
        assert server.body["response_format"]["json_schema"]["schema"]["required"] == ["word"]
        with pytest.raises(ModelUnavailable, match="openai: refused: its object does not fit"):
            await service.runtime.use_model("OBJECT_SMALL", asked)


async def test_half_an_object_is_refused(server: ModelServer) -> None:
    """As where it was cut at `max_tokens`."""
    async with run(OpenAIService, config={"base_url": f"{server.url}/v1"}) as service:
        server.script(Turn('{"word": "go', finish="length"))
        with pytest.raises(ModelError, match="refused: it wrote no JSON"):
            await service.generate_object(GenerateObjectParams("x", schema={"type": "object"}))


async def test_what_takes_too_long_is_busy(server: ModelServer) -> None:
    """A whole answer, and the next piece of a stream."""
    config = {"base_url": f"{server.url}/v1", "timeout": 0.2}
    async with run(OpenAIService, config=config) as service:
        server.script(Turn(fault="hang"), Turn(fault="hang"))
        assert (await refused(service)).kind == "busy"
        stream = service.stream_text(HELLO)
        pieces = [await anext(stream) for _ in range(3)]
        assert pieces == ["Hello ", "there ", "friend "]
        with pytest.raises(ModelError, match="busy"):
            await anext(stream)


async def test_an_answer_that_trickles_ends_with_the_timeout(server: ModelServer) -> None:
    """Though each byte comes in time; the error names the server."""
    config = {"base_url": f"{server.url}/v1", "timeout": 0.2}
    async with run(OpenAIService, config=config) as service:
        server.script(Turn(fault="trickle"))
        error = await refused(service)
        assert error.kind == "busy"
        assert f"server is {server.url[7:]}: its answer was not whole after 0.2 s" in error.reason


async def test_an_answer_without_end_is_not_kept(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer has a most, and so has a line of a stream."""
    monkeypatch.setattr(bounds, "ANSWER_MOST", 5000)
    monkeypatch.setattr(bounds, "LINE_MOST", 500)
    async with run(OpenAIService, config={"base_url": f"{server.url}/v1"}) as service:
        server.script(
            Turn("x" * 6000),
            Turn(body=b"x" * 600, content_type="text/event-stream"),
            Turn("fits " * 20),
        )
        assert "too large" in (await refused(service)).reason
        with pytest.raises(ModelError, match=r"busy: .*too large"):
            await anext(service.stream_text(HELLO))
        assert len([piece async for piece in service.stream_text(HELLO)]) == 20


async def test_a_server_that_cannot_be_reached_is_named() -> None:
    """With the reason; a password in its address is not."""
    config = {"base_url": "http://me:hunter2@127.0.0.1:1/v1"}
    async with run(OpenAIService, config=config) as service:
        error = await refused(service)
        assert (error.kind, "Its server is 127.0.0.1:1: " in error.reason) == ("busy", True)
        assert "hunter2" not in error.reason


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "ftp://x/", "http://[::1/", "http://a:99999", "http:"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """By `garrison check`, and before anything is requested."""
    with pytest.raises(ValueError, match="base_url is no address"):
        OpenAIService.Config(base_url=url)
    assert OpenAIService.Config(base_url="https://models.example:8443/v1").base_url


async def test_tokens_that_are_no_numbers_are_not_counted(server: ModelServer) -> None:
    """The answer is used."""
    usage = {"prompt_tokens": "many", "completion_tokens": None, "prompt_tokens_details": 5}
    async with run(OpenAIService, config={"base_url": f"{server.url}/v1"}) as service:
        server.script(Turn(body={**completion({"content": "Hi"}), "usage": usage}))
        assert await service.generate_text(HELLO) == "Hi"
        server.script(Turn(body=completion({"content": ["Hi"]})))
        assert (await refused(service)).kind == "invalid"


async def test_requests_beyond_a_limit_are_not_sent(server: ModelServer) -> None:
    """The error says when; failures count as requests."""
    config = {"base_url": f"{server.url}/v1", "rpm": 2}
    async with run(OpenAIService, config=config) as service:
        server.script(failing(500))
        await refused(service)
        await service.generate_text(HELLO)
        error = await refused(service)
        assert (error.kind, error.reason) == ("busy", "rpm of openai is used up")
        assert error.retry_after is not None
        assert 5 < error.retry_after <= 30
        assert len(server.asked) == 2


async def test_a_budget_ends_and_outlives_the_service(server: ModelServer) -> None:
    """It is what the server says that was used."""
    config = {"base_url": f"{server.url}/v1", "budget_per_day": 25}
    async with run(OpenAIService, config=config) as service:
        for _ in range(3):
            await service.generate_text(HELLO)  # 10 tokens each
        error = await refused(service)
        assert error.reason == "budget_per_day of openai is used up"
        assert error.retry_after is not None
        assert 0 < error.retry_after <= 86_400
        again = await OpenAIService.start(service.runtime)
        assert (await refused(again)).reason == error.reason
        await again.stop()
        assert len(server.asked) == 3


async def test_what_requests_cost_is_counted_and_limited(server: ModelServer) -> None:
    """By the config's prices; a model without one is named, and a restart renews nothing."""
    prices = {"gpt-4.1": {"input": 100_000, "cached": 50_000, "output": 200_000}}
    config = {"base_url": f"{server.url}/v1", "prices": prices, "budget_cost_per_day": 2.0}
    async with run(OpenAIService, config=config) as service:
        with ModelTrace() as trace:
            await service.runtime.use_model("TEXT_LARGE", "Hello")
        assert trace.cost == pytest.approx(1.2)  # 5 tokens at 0.1, 2 of the cache, 3 to write
        with ModelTrace() as trace:
            await service.runtime.use_model("TEXT_SMALL", "Hello")
        assert (trace.cost, trace.tokens["input"]) == (None, 7)
        await service.runtime.use_model("TEXT_LARGE", "Hello")
        error = await refused(service)
        assert error.reason == "budget_cost_per_day of openai is used up"
        reports = service.runtime._reports
        facts = reports.facts
        assert (facts["cost"], facts["unpriced"], facts["cost_left"]) == (2.4, 1.0, 0.0)
        assert "budget_cost_per_day does not count gpt-4.1-mini" in str(reports.warnings)
        again = await OpenAIService.start(service.runtime)
        assert (await refused(again)).reason == error.reason
        await again.stop()


async def test_a_request_waits_for_its_turn(server: ModelServer) -> None:
    """A place is free as soon as its caller has left."""
    config = {"base_url": f"{server.url}/v1", "concurrency": 1}
    async with run(OpenAIService, config=config) as service:
        server.script(Turn(fault="hang"))
        first = asyncio.create_task(service.generate_text(HELLO))

        async def asked() -> bool:
            return len(server.asked) == 1

        await eventually(asked)
        second = asyncio.create_task(service.generate_text(HELLO))
        await asyncio.sleep(0)  # it has begun to wait
        assert not second.done()
        first.cancel()
        assert await second == "Hello there friend"
        await asyncio.gather(first, return_exceptions=True)


async def test_without_a_key_it_does_not_start() -> None:
    """Where nothing else answers: the reason says what to set, and where a key is to be had."""
    with pytest.raises(PermanentFailure, match=r"no OPENAI_API_KEY: .* at https://platform\.open"):
        async with run(OpenAIService):
            pass


async def test_without_a_key_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another one answers, it runs on, and each request is `auth`."""
    monkeypatch.setattr(key_check, "answers_elsewhere", lambda name, entries: True)
    async with run(OpenAIService) as service:
        error = await refused(service)
        assert (error.kind, error.reason[:29]) == ("auth", "there is no OPENAI_API_KEY: s")
        with pytest.raises(ModelError, match="auth"):
            await anext(service.stream_text(HELLO))


async def until_refused(server: ModelServer, config: dict[str, Any], request: bool) -> None:
    """Run the service until its key is refused; the end of the block raises why it ended."""
    async with run(OpenAIService, config=config, settings=KEY) as service:
        if request:
            assert (await refused(service)).kind == "auth"
        reports = service.runtime._reports

        async def checked() -> bool:
            return "its key is refused" in reports.warnings.get("key", "")

        await eventually(checked)


async def test_a_refused_key_ends_the_service_where_nothing_else_answers(
    server: ModelServer,
) -> None:
    """Once the server has refused it twice; before, it is `auth`."""
    server.script(failing(401, "Incorrect key"), failing(401, "Incorrect key"))
    with pytest.raises(PermanentFailure, match=r"is refused: HTTP 401: Incorrect key\. Correct"):
        await until_refused(server, {"base_url": f"{server.url}/v1"}, request=True)
    assert [one.path for one in server.asked] == ["/v1/chat/completions", "/v1/models"]


async def test_a_key_that_was_refused_once_goes_on(server: ModelServer) -> None:
    """Its server accepts it when asked again, as after a failure of its own."""
    async with run(OpenAIService, config={"base_url": f"{server.url}/v1"}) as service:
        server.script(failing(401))
        assert (await refused(service)).kind == "auth"
        assert await service.generate_text(HELLO)


async def test_a_key_is_checked_at_the_start_where_that_is_wanted(server: ModelServer) -> None:
    """A server that does not answer shows nothing about it."""
    config = {"base_url": f"{server.url}/v1", "check_key": True}
    server.script(failing(500))
    async with run(OpenAIService, config=config) as service:

        async def asked() -> bool:
            return len(server.asked) == 1

        await eventually(asked)
        assert await service.generate_text(HELLO)
    server.script(failing(403, "no"))
    with pytest.raises(PermanentFailure, match="its key is refused"):
        await until_refused(server, config, request=False)


def test_a_missing_library_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that lacks one of its own is another error."""
    with pytest.raises(PermanentFailure, match=r"bin/python\S* -m pip install 'garrisonless>=2'"):
        load_library("garrisonless", "garrisonless>=2")

    def lacking(name: str) -> None:
        raise ModuleNotFoundError("No module named 'inner'", name="inner")

    monkeypatch.setattr(importlib, "import_module", lacking)
    with pytest.raises(ModuleNotFoundError, match="inner"):
        load_library("garrisonless", "garrisonless>=2")


def test_a_damaged_ledger_counts_from_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And says so; a folder that is gone is no reason to fail a request."""
    ledger = Ledger(tmp_path / "spent.json")
    assert ledger.read() == Spent(0, 0)
    ledger.write(Spent(7, 12))
    assert ledger.read() == Spent(7, 12)
    with caplog.at_level(logging.WARNING):
        (tmp_path / "spent.json").write_text("{")
        assert ledger.read() == Spent(0, 0)
        Ledger(tmp_path / "none" / "spent.json").write(Spent(7, 12))
    assert [record.message.split(" ")[0] for record in caplog.records] == ["the", "what"]


@pytest.mark.external
async def test_another_server_of_openais_api() -> None:
    """llmock: texts, streams, vectors, failures."""
    with llmock() as server:
        async with run(OpenAIService, config={"base_url": server.url}) as service:
            server.script({"type": "reply", "text": "Good day."})
            assert await service.generate_text(HELLO) == "Good day."
            server.script({"type": "reply", "text": "One two three"})
            pieces = [piece async for piece in service.stream_text(HELLO)]
            assert "".join(pieces) == "One two three"
            assert len(await service.embed(EmbedParams("x"))) == 1536
            server.script({"type": "fail", "status": 429, "retry_after": 3})
            error = await refused(service)
            assert (error.kind, error.retry_after) == ("busy", 3.0)


TOOLS = {"prompt": "Roll", "tools": [{"name": "roll", "parameters": {"type": "object"}}]}
CALLED = Generated("Let me see", [ToolCall("t1", "roll", {"sides": 6})], "tool_calls")


def of_openai() -> list[Any]:
    """Return a stream's events: a text, and a call in two pieces."""
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    first = {"index": 0, "id": "t1", "type": "function"}
    return [
        chunk(content="Let me "),
        chunk(content="see"),
        chunk(tool_calls=[{**first, "function": {"name": "roll", "arguments": '{"sid'}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": 'es": 6}'}}]),
        chunk("tool_calls"),
        "[DONE]",
    ]


def of_anthropic() -> list[Any]:
    """Return the same as Anthropic's server sends it."""
    block = {"type": "tool_use", "id": "t1", "name": "roll", "input": {}}
    begin, delta = {"type": "content_block_start"}, {"type": "content_block_delta"}
    stop = {"stop_reason": "tool_use", "stop_sequence": None}
    return [
        {"type": "message_start", "message": message([], None)},
        {**begin, "index": 0, "content_block": {"type": "text", "text": ""}},
        {**delta, "index": 0, "delta": {"type": "text_delta", "text": "Let me "}},
        {**delta, "index": 0, "delta": {"type": "text_delta", "text": "see"}},
        {"type": "content_block_stop", "index": 0},
        {**begin, "index": 1, "content_block": block},
        {**delta, "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"sid'}},
        {**delta, "index": 1, "delta": {"type": "input_json_delta", "partial_json": 'es": 6}'}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]


async def streams(service: Any, server: ModelServer, events: list[Any]) -> None:
    """Stream an answer with a call; then one that breaks, and one of which nothing has come."""
    runtime = service.runtime
    server.script(Turn(events=events))
    pieces = [one async for one in runtime.stream_with_tools("TEXT_LARGE", TOOLS)]
    assert pieces == ["Let me ", "see", CALLED]
    assert server.body["tools"]
    server.script(Turn(events=events[:4], fault="dropped"))
    with pytest.raises(ModelError, match="busy"):
        _ = [one async for one in runtime.stream_with_tools("TEXT_LARGE", TOOLS)]
    with pytest.raises(TypeError, match="use stream_with_tools"):
        _ = [one async for one in runtime.use_model_stream("TEXT_LARGE", TOOLS)]


async def test_a_stream_with_tools_ends_with_the_whole(server: ModelServer) -> None:
    """Its calls are put together; half of it is an error."""
    config = {"base_url": f"{server.url}/v1"}
    async with run(OpenAIService, config=config, settings=KEY) as service:
        await streams(service, server, of_openai())
        vectors = await service.runtime.use_model("TEXT_EMBEDDING", ["a", "bcd"])
        assert vectors == [[1.0, 1.0], [3.0, 1.0]]
        assert server.body["input"] == ["a", "bcd"]
        assert await service.runtime.use_model("TEXT_EMBEDDING", []) == []


@pytest.mark.external
@pytest.mark.skipif(
    importlib.util.find_spec("anthropic") is None,
    reason="the library anthropic is not installed: pip install '.[external]'",
)
async def test_a_stream_of_anthropics_likewise(server: ModelServer) -> None:
    """By its own library."""
    async with run(AnthropicService, config={"base_url": server.url}) as service:
        await streams(service, server, of_anthropic())
