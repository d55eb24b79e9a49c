"""The eliza service: a model without libraries, by Weizenbaum's method and feature hashing.

It keeps no state: each call processes the conversation's lines again. So an answer depends on the
messages alone, and a restart does not change it.
"""

import functools
import re
from collections.abc import AsyncIterator, Sequence
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
from .script import Script, ScriptError, parse, parse_values

MAX_LINES = 32  # the last lines of a conversation that are processed

_WORDS = re.compile(r"\s*\S+")


class ElizaService(ModelProvider):
    """The fallback model: answers by keyword rules, embeds by shared words."""

    service_type = "eliza"
    capability_description = (
        "Fallback model: answers by Weizenbaum's method, embeds by feature hashing"
    )
    priority: ClassVar[int] = -100  # any other model is preferred

    class Config(msgspec.Struct):
        """`[services.eliza.config]`."""

        script: str = ""  # path of a script; empty is the bundled one
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
        """Return the answer to the user's last line, or the greeting if there is none.

        The user's last 32 messages are processed; system and assistant messages are ignored.
        The answer ends before the first of `stop`, and after `max_tokens` words. Other params have
        no effect: the method is deterministic.
        """
        messages = params.as_messages()
        lines = [message["content"] for message in messages if message["role"] == "user"]
        return truncate(answer(self.script, lines), params.stop, params.max_tokens)

    async def stream_text(self, params: GenerateTextParams) -> AsyncIterator[str]:
        """Yield the result of `generate_text`, word by word."""
        for word in _WORDS.findall(await self.generate_text(params)):
            yield word

    @idempotent
    async def embed(self, params: EmbedParams) -> list[float]:
        """Return a text's vector by feature hashing: length 1, or zeros for an empty text.

        Texts that share words are near each other; meaning is not considered. Only the first
        10,000 characters are processed.
        """
        return vector(params.text, self.config.dimensions)

    async def stop(self) -> None:
        """Do nothing: there is no state and no connection."""


def answer(script: Script, lines: Sequence[str]) -> str:
    """Return the answer to the last line of a conversation, or the greeting without lines."""
    text, conversation = script.greeting, Conversation()
    for line in lines[-MAX_LINES:]:
        text, conversation = respond(script, line, conversation)
    return text


def truncate(text: str, stop: Sequence[str], max_tokens: int | None) -> str:
    """Return a text up to the first stop string, and at most `max_tokens` words."""
    end = min((text.find(mark) for mark in stop if mark and mark in text), default=len(text))
    text = text[:end].rstrip()
    if max_tokens is None:
        return text
    return "".join(_WORDS.findall(text)[: max(0, max_tokens)])


def load(path: str) -> Script:
    """Return the script of a file, or the bundled one for an empty path.

    Raises:
        PermanentFailure: The file cannot be used; correct it before the next start.
    """
    if not path:
        return bundled()
    file = Path(path).expanduser()
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ScriptError) as error:
        raise PermanentFailure(f"the script {file} cannot be used: {error}") from error


@functools.cache
def bundled() -> Script:
    """Return the bundled script. A worker inherits what its launcher has read.

    `eliza.json` has what `eliza.toml` says: each host reads it at its start, and to read TOML takes
    ten times as long.
    """
    return parse_values(msgspec.json.decode(Path(__file__).with_name("eliza.json").read_bytes()))


plugin = Plugin(
    name="eliza", services=[ElizaService], preload=["garrison.workers.services.eliza.loaded"]
)
