"""A model and actions whose answers are marked as the fake platform's counts want them.

The first word of a message is its question's. `hold` in it makes the model or the action wait for
`release`; what was begun is a line of the file DEEDS.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from garrison.workers import (
    Action,
    GenerateTextParams,
    Memory,
    ModelError,
    ModelProvider,
    Plugin,
    idempotent,
)

GATE = asyncio.Event()


class MarkerService(ModelProvider):
    """Answers `q1 hello` with `[q1.1/1]`."""

    service_type = "marker"

    async def generate_text(self, params: GenerateTextParams) -> str:
        """Return the mark of the last message's question."""
        text = params.as_messages()[-1]["content"]
        note(f"model {text}")
        if "fail" in text:
            raise ModelError("invalid", text="no")
        await held(text)
        return f"[{text.partition(' ')[0]}.1/1]"

    @idempotent
    async def release(self) -> None:
        """Let everything go on, from now on."""
        GATE.set()

    @idempotent
    async def hold(self) -> None:
        """Let what has `hold` wait again."""
        GATE.clear()


async def held(text: str) -> None:
    """Wait, if the text says so."""
    if "hold" in text:
        await GATE.wait()


def note(line: str) -> None:
    """Add a line to the file."""
    with Path(os.environ["DEEDS"]).open("a") as out:
        out.write(f"{line}\n")


async def act(memory: Memory, name: str) -> AsyncIterator[str]:
    """Do something, and say two parts, the second when it is released."""
    text = memory.content.text
    question = text.partition(" ")[0]
    note(f"{name} {text}")
    yield f"[{question}.1/2]"
    await held(text)
    yield f"[{question}.2/2]"


async def once(runtime: Any, memory: Memory) -> AsyncIterator[str]:
    """Do what may not be done twice."""
    async for one in act(memory, "once"):
        yield one


@idempotent
async def again(runtime: Any, memory: Memory) -> AsyncIterator[str]:
    """Do what may be done twice."""
    async for one in act(memory, "again"):
        yield one


plugin = Plugin(
    name="marker",
    services=[MarkerService],
    actions=[
        Action("ONCE", handler=once, validate=lambda _, memory: "once" in memory.content.text),
        Action("AGAIN", handler=again, validate=lambda _, memory: "again" in memory.content.text),
    ],
)
