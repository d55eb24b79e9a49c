"""Services that record the steps of their life in a file, and return what they were given.

A sign is a line `NAME what`, in the file of the config's `[plugins.signs.config] file`.
"""

import os
from pathlib import Path
from typing import Any, Self

import msgspec

from garrison.workers import Plugin, Runtime, Service


class Config(msgspec.Struct):
    """The table `[plugins.signs.config]`."""

    file: str = ""


FILE: list[Path] = []


def init(config: Config, runtime: Runtime) -> None:
    """Note where signs go; runs once in each worker's life."""
    if config.file:
        FILE.append(Path(config.file))
    sign(runtime, "init")


def sign(runtime: Runtime, what: str) -> None:
    """Leave a sign."""
    for file in FILE:
        with file.open("a") as out:
            out.write(f"{runtime.name} {what}\n")


class SignsService(Service):
    """Leaves a sign when it starts and when it stops."""

    service_type = "signs"

    class Config(msgspec.Struct):
        """The table `[services.NAME.config]`."""

        word: str = "none"
        number: int = 1
        inner: dict[str, int] = {}

    config: Config

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        sign(runtime, "start")
        return service

    async def stop(self) -> None:
        sign(self.runtime, "stop")

    async def word(self) -> str:
        """Return a config value."""
        return self.config.word

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def generation(self) -> int:
        """Return the incarnation's number."""
        return self.runtime.generation


class ListenerService(Service):
    """Notes the events that come."""

    service_type = "listener"

    class Config(msgspec.Struct):
        """How it takes events."""

        fails: bool = False

    config: Config

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service.got = []
        runtime.register_event("news", service._first)
        runtime.register_event("news", service._second)
        return service

    async def _first(self, payload: dict[str, Any]) -> None:
        if self.config.fails:
            raise RuntimeError(f"{self.runtime.name} cannot take it")
        self.got.append(payload)

    def _second(self, payload: Any) -> None:
        self.got.append("second")

    async def got_so_far(self) -> list[Any]:
        """Return what came."""
        got: list[Any] = self.got
        return got

    async def emit(self, payload: dict[str, Any]) -> None:
        """Emit an event."""
        await self.runtime.emit_event("news", payload)


plugin = Plugin(name="signs", services=[SignsService, ListenerService], init=init, config=Config)
