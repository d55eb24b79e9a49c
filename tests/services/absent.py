"""Plugins that do not run, or whose parts never answer, and a platform that keeps what it sends."""

import asyncio
import os
from typing import Self

from garrison.workers import Action, Evaluator, Memory, Plugin, Provider, Runtime, Service


class Crashing(Service):
    """Fails in every start."""

    service_type = "crashing"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        raise RuntimeError("not today")


class Hanging(Service):
    """Never starts."""

    service_type = "hanging"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        await asyncio.Event().wait()
        raise AssertionError


class Weather(Service):
    """Runs, and can be killed."""

    service_type = "weather"

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()


async def never() -> bool:
    """Wait for ever."""
    return await asyncio.Event().wait()


def shout(memory: Memory) -> str:
    """Say it in capitals."""
    return memory.content.text.upper()


def rains(runtime: Runtime, memory: Memory) -> bool:
    """Apply to messages about the weather."""
    return "weather" in memory.content.text


def _with_parts(name: str, service: type[Service]) -> Plugin:
    return Plugin(
        name,
        services=[service],
        actions=[Action(f"{name}-action", validate=lambda: True, handler=lambda: "never said")],
        providers=[Provider(f"{name}-provider", get=lambda: "never told")],
        evaluators=[Evaluator(f"{name}-evaluator", handler=lambda: None, always_run=True)],
    )


crashing = _with_parts("crashing", Crashing)
hanging = _with_parts("hanging", Hanging)
weather = Plugin(
    "weather",
    services=[Weather],
    actions=[Action("FORECAST", validate=rains, handler=lambda: "It rains.")],
)
late = Plugin(
    "late",
    providers=[Provider("LATE", get=never)],
    actions=[Action("LATE", validate=never, handler=lambda: "never said")],
)
