"""A service whose work ends in silence."""

import asyncio
import os
import time
from typing import Any

from garrison.workers import Plugin, Service
from garrison.workers.process import loop_watch, task_watch

task_watch.RETRIEVE_S = 0.2  # the tests need not wait for seconds
loop_watch.BLOCKED_S = 0.3


class Corpse(Service):
    """Does what it is told, and then no more."""

    service_type = "corpse"

    def __init__(self, runtime: Any) -> None:
        super().__init__(runtime)
        self.kept: list[Any] = []
        self.stuck = True

    async def lose_a_task(self) -> None:
        """Keep a task that fails, and never await it."""
        self.kept.append(asyncio.create_task(_poll()))

    async def lose_a_timer(self) -> None:
        """Let others cancel background work."""
        self.every(60, self.ping).cancel()

    async def lose_the_essential(self) -> None:
        """Let essential work return."""
        self.spawn(self.ping(), "connection", essential=True)

    async def block(self, seconds: float) -> None:
        """Block the loop."""
        time.sleep(seconds)  # noqa: ASYNC251

    async def warn(self, key: str, text: str | None) -> None:
        """Warn."""
        self.runtime.warn(key, text)

    async def ping(self) -> str:
        """Answer."""
        return "pong"

    def hold(self) -> None:
        """Hold a thread."""
        while self.stuck:
            time.sleep(0.01)

    def quick(self) -> str:
        """Answer from a thread."""
        return "quick"

    async def release(self) -> None:
        """Let the threads go."""
        self.stuck = False


async def _poll() -> None:
    token = os.environ.get("CORPSE_TOKEN", "none")
    raise ValueError(f"poll ended with {token}")


plugin = Plugin(name="corpse", services=[Corpse])
