"""Actions with parameters, for a model that calls them. What was begun is a line of the file DEEDS.

A `hold` in the parameters makes an action wait for `release`.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec

from garrison.workers import Action, ActionResult, Memory, Plugin, Service, State, idempotent

GATE = asyncio.Event()


class Dice(msgspec.Struct):
    """What the model fills in."""

    sides: int
    hold: bool = False


class DiceService(Service):
    """Where the actions live."""

    service_type = "dice"

    @idempotent
    async def release(self) -> None:
        """Let everything go on, from now on."""
        GATE.set()


def note(line: str) -> None:
    """Add a line to the file."""
    with Path(os.environ["DEEDS"]).open("a") as out:
        out.write(line)


async def begin(name: str, options: Dice) -> None:
    """Note that an action began; wait if its parameters say so."""
    note(f"{name} {options.sides}\n")
    if options.hold:
        await GATE.wait()


async def roll(
    runtime: Any, memory: Memory, state: State, responses: Any, options: Dice
) -> ActionResult:
    """Do what may not be done twice."""
    await begin("roll", options)
    return ActionResult(text="5")


@idempotent
async def look(runtime: Any, memory: Memory, state: State, responses: Any, options: Dice) -> str:
    """Do what may be done twice; say so."""
    await begin("look", options)
    return f"It has {options.sides} sides."


plugin = Plugin(
    "dice",
    services=[DiceService],
    actions=[
        Action("ROLL", "Rolls", validate=lambda: True, handler=roll, parameters=Dice),
        Action("LOOK", "Looks", validate=lambda: True, handler=look, parameters=Dice),
    ],
)
