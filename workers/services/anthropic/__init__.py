"""The anthropic service: Anthropic's models, by Anthropic's own library."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, ClassVar, Self

from garrison.workers import (
    Generated,
    GenerateObjectParams,
    GenerateTextParams,
    Plugin,
    Runtime,
    idempotent,
    load_library,
)

from ..model_support.config import Limits, Positive
from ..model_support.failures import ANTHROPIC
from ..model_support.key_check import KeyCheck
from ..model_support.limiter import estimate
from ..model_support.provider import CountedProvider
from ..model_support.requests import Requests
from ..model_support.server_client import (
    ServerClient,
    Vendor,
    check_stream,
    check_url,
    chosen_model,
)
from ..model_support.tools import StreamedCalls, tool_characters
from .messages import (
    add_call,
    check_stop,
    generated_of,
    is_continued,
    message_request,
    note_usage,
    object_of,
    object_request,
    text_of,
    tools_request,
)

REQUIREMENT = "anthropic>=2.14"
VENDOR = Vendor(
    "ANTHROPIC_API_KEY", "https://api.anthropic.com", "https://console.anthropic.com/settings/keys"
)


class AnthropicService(CountedProvider):
    """Text and objects by Anthropic's API, from texts and images."""

    service_type = "anthropic"
    capability_description = "Models of Anthropic"
    secrets = {VENDOR.key_name: VENDOR.keys_url}
    priority: ClassVar[int] = 10

    class Config(Limits):
        """`[services.anthropic.config]`."""

        base_url: str = ""  # of a server with Anthropic's API; empty is Anthropic's own
        model: str = "claude-sonnet-4-6"  # for TEXT_LARGE and OBJECT_LARGE
        small_model: str = "claude-haiku-4-5"  # for TEXT_SMALL, OBJECT_SMALL; empty is `model`
        max_tokens: Positive = 4096  # tokens of an answer, where a request sets no number
        prompt_cache: bool = True  # the server keeps what the next request begins with

        def __post_init__(self) -> None:
            check_url(self.base_url)

    config: Config
    _client: ServerClient
    _requests: Requests

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        config = service.config
        library = load_library("anthropic", REQUIREMENT)
        service._requests = Requests(runtime, config, ANTHROPIC)
        service._client = ServerClient(
            runtime,
            config,
            library.AsyncAnthropic,
            library.DefaultAsyncHttpxClient,
            VENDOR,
        )
        key_check = KeyCheck(runtime, service._client, ANTHROPIC)
        service._requests.advice = service._client.advice
        service._requests.on_refused_key = key_check.refused
        key_check.at_start(config.check_key)
        return service

    async def forget_person(self, source: str, person: str) -> dict[str, int]:
        """Count a person's requests with no one's; return how many rows that changed."""
        return {"usage": self._requests.forget_person(source, person)}

    async def stop(self) -> None:
        """Close its connections."""
        await self._client.close()

    @idempotent
    async def generate_text(self, params: GenerateTextParams) -> str:
        """Return the answer to a conversation."""
        request = message_request(params, *self._options(params))
        async with self._requests.request(self._estimate(params), request["model"]) as used:
            return text_of(await self._client.get().messages.create(**request), used)

    async def stream_text(self, params: GenerateTextParams) -> AsyncIterator[str]:
        """Yield the answer in the pieces that the server sends."""
        request = message_request(params, *self._options(params))
        async with aclosing(self._stream(params, request, StreamedCalls())) as pieces:
            async for piece in pieces:
                yield piece

    async def stream_with_tools(self, params: GenerateTextParams) -> AsyncIterator[str | Generated]:
        """Yield the answer in the pieces that the server sends, and last the whole."""
        request = tools_request(params, *self._options(params))
        calls, texts = StreamedCalls(), list[str]()
        async with aclosing(self._stream(params, request, calls)) as pieces:
            async for piece in pieces:
                texts.append(piece)
                yield piece
        yield calls.generated("".join(texts), params.tools)

    async def _stream(
        self, params: GenerateTextParams, request: dict[str, Any], calls: StreamedCalls
    ) -> AsyncGenerator[str, None]:
        async with self._requests.request(self._estimate(params), request["model"]) as used:
            stream = await self._client.get().messages.create(**request, stream=True)
            has_content = is_continued(params)
            async with stream:  # leaving it ends the generation
                check_stream(stream)
                async for event in stream:
                    if event.type == "message_start":
                        note_usage(event.message.usage, used)
                    elif event.type == "message_delta":
                        note_usage(event.usage, used)
                        used.finish = event.delta.stop_reason or used.finish
                    elif event.type == "content_block_delta" and event.delta.type == "text_delta":
                        has_content = True
                        yield event.delta.text
                    else:
                        has_content |= add_call(event, calls)
            check_stop(used.finish, has_content)
            calls.finish = used.finish

    @idempotent
    async def generate_with_tools(self, params: GenerateTextParams) -> Generated:
        """Return the text and the calls of tools that answer a conversation."""
        request = tools_request(params, *self._options(params))
        async with self._requests.request(self._estimate(params), request["model"]) as used:
            answer = await self._client.get().messages.create(**request)
            return generated_of(answer, params, used)

    @idempotent
    async def generate_object(self, params: GenerateObjectParams) -> Any:
        """Return an object that follows `params.schema`."""
        request = object_request(params, *self._options(params))
        async with self._requests.request(self._estimate(params), request["model"]) as used:
            answer = await self._client.get().messages.create(**request)
            return object_of(answer, params.schema, used)

    def _options(self, params: GenerateTextParams) -> tuple[str, int, bool]:
        """Return the model, the most tokens to write, and whether the server keeps the prompt."""
        config = self.config
        return chosen_model(config, params), config.max_tokens, config.prompt_cache

    def _estimate(self, params: GenerateTextParams) -> int:
        sent = sum(len(message["content"]) for message in params.as_messages())
        sent += tool_characters(params)
        return estimate(sent, params.max_tokens or self.config.max_tokens)


plugin = Plugin(
    name="anthropic",
    services=[AnthropicService],
    preload=["garrison.workers.services.anthropic", "garrison.workers.services.anthropic.warm"],
)
