"""A service that blocks its loop, and counts what it runs in a file that outlives it."""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from garrison.ipc import CallError
from garrison.workers import Plugin, Service


class BusyService(Service):
    """Notes each run in the file of its setting RUNS."""

    service_type = "busy"

    async def note(self, key: str) -> str:
        """Note a run."""
        self._note(key)
        return key

    async def items(self, key: str) -> AsyncIterator[str]:
        """Note a run, and yield two items."""
        self._note(key)
        yield key
        yield key

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def block(self, seconds: float) -> None:
        """Block the loop."""
        time.sleep(seconds)  # noqa: ASYNC251

    async def block_then_call(self, name: str, until: str, calls: int) -> list[Any]:
        """Block the loop until a file is there; then call a service."""
        proxy = self.runtime.get_service(name)
        assert proxy is not None
        await proxy.note("before")
        _block_until(Path(until))
        calling = [proxy.note(f"call {number}") for number in range(calls)]
        return [await outcome(call) for call in calling]

    def _note(self, key: str) -> None:
        with Path(os.environ["RUNS"]).open("a") as file:
            file.write(f"{key}\n")


def _block_until(path: Path) -> None:
    path.with_suffix(".blocked").touch()
    while not path.exists():
        time.sleep(0.005)


async def outcome(call: Any) -> Any:
    """Return a call's result, or its error as text."""
    try:
        return await call
    except CallError as error:
        return f"{type(error).__name__}: {error.detail}"


plugin = Plugin(name="busy", services=[BusyService])
