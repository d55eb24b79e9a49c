"""A model whose answers name the question, and actions that leave a line in a file.

A question is `q17 short`, `q17 long`, `q17 deed` or `q17 safe`; see `tests/support/answer_counts`.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

from garrison.workers import (
    Action,
    GenerateTextParams,
    Memory,
    ModelProvider,
    Plugin,
    Service,
    idempotent,
)

QUESTION = re.compile(r"(q\d+) (\w+)")
WORDS = "and so on, word by word, until nobody reads it any more"
PIECES = 3  # of a long answer
THINKS_S = 0.003


class Parrot(ModelProvider):
    """Thinks for a moment."""

    service_type = "parrot"

    async def generate_text(self, params: GenerateTextParams) -> str:
        """Answer the last question."""
        await asyncio.sleep(THINKS_S)
        found = QUESTION.search(str(params.as_messages()[-1]["content"]))
        assert found is not None
        word, kind = found.groups()
        if kind != "long":
            return f"[{word}.1/1]"
        return "\n".join(f"[{word}.{n}/{PIECES}] {WORDS}" for n in range(1, PIECES + 1))


class DeedService(Service):
    """Where the actions are run."""

    service_type = "deeds"


class Deed(Action):
    """Does something that must not be done twice, and tells it in two messages."""

    name = "DEED"

    async def validate(self, runtime: object, memory: Memory) -> bool:
        """Accept what asks for it."""
        return f" {self.name.lower()}" in memory.content.text

    async def handler(
        self, runtime: object, memory: Memory, state: object, responses: object
    ) -> AsyncIterator[str]:
        """Write the question's word down."""
        word = memory.content.text.split()[0]
        _note(self.name, word)
        yield f"[{word}.1/2]"
        await asyncio.sleep(THINKS_S)
        yield f"[{word}.2/2]"


class Safe(Deed):
    """Does something that may be done again."""

    name = "SAFE"

    @idempotent
    async def handler(
        self, runtime: object, memory: Memory, state: object, responses: object
    ) -> AsyncIterator[str]:
        """Write the question's word down."""
        word = memory.content.text.split()[0]
        _note(self.name, word)
        await asyncio.sleep(THINKS_S)
        yield f"[{word}.1/1]"


def _note(name: str, word: str) -> None:
    path = Path(os.environ["DEEDS"]) / name
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, f"{word}\n".encode())
    os.close(file)


plugin = Plugin("parrot", services=[Parrot])
deeds = Plugin("deeds", services=[DeedService], actions=[Deed(), Safe()])
