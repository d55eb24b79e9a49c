"""Two models: the first fails as its prompt says, the second answers. And a service that asks."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from garrison.ipc import CallError
from garrison.workers import (
    GenerateTextParams,
    ModelError,
    ModelProvider,
    ModelUnavailable,
    Plugin,
    Service,
    idempotent,
)


class Moody(ModelProvider):
    """Fails as the prompt says: `busy 30`, `hang`, `half`; one word for each kind."""

    service_type = "moody"
    priority = 9

    def __init__(self, runtime: object = None) -> None:
        super().__init__(runtime)  # type: ignore[arg-type]
        self.prompts: list[str] = []
        self.left = 0
        self.streams: list[AsyncIterator[str]] = []

    def stream_text(self, params: GenerateTextParams) -> AsyncIterator[str]:
        """Stream, and keep the stream: nothing but its caller closes it."""
        self.streams.append(self._pieces(params))
        return self.streams[-1]

    async def _pieces(self, params: GenerateTextParams) -> AsyncIterator[str]:
        """Yield two pieces; with `half`, one, without a finish."""
        prompt = _last(params)
        self.prompts.append(prompt)
        word, _, seconds = prompt.partition(" ")
        if word == "unknown":
            raise ValueError("a bug")
        if word == "hang":
            await asyncio.Event().wait()
        if word in {"busy", "auth", "refused", "invalid"} or (
            word == "context" and len(prompt) > 100
        ):
            raise ModelError(word, float(seconds) if seconds.isdigit() else None, "as asked")
        try:
            yield "moody: "
            while word == "endless":  # until its reader takes no more
                yield "more "
            if word == "half":
                raise ModelError("busy", 0, "the stream ended before its text did")
            yield prompt
        except GeneratorExit:
            self.left += 1
            raise

    @idempotent
    async def asked(self) -> list[str]:
        """Return the prompts since the last call."""
        prompts, self.prompts = self.prompts, []
        return prompts

    @idempotent
    async def left_streams(self) -> int:
        """Return how many streams were left before their end."""
        return self.left


class Spare(ModelProvider):
    """The next one."""

    service_type = "spare"

    def __init__(self, runtime: object = None) -> None:
        super().__init__(runtime)  # type: ignore[arg-type]
        self.prompts: list[str] = []

    async def generate_text(self, params: GenerateTextParams) -> str:
        """Answer; refuse what is refused by all."""
        self.prompts.append(_last(params))
        if _last(params) == "refused":
            raise ModelError("refused", text="here too")
        return f"spare: {_last(params)}"

    @idempotent
    async def asked(self) -> list[str]:
        """Return all prompts."""
        return self.prompts


class Inquirer(Service):
    """Asks a model; its errors come back as data."""

    service_type = "inquirer"

    async def sees(self, name: str, generation: int) -> bool:
        """Return whether this process knows that incarnation."""
        entry = self.runtime.client.directory.get(name)
        return entry is not None and bool(entry.token) and entry.generation == generation

    async def ask(self, prompt: str, provider: str | None = None, fallback: bool = True) -> Any:
        """Return the answer, or NAME → what its error is."""
        try:
            return await self.runtime.use_model(
                "TEXT_LARGE", prompt, provider, timeout=_timeout(prompt), fallback=fallback
            )
        except ModelUnavailable as error:
            return {name: _shown(one) for name, one in error.errors.items()}

    async def stream(self, prompt: str, most: int = 9) -> list[str]:
        """Return the pieces, at most so many, and how it broke off."""
        pieces: list[str] = []
        stream: Any = self.runtime.use_model_stream("TEXT_LARGE", prompt, timeout=_timeout(prompt))
        try:
            async for piece in stream:
                pieces.append(piece)
                if len(pieces) == most:
                    break
        except CallError as error:
            pieces.append(_shown(error))
        await stream.aclose()
        return pieces


def _timeout(prompt: str) -> float | None:
    """Return a timeout that ends what hangs, and nothing that a busy machine delays."""
    return 1.0 if prompt == "hang" else None


def _last(params: GenerateTextParams) -> str:
    """Return what is to be answered."""
    return params.as_messages()[-1]["content"]


def _shown(error: CallError) -> str:
    kind = f" {error.kind}" if isinstance(error, ModelError) else ""
    return f"{type(error).__name__}{kind}"


plugin = Plugin("moods", services=[Moody, Spare, Inquirer])
