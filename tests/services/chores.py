"""Task workers whose runs are lines of the file DEEDS."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from garrison.workers import Plugin, Runtime, Service, Task, TaskWorker


def note(line: str) -> None:
    """Add a line."""
    with Path(os.environ["DEEDS"]).open("a") as file:
        file.write(f"{line}\n")


async def do(runtime: Runtime, options: dict[str, Any], task: Task) -> None:
    """Write a line, take some time, and end this process where that is wanted."""
    note(task.run_id)
    await asyncio.sleep(options.get("seconds", 0.0))
    if options.get("kills"):
        os.kill(os.getpid(), signal.SIGKILL)


class ChoresService(Service):
    """Creates tasks."""

    service_type = "chores"

    async def plan(self, ids: list[str], options: dict[str, Any]) -> None:
        """Create tasks that are due now."""
        database = self.runtime.database_adapter
        for one in ids:
            task = Task(name="CHORE", id=one, tags=["queue"], metadata=options)
            await database.create_task(task)


plugin = Plugin("chores", services=[ChoresService], task_workers=[TaskWorker("CHORE", do)])
