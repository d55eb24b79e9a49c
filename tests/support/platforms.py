"""A platform in the process of a test, whose author's methods a test scripts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from garrison.workers import Memory, Outgoing, Platform, Processed
from garrison.workers.testing import Harness

P = TypeVar("P", bound=Platform)


class Scripted(Platform):
    """Keeps what it is to deliver; `script` has what happens to each, "" for none: it is sent."""

    service_type = "radio"
    settle = 0.0
    deliver_timeout = 5.0

    def __init__(self, runtime: Any) -> None:
        super().__init__(runtime)
        self.tried: list[Outgoing] = []
        self.script: list[BaseException | Callable[[], Any]] = []

    async def deliver(self, m: Outgoing) -> str:
        """Do the next thing of the script."""
        self.tried.append(m)
        if self.script:
            happens = self.script.pop(0)
            if isinstance(happens, BaseException):
                raise happens
            await happens()
        return f"r{len(self.tried)}"


class Asked(Scripted):
    """One that can be asked; `there` has the ids that it knows, by those of parts."""

    def __init__(self, runtime: Any) -> None:
        super().__init__(runtime)
        self.there: dict[str, str] = {}
        self.asked: list[Outgoing] = []

    async def was_delivered(self, m: Outgoing) -> str | None:
        """Look it up."""
        self.asked.append(m)
        return self.there.get(m.id)


class Agent:
    """Keeps what it is to answer; `problem` is raised instead."""

    service_type = "agent"

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Memory] = asyncio.Queue()
        self.problem: Exception | None = None

    async def process_actions(self, memory: Memory, responses: list[Memory]) -> Processed:
        """Keep it."""
        if self.problem is not None:
            raise self.problem
        self.heard.put_nowait(memory)
        return Processed()


class Mailbox:
    """Keeps what is posted, after so many failures."""

    service_type = "mailbox"

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.posted: list[dict[str, Any]] = []

    async def post(self, request: dict[str, Any]) -> str:
        """Keep it."""
        if self.failures:
            self.failures -= 1
            raise OSError("no room")
        self.posted.append(request)
        return str(len(self.posted))


@contextlib.asynccontextmanager
async def started(
    cls: type[P], folder: Path, config: dict[str, Any] | None = None, **fakes: Any
) -> AsyncIterator[P]:
    """Run one incarnation of a platform on its data folder."""
    harness = Harness("radio", data_folder=folder)
    harness.add_fakes(fakes)
    try:
        yield await harness.start(cls, config or {})
    finally:
        await harness.close()
    harness.raise_failure()
