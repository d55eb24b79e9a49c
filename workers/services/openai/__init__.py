"""The openai service: models of OpenAI, or of a server with its API, by OpenAI's own library."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, ClassVar, Self

from garrison.workers import (
    EmbedParams,
    Generated,
    GenerateObjectParams,
    GenerateTextParams,
    ModelType,
    Plugin,
    Runtime,
    idempotent,
    load_library,
)

from ..model_support.config import Limits
from ..model_support.failures import OPENAI
from ..model_support.key_check import KeyCheck
from ..model_support.limiter import estimate
from ..model_support.media_requests import describe_request, sound_of, speech_of
from ..model_support.media_server import MediaServer
from ..model_support.provider import CountedProvider
from ..model_support.requests import Requests
from ..model_support.schemas import object_of
from ..model_support.server_client import (
    OPENAI_VENDOR,
    ServerClient,
    check_stream,
    check_url,
    chosen_model,
)
from ..model_support.sound_fetch import SoundFetch
from ..model_support.tools import StreamedCalls
from .messages import (
    add_calls,
    batches,
    characters,
    chat_request,
    check_finish,
    first_choice,
    generated_of,
    note_usage,
    object_request,
    text_of,
    tools_request,
    vectors_of,
)

REQUIREMENT = "openai>=3.57"
WRITES = 1024  # tokens that a request without max_tokens is taken to write, for `tpm`
TEXTS_MOST = 256  # texts of one request for embeddings
TEXT_MOST = 100_000  # characters of a text to speak; the server has its own limit


class OpenAIService(CountedProvider):
    """Text, objects, embeddings, images, speech and transcription by OpenAI's API."""

    service_type = "openai"
    capability_description = "Models of OpenAI, or of a server with its API"
    secrets = {OPENAI_VENDOR.key_name: OPENAI_VENDOR.keys_url}
    priority: ClassVar[int] = 10

    class Config(Limits):
        """`[services.openai.config]`."""

        base_url: str = ""  # of a server with OpenAI's API; empty is OpenAI's own
        model: str = "gpt-4.1"  # for TEXT_LARGE and OBJECT_LARGE
        small_model: str = "gpt-4.1-mini"  # for TEXT_SMALL and OBJECT_SMALL; empty is `model`
        embedding_model: str = "text-embedding-3-small"
        image_model: str = "gpt-image-1"  # for IMAGE
        speech_model: str = "gpt-4o-mini-tts"  # for TEXT_TO_SPEECH
        voice: str = "alloy"
        transcription_model: str = "whisper-1"  # for TRANSCRIPTION

        def __post_init__(self) -> None:
            check_url(self.base_url)

    config: Config
    _client: ServerClient
    _requests: Requests
    _media: MediaServer
    _sounds: SoundFetch

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        config = service.config
        library = load_library("openai", REQUIREMENT)
        service._requests = Requests(runtime, config, OPENAI)
        service._client = ServerClient(
            runtime,
            config,
            library.AsyncOpenAI,
            library.DefaultAsyncHttpxClient,
            OPENAI_VENDOR,
        )
        service._sounds = SoundFetch()
        service._media = MediaServer(service._client, service._requests)
        key_check = KeyCheck(runtime, service._client, OPENAI)
        service._requests.advice = service._client.advice
        service._requests.on_refused_key = key_check.refused
        key_check.at_start(config.check_key)
        service._register()
        return service

    def _register(self) -> None:
        """Offer what has a model in the config; a server of one's own may have fewer."""
        config, add = self.config, self.runtime.register_model
        offers = [
            (ModelType.IMAGE_DESCRIPTION, config.model, self.describe_image),
            (ModelType.IMAGE, config.image_model, self.generate_image),
            (ModelType.TEXT_TO_SPEECH, config.speech_model, self.speak),
            (ModelType.TRANSCRIPTION, config.transcription_model, self.transcribe),
        ]
        for model_type, model, method in offers:
            if model:
                add(model_type, _handler(method), priority=self.priority)

    async def forget_person(self, source: str, person: str) -> dict[str, int]:
        """Count a person's requests with no one's; return how many rows that changed."""
        return {"usage": self._requests.forget_person(source, person)}

    async def stop(self) -> None:
        """Close its connections."""
        await self._client.close()
        await self._sounds.close()

    # --- text -------------------------------------------------------------------------------

    @idempotent
    async def generate_text(self, params: GenerateTextParams) -> str:
        """Return the answer to a conversation."""
        request = chat_request(params, chosen_model(self.config, params), self._max_tokens_key)
        async with self._requests.request(self._estimate(params), request["model"]) as used:
            return text_of(await self._client.get().chat.completions.create(**request), used)

    async def stream_text(self, params: GenerateTextParams) -> AsyncIterator[str]:
        """Yield the answer in the pieces that the server sends."""
        request = chat_request(params, chosen_model(self.config, params), self._max_tokens_key)
        async with aclosing(self._stream(params, request, StreamedCalls())) as pieces:
            async for piece in pieces:
                yield piece

    async def stream_with_tools(self, params: GenerateTextParams) -> AsyncIterator[str | Generated]:
        """Yield the answer in the pieces that the server sends, and last the whole."""
        request = tools_request(params, chosen_model(self.config, params), self._max_tokens_key)
        calls, texts = StreamedCalls(), list[str]()
        async with aclosing(self._stream(params, request, calls)) as pieces:
            async for piece in pieces:
                texts.append(piece)
                yield piece
        yield calls.generated("".join(texts), params.tools)

    async def _stream(
        self, params: GenerateTextParams, request: dict[str, Any], calls: StreamedCalls
    ) -> AsyncGenerator[str, None]:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        async with self._requests.request(self._estimate(params), request["model"]) as used:
            stream = await self._client.get().chat.completions.create(**request, **options)
            refusal = ""
            async with stream:  # leaving it ends the generation
                check_stream(stream)
                async for chunk in stream:
                    note_usage(chunk, used)
                    choice = first_choice(chunk)
                    if choice is None:
                        continue
                    used.finish = choice.finish_reason or used.finish
                    refusal += getattr(choice.delta, "refusal", None) or ""
                    add_calls(choice.delta, calls)
                    if choice.delta.content:
                        yield choice.delta.content
            check_finish(used.finish, refusal)
            calls.finish = used.finish

    @idempotent
    async def generate_with_tools(self, params: GenerateTextParams) -> Generated:
        """Return the text and the calls of tools that answer a conversation."""
        request = tools_request(params, chosen_model(self.config, params), self._max_tokens_key)
        async with self._requests.request(self._estimate(params), request["model"]) as used:
            answer = await self._client.get().chat.completions.create(**request)
            return generated_of(answer, params, used)

    @idempotent
    async def generate_object(self, params: GenerateObjectParams) -> Any:
        """Return an object that follows `params.schema`."""
        request = object_request(params, chosen_model(self.config, params), self._max_tokens_key)
        async with self._requests.request(self._estimate(params), request["model"]) as used:
            text = text_of(await self._client.get().chat.completions.create(**request), used)
            return object_of(text, params.schema)

    # --- embeddings -------------------------------------------------------------------------

    @idempotent
    async def embed(self, params: EmbedParams) -> list[float]:
        """Return the vector of a text."""
        (vector,) = await self.embed_many([params.text], params.model)
        return vector

    @idempotent
    async def embed_many(self, texts: list[str], model: str | None = None) -> list[list[float]]:
        """Return the vectors of texts, in their order."""
        vectors: list[list[float]] = []
        name = model or self.config.embedding_model
        for batch in batches(texts, TEXTS_MOST):
            async with self._requests.request(estimate(sum(map(len, batch)), 0), name) as used:
                answer = await self._client.get().embeddings.create(model=name, input=batch)
                vectors += vectors_of(answer, len(batch), used)
        return vectors

    # --- images and sound, as the plugin's `models` ------------------------------------------

    async def describe_image(self, params: Any) -> dict[str, str]:
        """Return the title and the description of an image; see `describe_request`."""
        found = await self.generate_object(describe_request(params))
        return {"title": str(found["title"]), "description": str(found["description"])}

    async def generate_image(self, params: Any) -> list[dict[str, str]]:
        """Return images, each as `url`; see `image_request`."""
        return await self._media.images(params, self.config.image_model)

    async def speak(self, params: Any) -> bytes:
        """Return a text as sound, an MP3 by default; see `speech_of`."""
        speech = speech_of(params, TEXT_MOST)
        return await self._media.speech(speech, self.config.speech_model, self.config.voice)

    async def transcribe(self, params: Any) -> str:
        """Return the spoken text of a sound; see `sound_of`."""
        sound = await self._sounds.with_data(sound_of(params))
        return await self._media.transcript(sound, self.config.transcription_model)

    # --- parts of these -----------------------------------------------------------------------

    @property
    def _max_tokens_key(self) -> str:
        """Return OpenAI's present name, or the one that other servers know."""
        return "max_tokens" if self.config.base_url else "max_completion_tokens"

    def _estimate(self, params: GenerateTextParams) -> int:
        return estimate(characters(params), params.max_tokens or WRITES)


def _handler(method: Callable[[Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return a method as the handler of a model."""
    return lambda runtime, params: method(params)


plugin = Plugin(
    name="openai",
    services=[OpenAIService],
    preload=["garrison.workers.services.openai", "garrison.workers.services.openai.warm"],
)
