"""Actions for commands and buttons: each writes marks, see `tests/support/answer_counts`."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from garrison.workers import Action, Content, Memory, Plugin, Runtime, State, idempotent


class Told(msgspec.Struct):
    """What `TELL` is given."""

    word: str
    Pieces: int = 1
    loud: bool = False


@idempotent
async def tell(
    runtime: Runtime, memory: Memory, state: State, responses: list[Memory], options: Told | None
) -> AsyncIterator[str]:
    """Answer in so many messages."""
    assert options is not None
    for number in range(1, options.Pieces + 1):
        mark = f"[{options.word.split()[0]}.{number}/{options.Pieces}]"
        yield f"{mark} LOUD" if options.loud else mark


@idempotent
async def ask(runtime: Runtime, memory: Memory) -> AsyncIterator[Any]:
    """Offer the two questions that were named as choices: `q1 q2 short q3 short`."""
    word, *rest = memory.content.text.split()
    values = [" ".join(rest[at : at + 2]) for at in range(0, len(rest), 2)]
    choices = [{"label": f"Choice {number}", "value": one} for number, one in enumerate(values, 1)]
    yield Content(f"[{word}.1/1]", data={"choices": choices})


async def keep_quiet(runtime: Runtime, memory: Memory) -> None:
    """Say nothing."""


async def recite(runtime: Runtime, memory: Memory) -> str:
    """Answer at length, with a code block."""
    lines = "\n".join(f"line {number}: print({number})" for number in range(220))
    return f"Here it is:\n```python\n{lines}\n```\nThat was all."


def is_command(runtime: Runtime, memory: Memory) -> bool:
    """Accept commands alone."""
    return bool(memory.metadata.get("command"))


plugin = Plugin(
    "asking",
    actions=[
        Action("TELL", "Tells a word", handler=tell, validate=is_command, parameters=Told),
        Action("ASK_THEM", "Asks in turn", handler=ask, validate=is_command),
        Action("KEEP_QUIET", "Says nothing", handler=keep_quiet, validate=is_command),
        Action("RECITE", "Recites", handler=recite, validate=is_command),
    ],
)
