"""The eliza service: a model that needs no library, by Weizenbaum's method and feature hashing.

It keeps nothing that an answer depends on: the lines said so far are gone through again at each
call, so what is answered follows from the messages alone, whichever incarnation is asked.
"""

import re
from collections.abc import AsyncIterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, ClassVar, Self

import msgspec

from garrison.ipc import PermanentFailure
from garrison.workers import (
    EmbedParams,
    GenerateTextParams,
    ModelProvider,
    Plugin,
    Runtime,
    idempotent,
)

from .conversation import Conversation, respond
from .feature_hashing import DIMENSIONS, vector
from .script import Script, ScriptError, parse

LINES = 32  # so many lines of a conversation are gone through, the last ones

_PIECES = re.compile(r"\s*\S+")


class ElizaService(ModelProvider):
    """A patient listener, who also knows which texts are alike."""

    service_type = "eliza"
    capability_description = "Answers by Weizenbaum's method, embeds by feature hashing"
    priority: ClassVar[int] = -100  # whatever else is there is asked first

    class Config(msgspec.Struct):
        """What `[services.eliza.config]` may say."""

        script: str = ""  # path of another script; empty is the bundled one
        dimensions: Annotated[int, msgspec.Meta(ge=1, le=16_384)] = DIMENSIONS  # of embeddings

    config: Config
    script: Script

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service.script = load(service.config.script)
        return service

    @idempotent
    async def generate_text(self, params: GenerateTextParams) -> str:
        """Return the answer to the user's last line, or the greeting where there is none.

        Of the messages, the user's last 32 count; the system's and the assistant's are not read.
        The answer ends before the first of `stop`, and after `max_tokens` words. Nothing else of
        the params is of meaning here: the method has no chance in it.
        """
        lines = [said["content"] for said in params.as_messages() if said["role"] == "user"]
        return ended(answer(self.script, lines), params.stop, params.max_tokens)

    async def stream_text(self, params: GenerateTextParams) -> AsyncIterator[str]:
        """Yield the same, word by word."""
        for piece in _PIECES.findall(await self.generate_text(params)):
            yield piece

    @idempotent
    async def embed(self, params: EmbedParams) -> list[float]:
        """Return a text's vector by feature hashing, of length 1, or zeros for an empty text.

        Texts that share words are near each other; of meaning it knows nothing. The first 10,000
        characters are read.
        """
        return vector(params.text, self.config.dimensions)

    async def stop(self) -> None:
        """Do nothing: no state and no connection is held."""


def answer(script: Script, lines: Sequence[str]) -> str:
    """Return what is said to the last of a conversation's lines, or to nothing yet."""
    said, conversation = script.greeting, Conversation()
    for line in lines[-LINES:]:
        said, conversation = respond(script, line, conversation)
    return said


def ended(text: str, stop: Sequence[str], max_tokens: int | None) -> str:
    """Return a text up to the first of some strings, and at most so many words of it."""
    at = min((text.find(mark) for mark in stop if mark and mark in text), default=len(text))
    text = text[:at].rstrip()
    if max_tokens is None:
        return text
    return "".join(_PIECES.findall(text)[: max(0, max_tokens)])


def load(path: str) -> Script:
    """Return the script in a file, or the bundled one where the path is empty.

    Raises:
        PermanentFailure: no start can succeed until someone mends the file.
    """
    bundled = resources.files("garrison.workers.services.eliza") / "eliza.toml"
    file = Path(path).expanduser() if path else bundled
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ScriptError) as error:
        raise PermanentFailure(f"the script {file} cannot be used: {error}") from error


plugin = Plugin(name="eliza", services=[ElizaService])
